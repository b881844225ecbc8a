"""`/shadow/metrics`: the shadow figures in one JSON document, for people and scripts without Prometheus."""

from __future__ import annotations

import math
from typing import Any

from kanarya_inference.router.metrics import RouterMetrics, TrackSeries
from kanarya_inference.router.model import EXPOSURES, Exposure
from kanarya_inference.router.plan import Plan, Track
from kanarya_inference.router.shadow_metrics import COPIES, attempts, match_rate, milliseconds, quantile, value


def summary(rollout: str, plan: Plan | None, metrics: RouterMetrics) -> dict[str, Any]:
    """Sum up what this router has counted for the revisions in force since it began to count them."""
    if plan is None:
        return {"rollout": rollout, "stable": None, "candidate": None}
    series = plan.candidate.series
    return {
        "rollout": rollout,
        "mirrorPercent": plan.settings.mirror_percent,
        "stable": _track(plan.stable, metrics),
        "candidate": _track(plan.candidate, metrics) if series is not None else None,
        "comparisons": _comparisons(series) if series is not None else None,
    }


def _comparisons(series: TrackSeries) -> dict[str, Any]:
    counts: dict[str, Any] = {outcome: round(value(counter)) for outcome, counter in series.comparisons.items()}
    rate = match_rate(series)
    return {**counts, "matchRateOfLast5Minutes": None if math.isnan(rate) else round(rate, 6)}


def _track(track: Track, metrics: RouterMetrics) -> dict[str, Any]:
    series = track.series
    if series is None:
        return {"revision": track.revision}
    copies = {word: round(attempts(series, ("mirror",), outcomes)) for word, outcomes in COPIES.items()}
    breaker = metrics.breakers.get((track.name, track.revision or ""))
    return {
        "revision": track.revision,
        "copies": copies,
        "breaker": breaker.state if breaker is not None else None,
        "latencyMilliseconds": {exposure: _latency(series, (exposure,)) for exposure in EXPOSURES},
    }


def _latency(series: TrackSeries, exposures: tuple[Exposure, ...]) -> dict[str, float | None]:
    """Quantiles as upper bounds of the histogram's buckets; None without requests, or above every bucket."""
    buckets, _ = milliseconds(series, exposures)
    return {"p50": quantile(buckets, 0.5), "p95": quantile(buckets, 0.95), "count": buckets[-1][1] if buckets else 0}
