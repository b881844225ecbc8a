"""Looks at what a Prometheus has stored, as if each were made at its own time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kanarya.decision.counts import Reading
from kanarya.telemetry import profile
from kanarya.telemetry.collector import Collector
from kanarya.telemetry.counting import LAG_SECONDS
from kanarya.telemetry.feed import Source
from kanarya.telemetry.look import horizon
from kanarya.telemetry.request import ReadRequest
from kanarya.telemetry.source import Series, SourceConfig, SourceError


class Past:
    """Readings of times gone by. Whatever our clock is ahead of the source's, or behind, does not matter there."""

    def __init__(self, source: Source) -> None:
        self._stored = _Stored(source)

    async def read(self, request: ReadRequest, until: float) -> Reading:
        """Count what is new for one rollout, up to `until` (epoch seconds).

        Raises
        ------
        SourceError
            When Prometheus does not answer: unlike then, there is no use in going on.
        """
        # A collector of its own: one that is kept shares its answer among looks that are close together, and would count to another time.
        collector = Collector(self._stored, lambda: until + LAG_SECONDS, custom_queries=True)
        self._stored.failed = None
        reading = await collector.read(request)
        if self._stored.failed is not None:
            raise self._stored.failed
        return reading


class _Stored:
    """A source whose clock is ours; keeps its failure, which a collector makes part of the reading."""

    clock_ahead = 0.0
    clock_behind = 0.0

    def __init__(self, source: Source) -> None:
        self._source = source
        self.config: SourceConfig = source.config
        self.failed: SourceError | None = None

    async def query(self, promql: str, at: float, *, lookback_seconds: float | None = None) -> list[Series]:
        try:
            return await self._source.query(promql, at, lookback_seconds=lookback_seconds)
        except SourceError as error:
            self.failed = error
            raise

    async def close(self) -> None:
        await self._source.close()


async def revisions_seen(source: Source, namespace: str, rollout: str, times: Sequence[float]) -> dict[str, set[str]]:
    """Give the revisions that a rollout's routers counted about the given times (epoch seconds), by track. Raises `SourceError`."""
    query = profile.attempts_query(namespace, rollout, math.ceil(horizon(source.config.scrape_interval_seconds, 0)))
    found: dict[str, set[str]] = {}
    for at in times:
        for one in await source.query(query, at):
            found.setdefault(one.labels.get("track", ""), set()).add(one.labels.get("revision", ""))
    return found
