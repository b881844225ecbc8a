"""`kanarya-ml golden`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kanarya_inference.training.guard import guarded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="CSV or Parquet with labels")
    parser.add_argument("--golden", type=Path, required=True, metavar="FILE", help="where the golden set goes; its sum goes beside it")
    parser.add_argument("--rest", type=Path, required=True, metavar="FILE", help="where the other rows go: train on these")
    parser.add_argument("--rows", type=int, default=1_000, help="of the golden set (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--time-column", metavar="NAME", help="take the latest rows by this column instead of drawing them")


def main(args: argparse.Namespace) -> int:
    """Split; 0 when both files are written."""

    def run() -> int:
        from kanarya_inference.training.golden import split  # noqa: PLC0415

        found = split(args.data, args.golden, args.rest, rows=args.rows, seed=args.seed, time_column=args.time_column)
        sys.stdout.write(f"{args.golden}: {args.rows} rows, sha256 {found}\n")
        return 0

    return guarded("golden", run)
