"""Population stability index (PSI) over bin counts.

PSI = sum over bins of (p - q) ln(p / q), with q the reference's share of the bin and p the current one (natural logarithm). Every bin
of both sides gets +1/2 before shares are taken, so that an empty bin is finite and the same everywhere. PSI is Jeffreys' divergence:
symmetric for fixed bins, never negative, and additive over bins, so each bin's term says what moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

from kanarya.api.rollout import DriftLimits
from kanarya.decision.counts import Drift
from kanarya.decision.verdict import Kind, Verdict, eta_of

SAMPLES_PER_BIN = 10
"""PSI of a sample with fewer expected counts in a bin is mostly noise."""


def psi_terms(reference: Sequence[float], current: Sequence[float]) -> list[float]:
    """Give each bin's term of the PSI.

    Parameters
    ----------
    reference, current
        Counts per bin, the same bins in the same order, at least two.

    Raises
    ------
    ValueError
        When the bins differ in number, or there are fewer than two.
    """
    if len(reference) != len(current) or len(reference) < 2:
        raise ValueError(f"PSI needs the same bins on both sides, at least two: {len(reference)} and {len(current)}")
    half = 0.5
    total_reference, total_current = sum(reference) + half * len(reference), sum(current) + half * len(current)
    shares = [((r + half) / total_reference, (c + half) / total_current) for r, c in zip(reference, current, strict=True)]
    return [(p - q) * log(p / q) for q, p in shares]


def psi(reference: Sequence[float], current: Sequence[float]) -> float:
    """Give the PSI of two rows of bin counts; see `psi_terms`."""
    return sum(psi_terms(reference, current))


def judge_drift(limits: DriftLimits, drift: Drift, *, min_samples: float, elapsed: float) -> Verdict:
    """Judge drift by the point value of the PSI of each feature and of their mean."""
    scores: dict[str, float] = {}
    have, need = float("inf"), float(min_samples)
    for feature, reference in sorted(drift.reference.items()):
        current = drift.current.get(feature) or (0.0,) * len(reference)
        if len(current) != len(reference):
            return Verdict(Kind.NO_DATA, "NoReference", detail=f"the bins of {feature} and of its reference differ")
        scores[feature] = psi(reference, current)
        have, need = min(have, sum(current)), max(need, float(SAMPLES_PER_BIN * len(reference)))
    if not scores:
        return Verdict(Kind.NO_DATA, "NoReference", detail="the candidate exposes no training reference")
    overall = sum(scores.values()) / len(scores)
    worst = max(scores, key=lambda feature: scores[feature])
    detail = f"mean {overall:.3f}, worst {worst} {scores[worst]:.3f}"
    if have < need:
        eta = eta_of(have, need, elapsed)
        return Verdict(Kind.INSUFFICIENT, "TooFewSamples", overall, limits.overall, limits.per_feature, have, need, eta, detail)
    if scores[worst] > limits.per_feature or overall > limits.overall:
        moved = _moved(drift.reference, drift.current, worst)
        return Verdict(Kind.BAD, "DriftAboveLimit", overall, limits.overall, limits.per_feature, have, need, detail=f"{detail}; {moved}")
    return Verdict(Kind.GOOD, "DriftWithinLimit", overall, limits.overall, limits.per_feature, have, need, detail=detail)


def _moved(reference: Mapping[str, Sequence[float]], current: Mapping[str, Sequence[float]], feature: str) -> str:
    ours = current.get(feature) or (0.0,) * len(reference[feature])
    terms = psi_terms(reference[feature], ours)
    index = max(range(len(terms)), key=lambda i: terms[i])
    name = "missing" if index == len(terms) - 1 else f"bin {index}"
    now, before = ours[index] / max(sum(ours), 1.0), reference[feature][index] / max(sum(reference[feature]), 1.0)
    return f"{feature} {name} has {now:.0%} instead of {before:.0%}"
