"""Measures of a model's quality: pure functions of labels and scores, vectorised over resamples.

Scores and labels may have leading dimensions (resamples x rows); every measure is taken over the last one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]
TOP_SHARE = 0.2
CALIBRATION_BINS = 10


def auc(labels: NDArray[Any], scores: NDArray[Any]) -> Floats:
    """Return the area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    By ranks (Mann and Whitney 1947): (R - p (p + 1) / 2) / (p q), R the rank sum of the p positives, q the negatives. NaN with
    one label only.
    """
    positives = labels.sum(axis=-1, dtype=np.float64)
    pairs = positives * (labels.shape[-1] - positives)
    ranks = np.where(labels == 1, rankdata(scores, axis=-1), 0.0).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (ranks - positives * (positives + 1) / 2) / pairs
    return found


def top_hits(labels: NDArray[Any], scores: NDArray[Any], share: float = TOP_SHARE) -> tuple[Floats, int]:
    """Return the positives among the highest-scored share of the rows, and how many rows that is; of equal scores the earlier counts."""
    size = top_rows(labels.shape[-1], share)
    order = np.argsort(-scores, axis=-1, kind="stable")[..., :size]
    hits: Floats = np.take_along_axis(labels, order, axis=-1).sum(axis=-1, dtype=np.float64)
    return hits, size


def top_rows(rows: int, share: float = TOP_SHARE) -> int:
    """Return how many rows the highest-scored share is, at least one."""
    return max(1, round(share * rows))


def brier(labels: NDArray[Any], scores: NDArray[Any]) -> Floats:
    """Return the mean squared difference of score and label (Brier 1950)."""
    found: Floats = ((scores - labels) ** 2).mean(axis=-1)
    return found


def log_loss(labels: NDArray[Any], scores: NDArray[Any]) -> Floats:
    """Return the mean negative log likelihood; scores are kept 1e-12 away from 0 and 1."""
    kept = np.clip(scores, 1e-12, 1 - 1e-12)
    found: Floats = -np.where(labels == 1, np.log(kept), np.log1p(-kept)).mean(axis=-1)
    return found


def measures(labels: NDArray[Any], scores: NDArray[Any]) -> dict[str, Floats]:
    """Return every measure that has a gate."""
    hits, size = top_hits(labels, scores)
    positives = labels.sum(axis=-1, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / positives
    return {"auc": auc(labels, scores), "precisionAt20": hits / size, "recallAt20": recall, "brier": brier(labels, scores)}


def quality(labels: NDArray[Any], scores: NDArray[Any]) -> dict[str, float]:
    """Return the measures of one set of scores, log loss too."""
    found = {name: float(value) for name, value in measures(labels, scores).items()}
    return {**found, "logLoss": float(log_loss(labels, scores))}


def calibration(labels: NDArray[Any], scores: NDArray[Any]) -> dict[str, Any]:
    """Compare mean score and share of positives in ten groups of equal size by score.

    `expectedCalibrationError` is the mean absolute difference of the two, weighted by the groups' rows (Naeini et al. 2015).
    """
    groups = [rows for rows in np.array_split(np.argsort(scores, kind="stable"), CALIBRATION_BINS) if len(rows)]
    bins = [
        {"rows": len(rows), "meanScore": round(float(scores[rows].mean()), 6), "positives": round(float(labels[rows].mean()), 6)}
        for rows in groups
    ]
    error = sum(one["rows"] * abs(one["meanScore"] - one["positives"]) for one in bins) / len(labels)
    return {"bins": bins, "expectedCalibrationError": round(float(error), 6)}
