"""`kanarya-ml batch`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kanarya_inference.training.guard import guarded

if TYPE_CHECKING:
    from kanarya_inference.batch.run import Checkpoint, Job
    from kanarya_inference.batch.source import Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="folder of the artefact")
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="CSV or Parquet")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="CSV or Parquet: row, kept columns, score, label")
    parser.add_argument("--bad", type=Path, metavar="FILE", help="bad rows with their reasons, as JSON lines (default: OUT.bad.jsonl)")
    parser.add_argument("--keep", action="append", default=[], metavar="COLUMN", help="copy a column to the output; can be repeated")
    parser.add_argument("--workers", type=int, default=2, help="threads that score (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def main(args: argparse.Namespace) -> int:
    """Score; 0 when the output is whole, also with bad rows."""

    def run_command() -> int:
        from kanarya_inference.batch.run import Job, run  # noqa: PLC0415

        if args.workers < 1:
            raise ValueError("--workers has to be at least 1")
        bad = args.bad or args.out.with_name(args.out.name + ".bad.jsonl")
        job = Job(args.model, args.data, args.out, bad, tuple(args.keep), args.workers)
        done = run(job) if args.quiet else _with_progress(job)
        sys.stdout.write(f"{args.out}: {done.rows - done.bad} rows scored, {done.bad} bad ones in {bad}\n")
        return 0

    return guarded("batch", run_command)


def _with_progress(job: Job) -> Checkpoint:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn  # noqa: PLC0415

    from kanarya_inference.batch.run import run  # noqa: PLC0415

    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[rows]:,} rows"),
        TextColumn("{task.fields[rate]:,.0f} rows/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("rows", total=None, rows=0, rate=0.0)
        before: list[int] = []

        def show(state: Checkpoint, source: Source) -> None:
            if not before:  # rows of an earlier run took no time of this one
                before.append(state.rows)
            elapsed = bar.tasks[0].elapsed or 0.0
            rate = (state.rows - before[0]) / elapsed if elapsed else 0.0
            bar.update(task, completed=state.position, total=max(source.size, 1), rows=state.rows, rate=rate)

        return run(job, show)
