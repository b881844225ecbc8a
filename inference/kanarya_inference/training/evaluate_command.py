"""`kanarya-ml evaluate`: 0 for PASS, 1 for FAIL, 2 when it cannot be evaluated."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kanarya_inference.training.guard import UNUSABLE, guarded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--artefact", type=Path, required=True, metavar="DIR", help="of the candidate")
    parser.add_argument("--golden", type=Path, required=True, metavar="FILE", help="CSV or Parquet, with its sum in FILE.sha256")
    parser.add_argument("--golden-sha256", metavar="SUM", help="expected sum, in place of the file beside the golden set")
    parser.add_argument("--label", default="label", help="column of the labels, 0 or 1 (default: %(default)s)")
    parser.add_argument("--min-rows", type=int, default=1_000, help="of the golden set (default: %(default)s)")
    parser.add_argument("--baseline", type=Path, metavar="DIR", help="artefact to compare with, on the same rows")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="for offline_report.json, eval_result.txt, offline_report.html"
    )
    parser.add_argument("--seed", type=int, default=7, help="of the bootstrap (default: %(default)s)")
    gates = parser.add_argument_group("gates")
    gates.add_argument("--min-auc", type=float, default=0.62, help="default: %(default)s")
    gates.add_argument("--min-precision-at-20", type=float, default=0.58, help="default: %(default)s")
    gates.add_argument(
        "--min-recall-at-20", type=float, default=0.40, help="at most 0.2 / prevalence can be reached (default: %(default)s)"
    )
    gates.add_argument("--max-brier", type=float, default=0.25, help="default: %(default)s")
    walk = parser.add_argument_group("walking forward in time")
    walk.add_argument(
        "--history", type=Path, metavar="FILE", help="labelled table with times: the model's family is trained anew at each step"
    )
    walk.add_argument("--time-column", metavar="NAME", help="seconds")
    walk.add_argument("--walk-steps", type=int, default=36, help="default: %(default)s")
    walk.add_argument("--train-days", type=int, default=365, help="default: %(default)s")
    walk.add_argument("--test-days", type=int, default=30, help="default: %(default)s")


def main(args: argparse.Namespace) -> int:
    """Evaluate and write the reports."""
    return guarded("evaluate", lambda: _run(args), failed=UNUSABLE)


def _run(args: argparse.Namespace) -> int:
    from kanarya_inference.training.evaluation import NAMES, Gates  # noqa: PLC0415
    from kanarya_inference.training.report import evaluate, write_report  # noqa: PLC0415
    from kanarya_inference.training.walk_forward import Walk  # noqa: PLC0415

    report, plots = evaluate(
        args.artefact,
        args.golden,
        label=args.label,
        golden_sha256=args.golden_sha256,
        min_rows=args.min_rows,
        gates=Gates(args.min_auc, args.min_precision_at_20, args.min_recall_at_20, args.max_brier),
        baseline=args.baseline,
        history=args.history,
        time_column=args.time_column,
        walk=Walk(args.walk_steps, args.train_days, args.test_days),
        seed=args.seed,
    )
    write_report(report, plots, args.out)
    found = ", ".join(f"{NAMES[name]} {value:.3f}" for name, value in report["measures"].items())
    sys.stdout.write(f"{report['verdict']} {report['version']}: {found}\n" + "".join(f"  {reason}\n" for reason in report["reasons"]))
    return 0 if report["verdict"] == "PASS" else 1
