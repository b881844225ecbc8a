"""How many requests a plan needs, and how many it will see. Exact: binomial counts, and the decision's own verdict on each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from scipy.special import bdtr

from kanarya.api.rollout import RolloutSpec
from kanarya.decision.counts import Attempts, Counts, Drift
from kanarya.decision.judge import Standard, judge, limits_of
from kanarya.decision.statistics.dispersion import ASSUMED_ICC, HIGHEST, LOWEST, Dispersion, design_effect
from kanarya.decision.statistics.windows import Ring
from kanarya.decision.streams import Basis, is_last
from kanarya.decision.verdict import Kind, Metric

RATES: tuple[Metric, ...] = ("errors", "latency", "match")
HEALTHY = 0.5
"""A healthy candidate has half the bad events that its slo allows."""
SURE = 0.95
MOST = 10_000_000
"""Requests beyond which a step needs "too many"."""


@dataclass(frozen=True)
class Need:
    """What a metric needs in a step.

    Attributes
    ----------
    expected, needed
        Requests (for match: comparisons) that the step is expected to see, and those after which a healthy candidate is Good
        with a probability of `SURE`; None when not even `MOST` are enough.
    seconds
        Time in which the needed ones come; None without traffic.
    chance
        Probability that a healthy candidate is Good when the step's time is over.
    """

    step: int
    weight: int
    metric: Metric
    expected: float
    needed: int | None
    seconds: float | None
    chance: float

    @property
    def feasible(self) -> bool:
        """Whether a healthy candidate passes the step in its time with a probability of at least `SURE`."""
        return self.chance >= SURE

    def as_json(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {
            "step": self.step,
            "weight": self.weight,
            "metric": self.metric,
            "expected": self.expected,
            "needed": self.needed,
            "neededSeconds": self.seconds,
            "chanceOfGood": self.chance,
            "feasible": self.feasible,
        }


def needs(spec: RolloutSpec, rps: float) -> list[Need]:
    """Give what each metric needs in each step, at `rps` requests a second of all clients together."""
    found: list[Need] = []
    plan = spec.plan
    stages = [("Stepping", step.weight, step.duration_seconds) for step in plan.steps]
    if plan.soak_seconds:
        stages.append(("Soaking", plan.steps[-1].weight, plan.soak_seconds))
    for index, (stage, weight, seconds) in enumerate(stages):
        standard = Standard(spec.analysis, plan, is_last(plan, stage, min(index, len(plan.steps) - 1)))
        for metric in RATES:
            rate = _rate(spec, rps, weight, metric)
            good = _Good(standard, metric, rate * spec.analysis.interval_seconds)
            # Requests arrive by chance: nearly always there are at least so many.
            expected = rate * seconds
            needed = good.needed()
            found.append(
                Need(
                    index,
                    weight,
                    metric,
                    expected,
                    needed,
                    needed / rate if needed is not None and rate else None,
                    good.chance(int(expected)),
                )
            )
    return found


def _rate(spec: RolloutSpec, rps: float, weight: int, metric: Metric) -> float:
    """Give the candidate's requests a second, copies included; for match, comparisons."""
    mirrored = spec.traffic.mirror_percent / 100
    share = 0.0 if spec.mode == "Observe" else weight / spec.plan.weight_total
    return rps * (mirrored if metric == "match" else share + (1 - share) * mirrored)


def burst_correlation(spec: RolloutSpec, rps: float) -> float:
    """Give the correlation of bad events within a look up to which counts are divided by enough: 0.1, less where looks are dense."""
    densest = max(_rate(spec, rps, step.weight, "errors") for step in spec.plan.steps) * spec.analysis.interval_seconds
    return min(ASSUMED_ICC, (HIGHEST - LOWEST) / max(densest - 1, LOWEST))


@dataclass(frozen=True)
class _Good:
    """When a healthy rate is Good."""

    standard: Standard
    metric: Metric
    per_look: float

    @property
    def healthy(self) -> float:
        return HEALTHY * limits_of(self.standard.analysis)[self.metric].slo

    def chance(self, total: int) -> float:
        """Give the probability that so many requests of a healthy candidate are Good.

        The fewer are bad, the better: it is Good up to some number of bad ones, and that number is found by the judge itself.
        """
        if total <= 0 or not self._is_good(0, total):
            return 0.0
        low, high = 0, total
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._is_good(middle, total) else (low, middle)
        return float(bdtr(low, total, self.healthy))

    def needed(self) -> int | None:
        """Give the fewest requests with which a healthy candidate is Good with a probability of `SURE`, to within 2 %."""
        high = 16
        while self.chance(high) < SURE:
            high *= 2
            if high > MOST:
                return None
        low = high // 2
        while high - low > max(1, high // 50):
            middle = (low + high) // 2
            low, high = (low, middle) if self.chance(middle) >= SURE else (middle, high)
        return high

    def _is_good(self, bad: int, total: int) -> bool:
        analysis = self.standard.analysis
        slower = dict.fromkeys((str(analysis.latency.slo_milliseconds), str(analysis.latency.abort_milliseconds)), float(bad))
        attempts = Attempts(float(total), float(bad), slower)
        counts = Counts(candidate_mirror=attempts, attempted=float(total), compared=float(total), mismatched=float(bad))
        looks = total / self.per_look if self.per_look > 0 else 1.0
        # Stable is taken to be without bursts: what is assumed of them fades with the looks that show none.
        basis = Basis(Ring(), design_effect(Dispersion(scrapes=looks), self.per_look))
        bases = {f"{metric}/pool": basis for metric in RATES}
        judged = judge(
            self.standard,
            replace(counts, stable=replace(attempts, errors=0.0, slower={})),
            Drift(),
            {},
            elapsed=1.0,
            run_elapsed=1.0,
            settled=False,
            bases=bases,
        )
        return judged.verdicts[self.metric].kind is Kind.GOOD
