"""`kanarya-ml train`. Imports the training libraries only when it runs, to say in one sentence when they are missing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

LIBRARIES = ("numpy", "onnx", "onnxruntime", "skl2onnx", "sklearn", "threadpoolctl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the artefact")
    parser.add_argument("--version", required=True, help="version of the model, for example v1.8.0")
    parser.add_argument("--rows", type=int, default=20_000, help="rows of training data (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="the same seed gives the same bytes (default: %(default)s)")
    parser.add_argument(
        "--kind",
        choices=("good", "disagreeing", "drifted"),
        default="good",
        help="disagreeing: scores differ from a good model's; drifted: trained on data that live traffic has left (default: %(default)s)",
    )


def main(args: argparse.Namespace) -> int:
    """Train; 0 when the artefact is written."""
    try:
        from kanarya_inference.registry import ArtefactError  # noqa: PLC0415
        from kanarya_inference.training.train import TrainingError, summary, train  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in LIBRARIES:
            raise
        sys.stderr.write(f"kanarya-ml train needs {error.name}, which the training extra brings: pip install 'kanarya[training]'\n")
        return 2
    try:
        metadata = train(args.out, version=args.version, rows=args.rows, seed=args.seed, kind=args.kind)
    except (ArtefactError, TrainingError, OSError, ValueError) as error:
        sys.stderr.write(f"kanarya-ml train: {error}\n")
        return 1
    sys.stdout.write(summary(metadata, args.out) + "\n")
    return 0
