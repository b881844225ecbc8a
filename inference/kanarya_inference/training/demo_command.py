"""`kanarya-ml demo-data`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kanarya_inference.training.guard import guarded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for train, golden, schema.json and best.json")
    parser.add_argument("--rows", type=int, default=40_000, help="of both tables together (default: %(default)s)")
    parser.add_argument("--days", type=int, default=1_500, help="that the rows are spread over (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--form", choices=("csv", "parquet"), default="csv", help="default: %(default)s")


def main(args: argparse.Namespace) -> int:
    """Write the tables; 0 when they are there."""

    def run() -> int:
        from kanarya_inference.training.demo_data import write_demo  # noqa: PLC0415

        best = write_demo(args.out, rows=args.rows, seed=args.seed, days=args.days, form=args.form)
        golden = best["golden"]
        sys.stdout.write(
            f"{args.out}: {args.rows} rows; best possible on the golden set: AUC {golden['auc']:.3f}, P@20 {golden['precisionAt20']:.3f}, "
            f"R@20 {golden['recallAt20']:.3f}, Brier {golden['brier']:.3f}\n"
        )
        return 0

    return guarded("demo-data", run)
