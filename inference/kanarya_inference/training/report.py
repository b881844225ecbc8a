"""The offline report: one document, its short form for pipelines, and a page for people."""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanarya_inference.registry import Artefact, load_verified, onnx_scorer
from kanarya_inference.registry.artefact import SKOPS
from kanarya_inference.registry.offline import REPORT
from kanarya_inference.training.convert import read_skops
from kanarya_inference.training.errors import TrainingError
from kanarya_inference.training.evaluation import CONFIDENCE, RESAMPLES, Gates, Judgement, compare, judge
from kanarya_inference.training.golden import checked_sum
from kanarya_inference.training.scores import calibration
from kanarya_inference.training.tabular import Labelled, read_labelled
from kanarya_inference.training.walk_forward import Walk, walk_forward

REPORT_VERSION = 1
RESULT, PAGE = "eval_result.txt", "offline_report.html"
LIBRARIES = ("numpy", "onnxruntime", "scikit-learn", "scipy")


def score_golden(folder: Path, golden: Path, label: str) -> tuple[Artefact, Labelled, NDArray[np.float64]]:
    """Load a verified artefact and score the golden set with its ONNX model, which is what will be served."""
    artefact = load_verified(folder)
    rows = read_labelled(golden, artefact.schema, label)
    scores: NDArray[np.float64] = np.asarray(onnx_scorer(artefact)(rows.matrix(artefact.reference)), dtype=np.float64)
    return artefact, rows, scores


def evaluate(
    folder: Path,
    golden: Path,
    *,
    label: str,
    golden_sha256: str | None = None,
    min_rows: int = 1000,
    gates: Gates | None = None,
    baseline: Path | None = None,
    history: Path | None = None,
    time_column: str | None = None,
    walk: Walk | None = None,
    seed: int = 7,
) -> tuple[dict[str, Any], Mapping[str, NDArray[Any]]]:
    """Evaluate an artefact; returns the report, and labels and scores for the plots.

    Raises `TrainingError`, `TableError`, `ArtefactError` when it cannot be evaluated, which is neither a pass nor a failure.
    """
    gates = gates or Gates()
    golden_sum = checked_sum(golden, golden_sha256)
    artefact, rows, scores = score_golden(folder, golden, label)
    _check_golden(artefact, golden_sum, rows, min_rows)
    judged = judge(rows.labels, scores, gates, seed=seed)
    reasons = list(judged.reasons)
    report: dict[str, Any] = {
        "schemaVersion": REPORT_VERSION,
        "version": artefact.version,
        "modelSha256": artefact.model_sha256,
        "golden": {"sha256": golden_sum, "rows": len(rows), "prevalence": round(float(rows.labels.mean()), 6)},
        "measures": _rounded(judged.measures),
        "intervals": {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": seed, **_rounded_pairs(judged.intervals)},
        "gates": gates.as_json(),
        "calibration": calibration(rows.labels, scores),
        "skopsDifference": _skops_difference(folder, artefact, rows, scores),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }
    plots: dict[str, NDArray[Any]] = {"labels": rows.labels, "scores": scores}
    if baseline is not None:
        other, _, other_scores = score_golden(baseline, golden, label)
        thresholds = (artefact.decision_threshold, other.decision_threshold)
        compared = compare(rows.labels, scores, other_scores, thresholds, seed)
        reasons += compared.reasons
        report["baseline"] = {"version": other.version, "modelSha256": other.model_sha256, **_comparison(compared)}
        plots["baseline"] = other_scores
    if history is not None:
        labelled = read_labelled(history, artefact.schema, label, time_column)
        family, parameters = str(artefact.metadata.get("kind")), artefact.metadata.get("parameters") or {}
        steps = walk_forward(labelled, walk or Walk(), family=family, seed=seed, parameters=parameters)
        report["walkForward"] = {
            **vars(walk or Walk()),
            "results": steps,
            "medianAuc": round(float(np.median([s["auc"] for s in steps])), 6),
        }
    report["verdict"], report["reasons"] = ("FAIL" if reasons else "PASS"), reasons
    return report, plots


def write_report(report: Mapping[str, Any], plots: Mapping[str, NDArray[Any]], folder: Path) -> None:
    """Write the document, the verdict in words, and the page."""
    from kanarya_inference.training.page import page  # noqa: PLC0415 -- matplotlib is slow to import

    folder.mkdir(parents=True, exist_ok=True)
    (folder / PAGE).write_text(page(report, plots))
    (folder / REPORT).write_text(json.dumps(report, indent=1, sort_keys=True, allow_nan=False) + "\n")
    (folder / RESULT).write_text("\n".join([report["verdict"], *report["reasons"]]) + "\n")


def _check_golden(artefact: Artefact, golden_sum: str, rows: Labelled, min_rows: int) -> None:
    trained_on = artefact.metadata.get("data")
    if isinstance(trained_on, Mapping) and trained_on.get("sha256") == golden_sum:
        raise TrainingError(f"model {artefact.version} was trained on this very golden set: its figures would mean nothing")
    if len(rows) < min_rows:
        raise TrainingError(f"the golden set has {len(rows)} rows, {min_rows} are needed (--min-rows)")
    if not 0 < rows.labels.sum() < len(rows):
        raise TrainingError(f"{int(rows.labels.sum())} of {len(rows)} golden rows are positive: both labels are needed")


def _skops_difference(folder: Path, artefact: Artefact, rows: Labelled, scores: NDArray[np.float64]) -> float | None:
    """Return the largest difference between the trained pipeline's scores and the ONNX model's; None without a pipeline."""
    if SKOPS not in artefact.metadata["sha256"]:
        return None
    pipeline = read_skops(folder / SKOPS)
    return float(np.abs(pipeline.predict_proba(rows.matrix(artefact.reference))[:, 1] - scores).max())


def _comparison(compared: Judgement) -> dict[str, Any]:
    return {
        "difference": _rounded(compared.measures),
        "differenceIntervals": _rounded_pairs(compared.intervals),
        "mcnemar": dict(compared.comparison),
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}


def _rounded_pairs(values: Mapping[str, tuple[float, float]]) -> dict[str, list[float] | None]:
    return {name: None if math.isnan(low) else [round(low, 6), round(high, 6)] for name, (low, high) in values.items()}
