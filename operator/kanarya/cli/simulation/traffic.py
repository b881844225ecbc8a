"""Traffic by chance: what a look counts of a scenario."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from scipy.special import ndtr, ndtri

from kanarya.api.rollout import RolloutSpec
from kanarya.cli.simulation.scenario import Behaviour, Inputs, Scenario
from kanarya.decision.counts import Attempts, Counts, Drift, Missing, Reading
from kanarya.decision.judge import ALL

REFERENCE_PER_BIN = 1000.0
"""Counts of the training reference in each of its ten bins."""
STALE_LOOKS = 3
"""After so many looks without a new sample the candidate's samples are stale."""


@dataclass
class Traffic:
    """The traffic of one run. Asked for one look after the other.

    Attributes
    ----------
    begun
        When, in seconds of the run, each change began that has begun.
    requests, live
        Attempts of the candidate so far, and the live ones among them.
    """

    spec: RolloutSpec
    scenario: Scenario
    random: Generator
    begun: dict[int, float] = field(default_factory=dict)
    requests: float = 0.0
    live: float = 0.0
    _pending: Reading | None = None
    _gap: int = 0

    def __post_init__(self) -> None:
        latency = self.spec.analysis.latency
        self._keys = str(latency.slo_milliseconds), str(latency.abort_milliseconds)

    def look(self, *, step: int, since: float, t: float, apart: float, weight: int) -> Reading:
        """Give the reading of the look at `t` seconds of a step that began at `since`, `apart` seconds after the one before."""
        if t <= apart:  # the counts of a step begin at zero
            self._pending, self._gap = None, 0
        candidate, stable = self._behaviours(step, since + t, t, apart)
        seen = self._count(candidate, stable, apart, weight / self.spec.plan.weight_total)
        if self._pending is not None:
            seen = (self._pending.counts + seen[0], _added(self._pending.drift, seen[1]))
        if self.scenario.scrape_gaps and self.random.random() < self.scenario.scrape_gaps:
            self._pending, self._gap = Reading(until=t, counts=seen[0], drift=seen[1]), self._gap + 1
            stale = {ALL: Missing.STALE_SAMPLES} if self._gap >= STALE_LOOKS else {}
            return Reading(until=t, newest=t - self._gap * apart, missing=stale)
        self._pending, self._gap = None, 0
        return Reading(until=t, counts=seen[0], drift=seen[1], newest=t)

    def _behaviours(self, step: int, now: float, t: float, apart: float) -> tuple[Behaviour, Behaviour]:
        """Give how the tracks answer in the look that ends at `now`; changes begin between two looks."""
        candidate, stable = self.scenario.candidate, self.scenario.stable
        for index, change in enumerate(self.scenario.changes):
            if index not in self.begun and change.has_begun(step, t):
                self.begun[index] = now - apart
            if index in self.begun and change.is_on(now - self.begun[index]):
                candidate, stable = candidate.changed(change.candidate), stable.changed(change.stable)
        return candidate, stable

    def _count(self, candidate: Behaviour, stable: Behaviour, seconds: float, share: float) -> tuple[Counts, Drift]:
        random, mirrored = self.random, self.spec.traffic.mirror_percent / 100
        total = int(random.poisson(self.scenario.rps * seconds))
        live = int(random.binomial(total, share))
        to_candidate, to_stable = self._some(total - live, mirrored), self._some(live, mirrored)
        ours = self._attempts(candidate, (live, to_candidate))
        (theirs,) = self._attempts(stable, (total - live + to_stable,))
        pairs = to_candidate + to_stable
        mismatched = self._some(pairs, self._burst(candidate.mismatches or 0.0))
        self.requests += live + to_candidate
        self.live += live
        counts = Counts(ours[0], ours[1], theirs, float(pairs), float(pairs), float(mismatched))
        return counts, self._drift(live + to_candidate)

    def _some(self, of: int, share: float) -> int:
        return of if share >= 1 else int(self.random.binomial(of, share)) if of and share > 0 else 0

    def _burst(self, share: float) -> float:
        """Give the share of this look: beta-distributed around the scenario's, so that its requests correlate."""
        correlation = self.scenario.burst_correlation
        if not correlation or not 0 < share < 1:
            return share
        size = 1 / correlation - 1
        return float(self.random.beta(share * size, (1 - share) * size))

    def _attempts(self, behaviour: Behaviour, parts: tuple[int, ...]) -> list[Attempts]:
        """Give the attempts of one track, which share their bursts."""
        slow, very_slow = behaviour.slow(self.spec.analysis.latency)
        errors, slower = self._burst(behaviour.errors or 0.0), self._burst(slow)
        found: list[Attempts] = []
        for requests in parts:
            slow_ones = self._some(requests, slower)
            slowest = self._some(slow_ones, very_slow / slow) if slow else 0
            counted = dict(zip(self._keys, (float(slow_ones), float(slowest)), strict=True))
            found.append(Attempts(float(requests), float(self._some(requests, errors)), counted))
        return found

    def _drift(self, requests: int) -> Drift:
        inputs = self.scenario.inputs
        if not inputs.features:
            return Drift()
        names, reference, shares = _bins(inputs)
        counted = self.random.multinomial(requests, shares)
        return Drift({name: (*row, 0.0) for name, row in zip(names, counted.astype(float).tolist(), strict=True)}, reference)


@lru_cache(maxsize=64)
def _bins(inputs: Inputs) -> tuple[list[str], dict[str, tuple[float, ...]], np.ndarray]:
    """Give names, references, and the shares of the ten deciles by feature."""
    edges = ndtri(np.linspace(0, 1, 11))
    shifted = np.diff(ndtr(edges - inputs.deviations))
    names = [f"feature_{index}" for index in range(inputs.features)]
    shares = np.array([shifted if index < inputs.shifted else np.full(10, 0.1) for index in range(inputs.features)])
    reference = (*([REFERENCE_PER_BIN] * 10), 0.0)
    return names, dict.fromkeys(names, reference), shares


def _added(drift: Drift, more: Drift) -> Drift:
    current = {
        name: tuple(a + b for a, b in zip(row, more.current.get(name, row), strict=True)) if name in more.current else row
        for name, row in drift.current.items()
    }
    return Drift(current or more.current, more.reference or drift.reference)
