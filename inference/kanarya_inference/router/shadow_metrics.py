"""The `ml_shadow_*` and `ml_baseline_*` figures. Most say in other words what is counted already, and are worked out when asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kanarya_inference.router.model import EXPOSURES, OUTCOMES, Exposure, Outcome, TrackName

if TYPE_CHECKING:
    from kanarya_inference.router.breaker import Breaker
    from kanarya_inference.router.metrics import TrackSeries

LABELS = ("rollout", "track", "revision")
STATES = {"closed": 0, "half-open": 1, "open": 2}
COPIES: dict[str, tuple[Outcome, ...]] = {
    "success": ("success", "client_error"),
    "error": ("server_error", "unreachable"),
    "timeout": ("timeout",),
}
"""How copies ended, in the words of the `ml_shadow_*_total` series."""
_NOT_CANCELLED: tuple[Outcome, ...] = tuple(outcome for outcome in OUTCOMES if outcome != "cancelled")


class Counted(Protocol):
    """Where the figures come from."""

    breakers: dict[tuple[TrackName, str], Breaker]

    @property
    def every_series(self) -> Mapping[tuple[TrackName, str], TrackSeries]:
        """Series by track and revision."""


class ShadowCollector(Collector):
    """Gives the figures at each scrape."""

    def __init__(self, rollout: str, counted: Counted) -> None:
        self._rollout = rollout
        self._counted = counted

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        series = self._counted.every_series
        for word, outcomes in COPIES.items():
            family = CounterMetricFamily(f"ml_shadow_{word}", f"Copies that ended in {word}", labels=LABELS)
            for (track, revision), one in series.items():
                family.add_metric((self._rollout, track, revision), attempts(one, ("mirror",), outcomes))
            yield family
        yield from self._matches(series)
        copies = HistogramMetricFamily("ml_shadow_latency_ms", "Time of copies", labels=LABELS)
        baseline = HistogramMetricFamily("ml_baseline_latency_ms", "Time of stable's attempts, live and copies", labels=LABELS)
        for (track, revision), one in series.items():
            labels = (self._rollout, track, revision)
            copies.add_metric(labels, *milliseconds(one, ("mirror",)))
            if track == "stable":
                baseline.add_metric(labels, *milliseconds(one, EXPOSURES))
        yield from (copies, baseline)
        state = GaugeMetricFamily("ml_shadow_breaker_state", "0 closed, 1 half-open, 2 open (no copies)", labels=LABELS)
        for (track, revision), breaker in self._counted.breakers.items():
            state.add_metric((self._rollout, track, revision), STATES[breaker.state])
        yield state

    def _matches(self, series: Mapping[tuple[TrackName, str], TrackSeries]) -> Iterator[Metric]:
        match = CounterMetricFamily("ml_shadow_match", "Requests that both tracks answer alike", labels=LABELS)
        mismatch = CounterMetricFamily("ml_shadow_mismatch", "Requests that the tracks answer differently", labels=LABELS)
        rate = GaugeMetricFamily("ml_shadow_match_rate", "Matches of the compared requests of the last 5 minutes", labels=LABELS)
        for (track, revision), one in series.items():
            if one.pairs is not None:
                labels = (self._rollout, track, revision)
                match.add_metric(labels, value(one.comparisons["match"]))
                mismatch.add_metric(labels, value(one.comparisons["mismatch"]))
                rate.add_metric(labels, match_rate(one))
        yield from (match, mismatch, rate)


def match_rate(series: TrackSeries) -> float:
    """Share of matches in the recent window, NaN without any comparison."""
    compared, matches = series.pairs.recent.totals() if series.pairs is not None else (0, 0)
    return matches / compared if compared else math.nan


def attempts(series: TrackSeries, exposures: Iterable[Exposure], outcomes: Iterable[Outcome]) -> float:
    """How many attempts there were."""
    outcomes = tuple(outcomes)
    return sum(_read(series.attempts[exposure, outcome])[1] for exposure in exposures for outcome in outcomes)


def milliseconds(series: TrackSeries, exposures: Iterable[Exposure]) -> tuple[list[tuple[str, float]], float]:
    """Cumulated buckets and sum of the attempts' times that were not cancelled."""
    buckets: dict[str, float] = {}
    total = 0.0
    for exposure in exposures:
        for outcome in _NOT_CANCELLED:
            found, _, seconds = _read(series.attempts[exposure, outcome])
            total += 1000 * seconds
            for bound, count in found.items():
                buckets[bound] = buckets.get(bound, 0.0) + count
    return [(bound if bound == "+Inf" else str(round(1000 * float(bound), 9)), count) for bound, count in buckets.items()], total


def quantile(buckets: list[tuple[str, float]], share: float) -> float | None:
    """Upper bound of the bucket that holds the quantile; None without observations, and above every finite bound."""
    total = buckets[-1][1] if buckets else 0.0
    bound = next((bound for bound, count in buckets if total and count >= share * total), "+Inf")
    return None if bound == "+Inf" else float(bound)


def value(metric: Any) -> float:
    """Value of one counter."""
    return float(next(sample.value for family in metric.collect() for sample in family.samples if sample.name.endswith("_total")))


def _read(histogram: Histogram) -> tuple[dict[str, float], float, float]:
    """Cumulated buckets by bound, count and sum of one histogram."""
    buckets: dict[str, float] = {}
    count = total = 0.0
    for family in histogram.collect():
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                buckets[sample.labels["le"]] = sample.value
            elif sample.name.endswith("_count"):
                count = sample.value
            elif sample.name.endswith("_sum"):
                total = sample.value
    return buckets, count, total
