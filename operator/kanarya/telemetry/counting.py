"""From raw samples of counters to increments. Pure; the rules, with their reasons, are in `docs/reference/counting.md`.

A span of time begins at `since` and is counted in looks. Each look counts what happened between its `watermark` and `until`, and its
`until` is the next look's watermark, so however a span is cut into looks, the total is the same.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

LAG_SECONDS = 2.0
"""Samples younger than this are left for the next look: a scrape that is being stored may carry an earlier time than one that is."""

FUTURE_SECONDS = 30.0
"""A sample so far in the future is refused: whoever wrote it does not know the time."""

MOST_COUNTED = 2.0**53
"""A larger number is no count: a float cannot go up by one from here. Sums and products of what is smaller stay finite."""

_SAME_START_SECONDS = 0.5
"""Two start times of a process that differ by less are one: the value is computed from a clock that is rounded."""

Samples = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Span:
    """What one look counts, in epoch seconds.

    Only samples later than `since` are used at all. Increments count when their later sample lies in (`watermark`, `until`].
    `known_from` is the time of the earliest sample the source showed in this look: from there on, what it does not show did not exist.
    """

    since: float
    watermark: float
    until: float
    known_from: float = math.inf


@dataclass(frozen=True)
class Point:
    """Several counters of one target as one scrape saw them. `started` is when the target's process began, None if unknown."""

    at: float
    values: tuple[float, ...]
    started: float | None = None


@dataclass(frozen=True)
class Joined:
    """One counter, put together from all series that claim to be it."""

    samples: tuple[tuple[float, float, float | None], ...] = ()
    """Time, value, start of the process."""
    duplicate: bool = False
    """Two of the series had samples over the same time."""
    refused: frozenset[float] = frozenset()
    """Times of samples that are no counts (see `is_count`), or that are from the future."""


def is_count(value: float) -> bool:
    """Tell a number that a counter can have from NaN, infinity, what is negative, and what is absurdly large."""
    return 0 <= value <= MOST_COUNTED


class Starts:
    """When the process of one target began, as seen by each scrape."""

    def __init__(self, samples: Samples = ()) -> None:
        good = [(at, value) for at, value in samples if math.isfinite(value) and value > 0]
        self.times = [at for at, _ in good]
        self._values = [value for _, value in good]

    def at(self, time: float) -> float | None:
        """Start of the process that a scrape at `time` saw: what the newest scrape up to then said."""
        index = bisect.bisect_right(self.times, time)
        return self._values[index - 1] if index else None

    def believed(self, samples: Samples, time: float) -> float | None:
        """Start that a scrape of a series saw at `time`, None when samples before that start knew of no earlier process.

        Such a process was scraped before it began: its start was told by a clock that has been set back since.
        """
        started = self.at(time)
        if started is None:
            return None
        earlier = bisect.bisect_left(samples, (started,))
        if not earlier:
            return started
        before = self.at(samples[earlier - 1][0])
        return started if before is not None and before < started - _SAME_START_SECONDS else None


UNKNOWN_START = Starts()


def join(claims: Iterable[tuple[Samples, Starts]], span: Span, now: float) -> Joined:
    """Make one counter of all series with the same identity (pod and metric labels, whatever `job` and `instance` say).

    Series that follow each other in time are one counter: a renamed job, a new address of the same pod, `le="1"` becoming `le="1.0"`.
    Series over the same time are the same thing scraped twice: one is taken, so nothing is added up twice, and it is reported.
    Samples that are no counts are left out and reported; the counter goes on over them.
    """
    result: list[tuple[float, float, float | None]] = []
    duplicate = False
    refused: set[float] = set()
    claimed = [
        ([(at, value) for at, value in samples if span.since < at <= span.until or at > now + FUTURE_SECONDS], samples, starts)
        for samples, starts in claims
    ]
    for used, samples, starts in sorted((claim for claim in claimed if claim[0]), key=lambda claim: claim[0][0]):
        reached = result[-1][0] if result else -math.inf
        duplicate = duplicate or used[0][0] <= reached
        for at, value in used:
            if not is_count(value) or at > now + FUTURE_SECONDS:
                refused.add(at)
            elif at > reached:
                result.append((at, value, starts.believed(samples, at)))
    return Joined(tuple(result), duplicate, frozenset(refused))


def increments(points: Sequence[Point], span: Span) -> tuple[float, ...]:
    """Count what a target's counters grew by in the span; never negative; empty when there is nothing to count.

    The first value to count from (the base) is the last sample in (`since`, `watermark`]. A series without one counts from 0 when its
    process began inside the span, else its first sample is only a base. A new process, or a value that fell, counts from 0.
    """
    used = [point for point in points if span.since < point.at <= span.until]
    first = next((index for index, point in enumerate(used) if point.at > span.watermark), len(used))
    total = [0.0] * (len(used[0].values) if used else 0)
    previous = used[first - 1] if first else None
    for point in used[first:]:
        if previous is None:
            base: tuple[float, ...] = (0.0,) * len(total) if began_uncounted(point.started, point.at, span) else point.values
        elif _restarted(previous, point):
            base = (0.0,) * len(total)
        else:
            base = previous.values
        total = [have + value - lower for have, value, lower in zip(total, point.values, base, strict=True)]
        previous = point
    return tuple(total)


def began_uncounted(started: float | None, seen: float, span: Span) -> bool:
    """Tell whether all that a process did by its first sample, taken at `seen`, belongs to the span and is not counted yet.

    It is when the process began after the watermark. It also is when it began between `since` and the watermark and the source,
    which remembers times before that, shows no earlier sample: then no earlier look saw one. A start later than the sample itself
    comes from a wrong clock and proves nothing.
    """
    if started is None or started > seen:
        return False
    return started > span.watermark or (started > span.since and span.known_from <= started)


def _restarted(previous: Point, point: Point) -> bool:
    if previous.started is not None and point.started is not None and point.started > previous.started + _SAME_START_SECONDS:
        return True
    return any(later < earlier for earlier, later in zip(previous.values, point.values, strict=True))


def gap(times: Sequence[float], started: float | None, span: Span, horizon: float) -> bool:
    """Tell whether a target that is still scraped lacks the sample from which the span would go on.

    `times` are of all samples of the target, `started` is the start of the process seen last before or at the first new one.
    `horizon` (seconds) is the longest time between two samples in which nothing is amiss.
    """
    new = [at for at in times if span.watermark < at <= span.until]
    if not new or any(span.since < at <= span.watermark for at in times):
        return False
    if span.since >= span.watermark - horizon:  # the span is too young to have a sample before the watermark
        return False
    if started is not None and started <= min(new):
        return started <= span.watermark - horizon and not began_uncounted(started, min(new), span)
    return True


def newest(series: Iterable[Samples], now: float) -> float | None:
    """Give the time of the newest sample, leaving out those from the future."""
    times = (samples[-1][0] for samples in series if samples)
    return max((at for at in times if at <= now + FUTURE_SECONDS), default=None)


def newest_counted(series: Iterable[Samples], span: Span) -> float | None:
    """Give the time of the newest sample that the span's look goes by."""
    return max((at for samples in series for at, _ in samples if span.since < at <= span.until), default=None)


Buckets = Mapping[float, Joined]
"""Buckets of one histogram by their upper edge in seconds; `inf` counts every attempt."""


def attempts(buckets: Buckets, edges: Sequence[float], span: Span) -> tuple[tuple[float, ...], frozenset[float]]:
    """Count a histogram's attempts and those slower than each edge, and name the edges it lacks.

    All buckets of a scrape share one base and one restart. A scrape with a refused sample is left out. An edge that any other scrape
    lacks, or whose bucket exceeds the whole, counts nothing throughout: half a count would be a wrong one.
    """
    total, lookup, lacking = _aligned(buckets, edges)
    known = [edge for edge in edges if edge not in lacking]
    points = [Point(at, (value, *(lookup[edge][at] for edge in known)), started) for at, value, started in total]
    counted = increments(points, span) or (0.0,) * (1 + len(known))
    within = dict(zip(known, counted[1:], strict=True))
    # A race inside the exporter may put an attempt into a bucket just before the whole; slower is then 0, not -1.
    slower = tuple(max(0.0, counted[0] - within[edge]) if edge in within else 0.0 for edge in edges)
    return (counted[0], *slower), lacking


def edges_of(buckets: Buckets, span: Span) -> frozenset[float] | None:
    """Give the finite edges at which `attempts` can count, None when the span holds no sample that would tell."""
    edges = [edge for edge in buckets if math.isfinite(edge)]
    total, _, lacking = _aligned(buckets, edges)
    return frozenset(edges) - lacking if any(span.since < at <= span.until for at, _, _ in total) else None


Lookup = Mapping[float, Mapping[float, float]]


def _aligned(buckets: Buckets, edges: Sequence[float]) -> tuple[list[tuple[float, float, float | None]], Lookup, frozenset[float]]:
    """Give the samples of the whole, the values of each edge by time, and the edges that do not go with all of those samples."""
    refused = frozenset[float]().union(*(buckets[edge].refused for edge in edges if edge in buckets))
    total = [sample for sample in buckets.get(math.inf, Joined()).samples if sample[0] not in refused]
    lookup = {edge: {at: value for at, value, _ in buckets.get(edge, Joined()).samples} for edge in edges}
    lacking = frozenset(edge for edge in edges if any(not lookup[edge].get(at, math.inf) <= value for at, value, _ in total))
    return total, lookup, lacking
