"""Native histograms of Prometheus, as its API writes them: exponential ones, and classic ones stored with custom buckets.

A sample is `{"count": "16", "sum": "…", "buckets": [[rule, "left", "right", "count"], …]}` with the buckets that hold something, each
with its own observations and not those below it. `rule` says which ends belong to the bucket; an observation exactly at a threshold is
rarer than what it would decide, so every bucket is read as (left, right], like the classic ones.
https://prometheus.io/docs/prometheus/latest/querying/api/#native-histograms
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_SAME = 1e-9
"""Relative distance within which two bounds are one: 0.08 is not always written as it was meant."""


@dataclass(frozen=True, slots=True)
class NativeHistogram:
    """One sample: how many observations, and the buckets that hold some as (left, right, observations)."""

    count: float
    buckets: tuple[tuple[float, float, float], ...]

    def within(self, edge: float) -> float:
        """Count the observations that are known to be at most `edge`."""
        return math.fsum(count for _, right, count in self.buckets if right <= edge or math.isclose(right, edge, rel_tol=_SAME))


def read_native(item: Mapping[str, Any]) -> NativeHistogram:
    """Read a sample; raises `KeyError`, `TypeError` or `ValueError` when it is none."""
    buckets = tuple((float(left), float(right), float(count)) for _, left, right, count in item.get("buckets", ()))
    return NativeHistogram(float(item["count"]), buckets)


def around(samples: Iterable[NativeHistogram], threshold: float) -> tuple[float, float]:
    """Give the bounds next to `threshold`, below and above, that no bucket of any of `samples` straddles.

    They are the threshold itself where no bucket straddles it. A histogram that has become coarser merges neighbouring buckets, so the
    bounds of its coarsest sample are bounds of every sample.
    """
    below = above = threshold
    for sample in samples:
        for left, right, _ in sample.buckets:
            if left < threshold < right and not _at_an_end(threshold, left, right):
                below, above = min(below, left), max(above, right)
    return below, above


def _at_an_end(threshold: float, left: float, right: float) -> bool:
    return math.isclose(left, threshold, rel_tol=_SAME) or math.isclose(right, threshold, rel_tol=_SAME)
