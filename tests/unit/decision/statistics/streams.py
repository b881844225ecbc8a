"""Runs of a plan played quickly on random requests: only counts, rings and verdicts, no objects and no clock.

A look is one scrape. With an intra-scrape correlation (ICC) above 0 each scrape of each track draws its own rate from a Beta distribution
around the true one, so that bad events come in bursts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from kanarya.decision.sequential import Alphas, Judgement, Limits, Stream, alphas, judge_rate
from kanarya.decision.statistics.dispersion import Dispersion, design_effect
from kanarya.decision.statistics.windows import Ring, Tally
from kanarya.decision.verdict import Kind

Metric = Literal["errors", "latency", "match"]
Ending = Literal["Promoted", "RolledBack", "HeldTooLong", "Expired"]

LIMITS: dict[Metric, Limits] = {
    "errors": Limits(0.01, 0.02, "Errors"),
    "latency": Limits(0.05, 0.05, "Latency"),
    "match": Limits(0.05, 0.10, "Mismatches"),
}
HOLD_SECONDS = 3600.0
AHEAD = 60
"""Looks drawn at once."""


class Rates(NamedTuple):
    """True shares of bad events: against abort, and against slo where another threshold is meant (latency)."""

    abort: float
    slo: float | None = None


AT_SLO: dict[Metric, Rates] = {"errors": Rates(0.01), "latency": Rates(0.02, 0.05), "match": Rates(0.05)}
AT_ABORT: dict[Metric, Rates] = {"errors": Rates(0.02), "latency": Rates(0.05), "match": Rates(0.10)}
FINE: dict[Metric, Rates] = {"errors": Rates(0.001), "latency": Rates(0.005, 0.01), "match": Rates(0.01)}


@dataclass(frozen=True)
class Plan:
    """A plan, what is judged in it, and the traffic it gets."""

    weights: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 1.0)
    step_seconds: float = 1800.0
    look_seconds: float = 10.0
    per_second: float = 1.0
    mirrored: float = 1.0
    icc: float = 0.0
    metrics: tuple[Metric, ...] = ("errors", "latency", "match")
    longest_seconds: float = 604_800.0
    divide: bool = True

    @property
    def alphas(self) -> Alphas:
        return alphas(abort=0.99, advance=0.95, steps=len(self.weights), soak=False)


@dataclass
class Played:
    """How a run ended: where, how many requests the candidate had got in that step, and for which metric."""

    ending: Ending
    step: int
    requests: float
    seconds: float
    metric: str = ""


class Look(NamedTuple):
    """Increments of one look for one metric: requests and bad events, by exposure, and stable's."""

    live: int
    mirror: int
    live_bad: int
    mirror_bad: int
    bad_at_slo: int
    stable: int
    stable_bad: int


def draw(rng: np.random.Generator, plan: Plan, weight: float, true: Rates, stable: float) -> Iterator[Look]:
    """Draw looks without end."""
    while True:
        requests = rng.poisson(plan.per_second * plan.look_seconds, AHEAD)
        live = rng.binomial(requests, weight)
        mirror = rng.binomial(requests - live, plan.mirrored)
        to_stable = requests - live + rng.binomial(live, plan.mirrored)
        rate = _bursty(rng, true.abort, plan.icc)
        live_bad, mirror_bad = rng.binomial(live, rate), rng.binomial(mirror, rate)
        between = 0.0 if true.slo is None else (true.slo - true.abort) / (1 - true.abort)
        slow = live_bad + mirror_bad + rng.binomial(live + mirror - live_bad - mirror_bad, between)
        stable_bad = rng.binomial(to_stable, _bursty(rng, stable, plan.icc))
        for row in zip(live, mirror, live_bad, mirror_bad, slow, to_stable, stable_bad, strict=True):
            yield Look(*map(int, row))


def _bursty(rng: np.random.Generator, rate: float, icc: float) -> np.ndarray:
    if icc == 0 or not 0 < rate < 1:
        return np.full(AHEAD, rate)
    size = 1 / icc - 1
    return rng.beta(rate * size, (1 - rate) * size, AHEAD)


@dataclass
class Step:
    """One metric over one step, as the judge sees it."""

    metric: Metric
    alphas: Alphas
    pool: Tally = field(default_factory=Tally)
    live: Tally = field(default_factory=Tally)
    at_slo: float = 0.0
    pool_ring: Ring = field(default_factory=Ring)
    live_ring: Ring = field(default_factory=Ring)

    def stream(self, now: Tally, ring: Ring, bursts: Dispersion | None, name: str) -> Stream:
        return Stream(now, ring, 1.0 if bursts is None else design_effect(bursts, ring.per_look(now)), name)

    def look(self, seen: Look, bursts: Dispersion | None, elapsed: float) -> Judgement:
        stable = (self.pool.stable_bad + seen.stable_bad, self.pool.stable_total + seen.stable)
        bad, total = seen.live_bad + seen.mirror_bad, seen.live + seen.mirror
        self.pool = Tally(self.pool.bad + bad, self.pool.total + total, *stable)
        self.live = Tally(self.live.bad + seen.live_bad, self.live.total + seen.live, *stable)
        self.at_slo += seen.bad_at_slo
        pool = self.stream(self.pool, self.pool_ring, bursts, "all attempts")
        live = self.stream(self.live, self.live_ring, bursts, "live alone")
        judged = judge_rate(
            pool,
            None if self.metric == "match" else live,
            bad_at_slo=self.at_slo,
            limits=LIMITS[self.metric],
            alphas=self.alphas,
            elapsed=elapsed,
        )
        self.pool_ring, self.live_ring = self.pool_ring.looked(self.pool), self.live_ring.looked(self.live)
        return judged


def play(rng: np.random.Generator, plan: Plan, true: Callable[[Metric, int], Rates], stable: dict[Metric, Rates] = AT_SLO) -> Played:
    """Play one run; `true` gives the candidate's rates by metric and step."""
    bursts: dict[Metric, Dispersion] = {metric: Dispersion() for metric in plan.metrics}
    total = 0.0
    for index, weight in enumerate(plan.weights):
        steps = {metric: Step(metric, plan.alphas) for metric in plan.metrics}
        drawn = {metric: draw(rng, plan, weight, true(metric, index), stable[metric].abort) for metric in plan.metrics}
        mismatches = Dispersion()
        within, looks, kinds = 0.0, 0, set[Kind]()
        while looks * plan.look_seconds < plan.step_seconds or kinds != {Kind.GOOD}:
            looks, total = looks + 1, total + plan.look_seconds
            if total > plan.longest_seconds:
                return Played("Expired", index, steps[plan.metrics[0]].pool.total, looks * plan.look_seconds)
            kinds = set()
            for metric, step in steps.items():
                seen = next(drawn[metric])
                learned = bursts[metric] if plan.divide else None
                kind = step.look(seen, learned, looks * plan.look_seconds).verdict.kind
                if kind is Kind.BAD:
                    return Played("RolledBack", index, step.pool.total, looks * plan.look_seconds, metric)
                kinds.add(kind)
                if metric == "match":  # stable has no mismatches of its own: the candidate's earlier steps stand in
                    mismatches = mismatches.seen(seen.live_bad + seen.mirror_bad, seen.live + seen.mirror)
                else:
                    bursts[metric] = bursts[metric].seen(seen.stable_bad, seen.stable)
            within = within + plan.look_seconds if Kind.WITHIN in kinds else 0.0
            if within >= HOLD_SECONDS:
                return Played("HeldTooLong", index, steps[plan.metrics[0]].pool.total, looks * plan.look_seconds)
        if "match" in bursts:
            bursts["match"] += mismatches
    return Played("Promoted", len(plan.weights) - 1, 0.0, total)


def until_bad(
    rng: np.random.Generator, plan: Plan, metric: Metric, fault: Rates, *, before: Rates | None = None, looks_before: int = 0
) -> float:
    """Give the candidate's requests from the beginning of a fault, at a look of the step, until it is called bad."""
    weight = plan.weights[0]
    step, bursts = Step(metric, plan.alphas), Dispersion()
    stable = AT_SLO[metric].abort
    healthy, faulty = draw(rng, plan, weight, before or AT_SLO[metric], stable), draw(rng, plan, weight, fault, stable)
    looks, begun = 0, 0.0
    while looks * plan.look_seconds < plan.longest_seconds:
        if looks == looks_before:
            begun = step.pool.total
        seen = next(healthy if looks < looks_before else faulty)
        looks += 1
        if step.look(seen, bursts if plan.divide else None, looks * plan.look_seconds).verdict.kind is Kind.BAD:
            return step.pool.total - begun
        bursts = bursts.seen(seen.stable_bad, seen.stable)
    return float("inf")
