"""`kanarya-ml train`. Imports the training libraries only when it runs, to say in one sentence when they are missing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kanarya_inference.training.guard import guarded

FAMILIES = ("logistic", "boosting", "forest", "extra-trees", "hist-boosting")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the artefact")
    parser.add_argument("--version", required=True, help="version of the model, for example v1.8.0")
    parser.add_argument("--seed", type=int, default=7, help="the same seed gives the same bytes (default: %(default)s)")
    table = parser.add_argument_group("from a table")
    table.add_argument("--data", type=Path, metavar="FILE", help="CSV or Parquet with the schema's columns and the labels")
    table.add_argument("--schema", type=Path, metavar="FILE", help="JSON or YAML: the columns, their types and rules")
    table.add_argument("--label", default="label", help="column of the labels, 0 or 1 (default: %(default)s)")
    table.add_argument("--model", choices=FAMILIES, default="logistic", help="default: %(default)s")
    table.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the classifier, for example max_depth=4"
    )
    table.add_argument("--folds", type=int, default=5, help="of the cross-validation (default: %(default)s)")
    table.add_argument("--time-column", metavar="NAME", help="seconds; folds are then tested on rows later than those they learn from")
    table.add_argument("--threshold", type=float, default=0.5, help="score from which the label is 1 (default: %(default)s)")
    demo = parser.add_argument_group("a demonstration model, from generated snapshots (without --data)")
    demo.add_argument("--rows", type=int, default=20_000, help="rows of training data (default: %(default)s)")
    demo.add_argument(
        "--kind",
        choices=("good", "disagreeing", "drifted"),
        default="good",
        help="disagreeing: scores differ from a good model's; drifted: trained on data that live traffic has left (default: %(default)s)",
    )


def main(args: argparse.Namespace) -> int:
    """Train; 0 when the artefact is written."""
    if (args.data is None) != (args.schema is None):
        sys.stderr.write("kanarya-ml train: --data and --schema belong together\n")
        return 2
    return guarded("train", lambda: _demo(args) if args.data is None else _table(args))


def _demo(args: argparse.Namespace) -> int:
    from kanarya_inference.training.train import summary, train  # noqa: PLC0415

    metadata = train(args.out, version=args.version, rows=args.rows, seed=args.seed, kind=args.kind)
    sys.stdout.write(summary(metadata, args.out) + "\n")
    return 0


def _table(args: argparse.Namespace) -> int:
    from kanarya_inference.features import read_schema_file  # noqa: PLC0415
    from kanarya_inference.training.pipelines import parameters_of  # noqa: PLC0415
    from kanarya_inference.training.tabular import Recipe, summary, train_table  # noqa: PLC0415

    recipe = Recipe(
        version=args.version,
        label=args.label,
        family=args.model,
        parameters=parameters_of(args.set),
        seed=args.seed,
        folds=args.folds,
        time_column=args.time_column,
        threshold=args.threshold,
    )
    metadata = train_table(args.data, read_schema_file(args.schema), args.out, recipe)
    sys.stdout.write(summary(metadata, args.out) + "\n")
    return 0
