"""How many requests drift needs until it can be called Good, and how many a plan will have counted when it waits for that.

Of a candidate whose inputs do not drift at all, PSI/s is close to a chi-square with a degree of freedom less than bins, s = 1/n + 1/m for
n reference rows and m requests (`decision/statistics/psi.py`). With features independent, the sum over F of them has F times as many.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log
from typing import Any

from scipy.special import chdtri

from kanarya.api.rollout import RolloutSpec
from kanarya.cli.simulation.feasibility import MOST, SURE
from kanarya.decision.drift import GROWTH, SAMPLES_PER_BIN
from kanarya.decision.judge import Standard
from kanarya.decision.statistics.psi import bound

BINS, ALWAYS_EMPTY = 10, 1
"""Bins of a feature that anything falls in, and the one for missing values, in which nothing does."""
REFERENCE_ROWS = 10_000.0
FEATURES = 20
COARSE = 1.02
"""Requests are found to within 2 %."""


@dataclass(frozen=True)
class DriftNeed:
    """What drift needs.

    Attributes
    ----------
    features
        Features that are counted.
    weight
        The weight at whose end drift has to be Good.
    expected, needed
        Requests of the candidate that are expected until then, over the whole run, and those after which a candidate without drift is Good
        with a probability of `SURE`; None when not even `MOST` are enough.
    seconds
        Time in which the needed ones come; None when the plan has not that many.
    """

    features: int
    weight: int
    expected: float
    needed: int | None
    seconds: float | None

    @property
    def feasible(self) -> bool:
        """Whether the run does not wait for drift alone."""
        return self.seconds is not None

    def as_json(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {
            "features": self.features,
            "weight": self.weight,
            "expected": self.expected,
            "needed": self.needed,
            "neededSeconds": self.seconds,
            "feasible": self.feasible,
        }


def drift_need(spec: RolloutSpec, rps: float, features: int = FEATURES) -> DriftNeed | None:
    """Give what drift needs at `rps` requests a second of all clients together; None where it is only told, or not counted."""
    plan, drift = spec.plan, spec.analysis.drift
    if drift.action == "Report" or features < 1:
        return None
    stages = [(step.weight, step.duration_seconds) for step in plan.steps]
    held = next((index for index, step in enumerate(plan.steps[1:]) if step.weight > drift.max_weight), len(stages) - 1)
    if held == len(stages) - 1 and plan.soak_seconds:
        stages.append((plan.steps[-1].weight, plan.soak_seconds))
        held += 1
    needed = _needed(spec, features, last=held == len(stages) - 1)
    expected, passed, after = 0.0, 0.0, None
    for weight, seconds in stages[: held + 1]:
        share = 0.0 if spec.mode == "Observe" else weight / plan.weight_total
        rate = rps * (share + (1 - share) * spec.traffic.mirror_percent / 100)
        if needed is not None and after is None and rate and expected + rate * seconds >= needed:
            after = passed + (needed - expected) / rate
        expected, passed = expected + rate * seconds, passed + seconds
    return DriftNeed(features, stages[held][0], expected, needed, after)


def _needed(spec: RolloutSpec, features: int, *, last: bool) -> int | None:
    standard = Standard(spec.analysis, spec.plan, last)
    fewest = max(float(spec.analysis.min_samples), float(SAMPLES_PER_BIN * (BINS + ALWAYS_EMPTY)))
    requests = fewest
    while requests <= MOST:
        if _good(standard, requests, fewest, features):
            return round(requests)
        requests = max(requests * COARSE, requests + 1)
    return None


def _good(standard: Standard, requests: float, fewest: float, features: int) -> bool:
    """Whether so many requests without drift are Good: by the mean PSI, and by the worst feature's, each with half of what may fail."""
    limits, alphas, half = standard.analysis.drift, standard.drift_alphas, (1 - SURE) / 2
    scale, freedom = 1 / REFERENCE_ROWS + 1 / requests, BINS - 1
    mean = scale * float(chdtri(features * freedom, half)) / features
    worst = scale * float(chdtri(freedom, 1 - (1 - half) ** (1 / features)))
    if alphas is None:
        return mean <= limits.overall and worst <= limits.per_feature
    number = 1 + floor(log(requests / fewest) / log(GROWTH))
    share = alphas.good / (number * (number + 1))

    def upper(psi: float, tail: float) -> float:
        return bound(psi, reference=REFERENCE_ROWS, current=requests, bins=BINS, tail=tail)

    return upper(mean, share / features) < limits.overall and upper(worst, share) < limits.per_feature
