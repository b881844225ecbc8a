"""Bucket bounds of the latency histogram: the usual ones, and those at the rollout's own limits."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import msgspec

LATENCY_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 120.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0)
"""Milliseconds."""
MOST_BOUNDS = 100
log = logging.getLogger(__name__)


class _Settings(msgspec.Struct, rename="camel"):
    latency_buckets_milliseconds: tuple[float, ...]


def rollout_bounds(path: Path | None) -> tuple[float, ...]:
    """Read the bounds, in milliseconds, that the rollout asks of its router: at its latency limits both histograms then count exactly.

    `path` is the router's settings. Without a file, or with one that cannot be used, there are none: nothing is judged by this histogram.
    """
    if path is None or not path.exists():
        return ()
    try:
        bounds = msgspec.json.decode(path.read_bytes(), type=_Settings).latency_buckets_milliseconds
    except (OSError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
        log.warning("%s is left alone: %s", path, error)
        return ()
    if len(bounds) > MOST_BOUNDS or not all(math.isfinite(bound) and bound > 0 for bound in bounds):
        log.warning("%s is left alone: latencyBucketsMilliseconds must be at most %d positive numbers", path, MOST_BOUNDS)
        return ()
    return bounds
