"""One query for all rollouts: reads that come close together share its answer, and a source that fails is not hammered."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from kanarya.telemetry.snapshot import Snapshot
from kanarya.telemetry.source import Series, SourceConfig, SourceError

MAX_WINDOW_SECONDS = 900
"""The longest time that is caught up on."""

SHARE_SECONDS = 1.0
"""An answer that came at most so long ago is used again."""

RETRY_SECONDS = 1.0
"""The shortest time from a failure to the next attempt."""

_FORGET_SECONDS = 900.0
"""A rollout that has not asked for so long is left out of the query."""

_ROUND_SECONDS = 10
"""Windows are rounded up to this: a second rollout's slightly older watermark then still fits."""


class Source(Protocol):
    """What a feed needs of a Prometheus; `PrometheusSource` is one."""

    config: SourceConfig
    clock_ahead: float

    async def query(self, promql: str, at: float) -> list[Series]:
        """Give raw samples, or raise `SourceError`."""
        ...

    async def close(self) -> None:
        """Give up connections."""
        ...


@dataclass(frozen=True)
class Interest:
    """What one rollout needs from the common query; `seconds` is the usual window."""

    namespaces: frozenset[str]
    pod_prefixes: frozenset[str]
    thresholds_ms: frozenset[int] = frozenset()
    seconds: float = 0.0

    def covers(self, other: Interest) -> bool:
        """Tell whether an answer to this holds an answer to `other`; the window is looked at elsewhere."""
        return self.namespaces >= other.namespaces and self.pod_prefixes >= other.pod_prefixes and self.thresholds_ms >= other.thresholds_ms


def united(interests: Iterable[Interest]) -> Interest:
    """Give what serves all of `interests`."""
    every = list(interests)
    return Interest(
        frozenset().union(*(one.namespaces for one in every)),
        frozenset().union(*(one.pod_prefixes for one in every)),
        frozenset().union(*(one.thresholds_ms for one in every)),
        max((one.seconds for one in every), default=0.0),
    )


class Feed:
    """The common query of one source and profile.

    `write` makes PromQL of an interest and a window in whole seconds.
    """

    def __init__(self, source: Source, clock: Callable[[], float], write: Callable[[Interest, int], str]) -> None:
        self._source = source
        self._clock = clock
        self._write = write
        self._interests: dict[tuple[str, str], tuple[Interest, float]] = {}
        self._lock = asyncio.Lock()
        self._last: tuple[Interest, Snapshot, float] | None = None
        self._failure: tuple[SourceError, float] | None = None

    async def get(self, key: tuple[str, str], interest: Interest, reach: float) -> Snapshot:
        """Give samples of what `interest` names, back to `reach` (epoch seconds) as far as the longest window allows.

        `key` is the rollout (namespace, name). Raises `SourceError`, at once while the last failure is younger than a second.
        """
        self._interests[key] = (interest, self._clock())
        async with self._lock:
            last = self._last
            if last is not None and self._young(last[2], SHARE_SECONDS) and last[0].covers(interest) and _reaches(last[1], reach):
                return last[1]
            self._forget()
            everyone = united(one for one, _ in self._interests.values())
            snapshot = await self._ask(everyone, reach)
            self._last = (everyone, snapshot, self._clock())
            return snapshot

    async def get_alone(self, interest: Interest, reach: float) -> Snapshot:
        """Give samples of one rollout further back than the common query goes. Raises `SourceError`."""
        async with self._lock:
            return await self._ask(interest, reach)

    async def _ask(self, interest: Interest, reach: float) -> Snapshot:
        if self._failure is not None and self._young(self._failure[1], RETRY_SECONDS):
            # A new one each time: a raised exception collects the frames of whoever catches it.
            raise SourceError(self._failure[0].failure, str(self._failure[0]))
        usual = _window(interest.seconds)
        wanted = max(usual, _window(self._clock() - reach))
        try:
            try:
                snapshot = await self._look_back(interest, wanted)
            except SourceError as error:
                if wanted == usual or error.failure not in {"too_large", "4xx"}:
                    raise
                # So much history is more than Prometheus or we can take. It would be asked for again for ever: the span begins again.
                snapshot = await self._look_back(interest, usual)
        except SourceError as error:
            self._failure = (error, self._clock())
            raise
        self._failure = None
        return snapshot

    async def _look_back(self, interest: Interest, seconds: int) -> Snapshot:
        at = self._clock()
        series = await self._source.query(self._write(interest, seconds), at)
        return Snapshot(series, at=at, start=at - seconds, clock_ahead=self._source.clock_ahead)

    def _young(self, time: float, limit: float) -> bool:
        # A clock that was set back makes nothing young for ever.
        return 0 <= self._clock() - time <= limit

    def _forget(self) -> None:
        now = self._clock()
        self._interests = {key: (one, seen) for key, (one, seen) in self._interests.items() if now - seen <= _FORGET_SECONDS}


def _window(seconds: float) -> int:
    return min(MAX_WINDOW_SECONDS, math.ceil(max(seconds, 1.0) / _ROUND_SECONDS) * _ROUND_SECONDS)


def _reaches(snapshot: Snapshot, reach: float) -> bool:
    return snapshot.start <= max(reach, snapshot.at - MAX_WINDOW_SECONDS)
