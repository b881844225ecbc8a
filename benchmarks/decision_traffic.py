"""The counts of many looks drawn at once: the traffic of `kanarya simulate`, without scrape gaps and drift, in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from kanarya.api.rollout import RolloutSpec
from kanarya.cli.simulation.scenario import Behaviour, Scenario
from kanarya.decision.counts import Attempts, Counts

FIELDS = (
    "live", "mirror", "stable",
    "live_errors", "mirror_errors", "stable_errors",
    "live_slow", "mirror_slow", "stable_slow",
    "live_slowest", "mirror_slowest", "stable_slowest",
    "compared", "mismatched",
)  # fmt: skip
"""Columns: attempts by track and exposure, errors, slower than slo, slower than abort; copies compared, and of them unequal."""
COLUMN = {name: index for index, name in enumerate(FIELDS)}


@dataclass
class Traffic:
    """Draws the traffic of one run, look after look.

    Attributes
    ----------
    begun
        When, in seconds of the run, each change began that has begun.
    """

    spec: RolloutSpec
    scenario: Scenario
    random: Generator
    begun: dict[int, float] = field(default_factory=dict)
    _known: dict[tuple[int, ...], tuple[list[float], list[float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.scenario.scrape_gaps or self.spec.analysis.drift.action != "Report" or self.spec.plan.soak_seconds:
            raise ValueError("scrape gaps, a soak, and drift that decides cannot be drawn in blocks: use kanarya simulate")

    def draw(self, *, step: int, since: float, looks: range, weight: int) -> np.ndarray:
        """Give a row of counts for each of the looks, numbered from 1, of a step that began at `since`; columns as in `FIELDS`."""
        random, mirrored, size = self.random, self.spec.traffic.mirror_percent / 100, len(looks)
        candidate, stable = self._rates(step, since, looks)
        total = random.poisson(self.scenario.rps * self.spec.analysis.interval_seconds, size)
        live = random.binomial(total, weight / self.spec.plan.weight_total)
        whole = mirrored >= 1
        copied, copied_back = (some if whole else random.binomial(some, mirrored) for some in (total - live, live))
        found = np.empty((size, len(FIELDS)))
        for column, row in (("live", live), ("mirror", copied), ("stable", total - live + copied_back), ("compared", copied + copied_back)):
            found[:, COLUMN[column]] = row
        for rates, parts in ((candidate, ("live", "mirror")), (stable, ("stable",))):
            errors, slow = self._bursts(rates[:, 0]), self._bursts(rates[:, 1])
            very_slow = np.divide(rates[:, 2], rates[:, 1], out=np.zeros(size), where=rates[:, 1] > 0)
            for part in parts:
                requests = found[:, COLUMN[part]].astype(np.int64)
                found[:, COLUMN[f"{part}_errors"]] = random.binomial(requests, errors)
                slower = random.binomial(requests, slow)
                found[:, COLUMN[f"{part}_slow"]] = slower
                found[:, COLUMN[f"{part}_slowest"]] = random.binomial(slower, very_slow)
        found[:, COLUMN["mismatched"]] = random.binomial(copied + copied_back, self._bursts(candidate[:, 3]))
        return found

    def _rates(self, step: int, since: float, looks: range) -> tuple[np.ndarray, np.ndarray]:
        """Give by look, for candidate and stable, the shares of errors, slow, very slow and unequal requests."""
        interval = float(self.spec.analysis.interval_seconds)
        changes = self.scenario.changes
        if all(change.lasts is None if index in self.begun else step < change.step for index, change in enumerate(changes)):
            same = self._changed(tuple(self.begun))
            candidate, stable = (np.tile(shares, (len(looks), 1)) for shares in same)
            return candidate, stable
        active = []
        for t in (interval * look for look in looks):
            for index, change in enumerate(changes):
                if index not in self.begun and change.has_begun(step, t):
                    self.begun[index] = since + t - interval
            active.append(tuple(i for i, began in self.begun.items() if changes[i].is_on(since + t - began)))
        candidate, stable = (np.array([self._changed(some)[track] for some in active]) for track in (0, 1))
        return candidate, stable

    def _changed(self, active: tuple[int, ...]) -> tuple[list[float], list[float]]:
        if active not in self._known:
            self._known[active] = self._all_changed(active)
        return self._known[active]

    def _all_changed(self, active: Sequence[int]) -> tuple[list[float], list[float]]:
        candidate, stable = self.scenario.candidate, self.scenario.stable
        for index in active:
            change = self.scenario.changes[index]
            candidate, stable = candidate.changed(change.candidate), stable.changed(change.stable)
        return self._shares(candidate), self._shares(stable)

    def _shares(self, one: Behaviour) -> list[float]:
        return [one.errors or 0.0, *one.slow(self.spec.analysis.latency), one.mismatches or 0.0]

    def _bursts(self, shares: np.ndarray) -> np.ndarray:
        """Give each look a share of its own, beta-distributed around the scenario's, so that a look's requests correlate."""
        correlation = self.scenario.burst_correlation
        inside = (shares > 0) & (shares < 1)
        if not correlation or not inside.any():
            return shares
        size = 1 / correlation - 1
        drawn = shares.copy()
        drawn[inside] = self.random.beta(shares[inside] * size, (1 - shares[inside]) * size)
        return drawn


def counts_of(row: np.ndarray, spec: RolloutSpec) -> Counts:
    """Give a row of counts in the decision's own form."""
    one = dict(zip(FIELDS, row.tolist(), strict=True))
    keys = str(spec.analysis.latency.slo_milliseconds), str(spec.analysis.latency.abort_milliseconds)

    def attempts(part: str) -> Attempts:
        slower = dict(zip(keys, (one[f"{part}_slow"], one[f"{part}_slowest"]), strict=True))
        return Attempts(one[part], one[f"{part}_errors"], slower)

    return Counts(attempts("live"), attempts("mirror"), attempts("stable"), one["compared"], one["compared"], one["mismatched"])
