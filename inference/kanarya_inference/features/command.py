"""`kanarya-ml features`: adds the market features to a table of quotes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kanarya_inference.training.guard import guarded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="CSV or Parquet, sorted by time")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the same rows with the six features added")
    for name in ("ts", "bid", "ask"):
        parser.add_argument(f"--{name}", default=name, metavar="NAME", help="column (default: %(default)s)")


def main(args: argparse.Namespace) -> int:
    """Derive; 0 when the table is written."""

    def run() -> int:
        from kanarya_inference.features.market_table import add_market_features  # noqa: PLC0415

        rows = add_market_features(args.data, args.out, args.ts, args.bid, args.ask)
        sys.stdout.write(f"{args.out}: {rows} rows\n")
        return 0

    return guarded("features", run)
