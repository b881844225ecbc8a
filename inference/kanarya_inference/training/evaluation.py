"""Judges a model on the golden set: measures against gates, and against a baseline. Pure but for the scoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from kanarya_inference.training.scores import TOP_SHARE, measures, top_rows

RESAMPLES = 2000
RESAMPLES_AT_ONCE = 250
CONFIDENCE = 0.95
HIGHER_IS_BETTER = {"auc": True, "precisionAt20": True, "recallAt20": True, "brier": False}
NAMES = {"auc": "AUC", "precisionAt20": "precision at 20 %", "recallAt20": "recall at 20 %", "brier": "Brier score"}


@dataclass(frozen=True)
class Gates:
    """Limits that a model has to keep: the first three are least values, Brier has to be below its limit."""

    auc: float = 0.62
    precision_at_20: float = 0.58
    recall_at_20: float = 0.40
    brier: float = 0.25

    def as_json(self) -> dict[str, float]:
        """Give the limits by the names of the measures."""
        return {"auc": self.auc, "precisionAt20": self.precision_at_20, "recallAt20": self.recall_at_20, "brier": self.brier}


@dataclass(frozen=True)
class Judgement:
    """What the golden set says of a model; it passes when there is no reason against it."""

    measures: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    reasons: tuple[str, ...]
    comparison: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the model."""
        return not self.reasons


def judge(labels: NDArray[Any], scores: NDArray[Any], gates: Gates, *, seed: int) -> Judgement:
    """Compare a model's measures with the gates."""
    found = {name: float(value) for name, value in measures(labels, scores).items()}
    reasons = []
    for name, limit in gates.as_json().items():
        value = found[name]
        kept = value >= limit if HIGHER_IS_BETTER[name] else value < limit
        if not kept:
            sign = "at least" if HIGHER_IS_BETTER[name] else "below"
            reasons.append(f"{NAMES[name]} is {value:.4f}, has to be {sign} {limit:g}{_unreachable(name, limit, labels)}")
    return Judgement(found, bootstrap(labels, [scores], seed)[0], tuple(reasons))


def _unreachable(name: str, limit: float, labels: NDArray[Any]) -> str:
    """Explain a gate that no model can pass on this golden set, because of how many of its rows are positive."""
    positives, top = int(labels.sum()), top_rows(len(labels), TOP_SHARE)
    bounds = {"recallAt20": top / max(positives, 1), "precisionAt20": positives / top}
    bound = bounds.get(name, 1.0)
    if bound >= limit:
        return ""
    why = {
        "recallAt20": f"{positives} of {len(labels)} rows are positive and only {top} are in the top 20 %",
        "precisionAt20": f"only {positives} of {len(labels)} rows are positive, and {top} are in the top 20 %",
    }[name]
    advice = "lower the gate, or take a golden set of another prevalence"
    return f"; no model can reach that here: {why}, so that {bound:.4f} is the most; {advice}"


def compare(labels: NDArray[Any], scores: NDArray[Any], baseline: NDArray[Any], thresholds: tuple[float, float], seed: int) -> Judgement:
    """Compare a candidate with a baseline on the same rows.

    Reasons against the candidate: its AUC is shown to be lower (the whole bootstrap interval of the difference is below 0), or
    McNemar's test shows that it labels more rows wrongly.
    """
    one, other = measures(labels, scores), measures(labels, baseline)
    difference = {name: float(one[name] - other[name]) for name in one}
    intervals = bootstrap(labels, [scores, baseline], seed)[-1]
    mcnemar = mcnemar_test(labels, scores >= thresholds[0], baseline >= thresholds[1])
    reasons = []
    if intervals["auc"][1] < 0:
        reasons.append(f"AUC is lower than the baseline's: difference {difference['auc']:.4f}, {_interval(intervals['auc'])}")
    if mcnemar["pValue"] < 1 - CONFIDENCE and mcnemar["onlyBaselineRight"] > mcnemar["onlyCandidateRight"]:
        reasons.append(
            f"labels are wrong more often than the baseline's: {mcnemar['onlyBaselineRight']} rows only the baseline has right, "
            f"{mcnemar['onlyCandidateRight']} only the candidate (McNemar's test, p = {mcnemar['pValue']:.4g})"
        )
    return Judgement(difference, intervals, tuple(reasons), mcnemar)


def _interval(bounds: tuple[float, float]) -> str:
    return f"{CONFIDENCE:.0%} interval {bounds[0]:.4f} to {bounds[1]:.4f}"


def mcnemar_test(labels: NDArray[Any], candidate: NDArray[Any], baseline: NDArray[Any]) -> dict[str, Any]:
    """Test whether two classifiers err equally often on the same rows (McNemar 1947), exactly.

    Given the rows that just one of them has right, each is as likely to be it: two-sided binomial test with 1/2.
    """
    right, baseline_right = candidate == labels, baseline == labels
    gained, lost = int((right & ~baseline_right).sum()), int((~right & baseline_right).sum())
    p_value = float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0
    return {"onlyCandidateRight": gained, "onlyBaselineRight": lost, "pValue": p_value}


def bootstrap(labels: NDArray[Any], models: list[NDArray[Any]], seed: int) -> list[dict[str, tuple[float, float]]]:
    """Return percentile intervals (Efron 1979) of the measures of each model; of two models, also of their difference, last.

    Rows are drawn with replacement, the same rows for both models. Draws with one label only are left out.
    """
    rng = np.random.default_rng(seed)
    drawn: list[list[dict[str, NDArray[np.float64]]]] = []
    for _ in range(0, RESAMPLES, RESAMPLES_AT_ONCE):
        rows = rng.integers(0, len(labels), (RESAMPLES_AT_ONCE, len(labels)))
        found = [measures(labels[rows], scores[rows]) for scores in models]
        if len(found) == 2:
            found.append({name: found[0][name] - found[1][name] for name in found[0]})
        drawn.append(found)
    return [
        {name: _percentiles(np.concatenate([found[index][name] for found in drawn])) for name in drawn[0][index]}
        for index in range(len(drawn[0]))
    ]


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return (float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
