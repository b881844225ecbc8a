"""Which looks of a step can lead to anything but going on: the others need not be put to the decision.

Bad, and what only stable's own failures excuse, asks that the mean e-value over the step and its windows reaches its bound. No e-value is
more than the likelihood ratio of the rate seen, so where the mean over those stays below, nothing can come of the look. Good and Within
rest on the step's counts alone, and are worked out for all looks at once. The rest are time limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from math import log
from typing import Any

import numpy as np
from scipy.special import betainc, betaincc, betaln, xlogy

from benchmarks.decision_traffic import FIELDS
from kanarya.decision.sequential import FEWEST_BAD, SHOWN, Limits
from kanarya.decision.statistics.anytime import JEFFREYS, Prior, informative
from kanarya.decision.statistics.dispersion import ASSUMED_ICC, ASSUMED_SCRAPES, HIGHEST, LOWEST
from kanarya.decision.statistics.windows import APART, CAPACITY, Mark, Ring, Tally

MARGIN = 1e-9
"""A value this near to its bound counts as having reached it: the decision itself then tells."""
Mass = Callable[[Any, Any, float], Any]
"""`betaincc` for evidence above a limit, `betainc` for evidence below."""
LARGEST = 60.0
"""Likelihood ratios beyond e to this are cut off: any of them is enough."""


COLUMNS = {
    "pool": ("live", "mirror"),
    "live": ("live",),
    "match": ("compared",),
    "stable": ("stable",),
    "errors/pool": ("live_errors", "mirror_errors"),
    "errors/live": ("live_errors",),
    "errors/stable": ("stable_errors",),
    "latency/pool": ("live_slowest", "mirror_slowest"),
    "latency/live": ("live_slowest",),
    "latency/stable": ("stable_slowest",),
    "latency/slo": ("live_slow", "mirror_slow"),
    "match/pool": ("mismatched",),
}
"""Sums of the counts that are judged: requests by stream, bad events by metric and stream."""
SUMMED = np.array([[float(name in names) for names in COLUMNS.values()] for name in FIELDS])
PLACE = {name: index for index, name in enumerate(COLUMNS)}


def column(sums: np.ndarray, name: str) -> np.ndarray:
    """Give one of `COLUMNS`."""
    found: np.ndarray = sums[:, PLACE[name]]
    return found


@dataclass(frozen=True)
class Windows:
    """Where the windows of one stream began: the look of the k-th at position k, and that of the step, 0, before them."""

    opened: np.ndarray = field(default_factory=lambda: np.zeros(1, int))
    looked: int = 0

    def after(self, totals: np.ndarray) -> Windows:
        """Open more of them in the looks that have come since, as `Ring.looked` does."""
        opened: list[int] = []
        last = float(totals[self.opened[-1]])
        for look, total in enumerate(totals[self.looked + 1 :].tolist(), start=self.looked + 1):
            if total - last >= APART:
                opened.append(look)
                last = total
        return Windows(np.concatenate([self.opened, np.array(opened, int)]), len(totals) - 1)

    def ring(self, look: int, bad: np.ndarray, total: np.ndarray, stable: tuple[np.ndarray, np.ndarray] | None) -> Ring:
        """Give the ring after a look."""
        opened = int(np.searchsorted(self.opened, look, side="right")) - 1
        numbers = [number for number in _kept_table()[opened].tolist() if number > 0]
        at = self.opened[numbers]
        zeros = np.zeros(len(numbers))
        columns = (bad[at], total[at], *((one[at] for one in stable) if stable else (zeros, zeros)))
        marks = tuple(map(Mark, numbers, *(one.tolist() for one in columns)))
        looked = int(np.count_nonzero(np.diff(total[: look + 1]) > 0))
        return Ring(looked, float(total[look]), opened, marks)

    def may_be_bad(
        self, looks: range, counts: tuple[np.ndarray, np.ndarray], effect: np.ndarray, *, abort: float, alpha: float
    ) -> np.ndarray:
        """Give whether evidence of Bad may reach 1/alpha at each of the looks.

        Until the next bad event evidence only falls, but for a smaller design effect: a look with a bad event that shows too little with
        the smallest one up to the next speaks for all of these.
        """
        bad, _ = counts
        first, flagged = looks.start, np.zeros(len(looks), bool)
        news = np.flatnonzero(np.diff(bad[first - 1 : looks.stop]) > 0)
        begins = news if len(news) and news[0] == 0 else np.concatenate([[0], news])
        least = np.minimum.reduceat(effect, begins)
        some = self._reached(first + begins, counts, least, abort, alpha)
        if some.any():
            ends = np.append(begins[1:], len(looks))
            rows = np.concatenate([np.arange(begin, end) for begin, end in zip(begins[some], ends[some], strict=True)])
            flagged[rows] = self._reached(first + rows, counts, effect[rows], abort, alpha)
        return flagged

    def _reached(
        self, looks: np.ndarray, counts: tuple[np.ndarray, np.ndarray], effect: np.ndarray, abort: float, alpha: float
    ) -> np.ndarray:
        bad, total = counts
        numbers = _kept_table()[np.searchsorted(self.opened, looks - 1, side="right") - 1]
        begun = self.opened[np.maximum(numbers, 0)]
        more_bad, more = bad[looks][:, None] - bad[begun], total[looks][:, None] - total[begun]
        row, place = np.nonzero((numbers >= 0) & (more_bad >= FEWEST_BAD) & (more_bad > abort * more))
        if not len(row):
            return np.zeros(len(looks), bool)
        number = numbers[row, place].astype(float)
        most = log_ratio(more_bad[row, place], more[row, place], abort) / effect[row]
        weight = np.where(number > 0, 0.5 / np.maximum(number * (number + 1), 1.0), 0.5)
        mean = np.bincount(row, weight * np.exp(np.minimum(most, LARGEST)), minlength=len(looks))
        found: np.ndarray = mean >= (1 - MARGIN) / alpha
        return found


def log_ratio(bad: np.ndarray, total: np.ndarray, p0: float) -> np.ndarray:
    """Give the likelihood ratio of the rate seen; see `anytime.log_e_at_most`."""
    good = total - bad
    found: np.ndarray = xlogy(bad, bad / (p0 * total)) + xlogy(good, good / ((1 - p0) * total))
    return found


@dataclass(frozen=True)
class Learned:
    """What is known of bursts before each look: excess over 1 and requests of a scrape, and the weight of it, as `Dispersion` has them."""

    excess: np.ndarray
    per_scrape: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, sums: np.ndarray) -> Learned:
        """Read it off sums of scrapes, in columns as the fields of `Dispersion`."""
        scrapes, bad, total, squares = sums.T
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = bad / total
            excess = (squares - bad * rate) / (rate * (1 - rate)) / (scrapes - 1) - 1
            per_scrape = total / scrapes
        return cls(np.where((scrapes >= 2) & (rate > 0) & (rate < 1), excess, 0.0), per_scrape, np.maximum(scrapes - 1, 0.0))

    def effects(self, per_look: np.ndarray) -> np.ndarray:
        """Give the design effect of each look; see `dispersion.design_effect`."""
        more = np.maximum(per_look - 1, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            bunch = np.where(self.per_scrape > 1, np.minimum(1.0, more / (self.per_scrape - 1)), 1.0)
        assumed = np.minimum(more * ASSUMED_ICC, HIGHEST - LOWEST)
        shown = self.excess * bunch
        weight = self.weight / np.maximum(LOWEST + shown, LOWEST) ** 2
        excess = (assumed * ASSUMED_SCRAPES + shown * weight) / (ASSUMED_SCRAPES + weight)
        found: np.ndarray = np.minimum(np.maximum(LOWEST + excess, LOWEST), HIGHEST)
        return found


def scraped(before: np.ndarray, bad: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Give the sums of `Dispersion` after each look, from those `before`; `bad` and `total` are increments by look."""
    seen = total > 0
    squares = np.divide(bad * bad, total, out=np.zeros(len(bad)), where=seen)
    return np.cumsum(np.vstack([before, np.column_stack([seen, bad, total, squares])]), axis=0)[1:]


def shown(mass: Mass, bad: np.ndarray, total: np.ndarray, p0: float, needed: float) -> np.ndarray:
    """Whether evidence, above p0 by `betaincc` and below by `betainc`, reaches `needed`: exactly, or within `MARGIN` of it."""
    found = np.zeros(len(bad), bool)
    side = bad > p0 * total if mass is betaincc else bad < p0 * total
    some = np.flatnonzero(side & (total > 0))
    some = some[log_ratio(bad[some], total[some], p0) >= needed - MARGIN]
    if len(some):
        mean = np.logaddexp(*(_log_e(mass, bad[some], total[some], p0, prior) for prior in (JEFFREYS, informative(p0)))) - log(2)
        found[some] = mean >= needed - MARGIN
    return found


def _log_e(mass: Mass, bad: np.ndarray, total: np.ndarray, p0: float, prior: Prior) -> np.ndarray:
    before = betaln(prior.bad, prior.good) + log(mass(prior.bad, prior.good, p0))
    with np.errstate(divide="ignore"):
        after = np.log(mass(prior.bad + bad, prior.good + total - bad, p0))
    found: np.ndarray = betaln(prior.bad + bad, prior.good + total - bad) + after - before - bad * log(p0) - (total - bad) * np.log1p(-p0)
    return found


def within(bad: np.ndarray, total: np.ndarray, effect: np.ndarray, limits: Limits) -> np.ndarray:
    """Whether the rate is shown to be above slo."""
    return shown(betaincc, bad / effect, total / effect, limits.slo, -log(SHOWN))


def good(bad: np.ndarray, total: np.ndarray, effect: np.ndarray, limits: Limits, alpha: float) -> np.ndarray:
    """Whether the rate is shown to be below abort."""
    return shown(betainc, bad / effect, total / effect, limits.abort, -log(alpha))


@lru_cache(maxsize=1)
def _kept_table() -> np.ndarray:
    """Give by number of windows opened which are kept: 0 for the step first, -1 for none; as `Ring` thins them out."""
    ring, rows, total = Ring(), [], 0.0
    while ring.opened <= 9000:
        numbers = [0, *(mark.number for mark in ring.marks)]
        rows.append(numbers + [-1] * (CAPACITY + 1 - len(numbers)))
        total += APART
        ring = ring.looked(Tally(0.0, total))
    return np.array(rows)
