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

APART_SECONDS = 60.0
"""A rollout whose own series are more than can be read is asked about again after this."""

_TOO_MUCH = frozenset({"too_large", "4xx"})
"""How a source fails when it is asked for more than it, or we, can take."""

_FORGET_SECONDS = 900.0
"""A rollout that has not asked for so long is left out of the query."""

_ROUND_SECONDS = 10
"""Windows are rounded up to this: a second rollout's slightly older watermark then still fits."""


class Source(Protocol):
    """What a feed needs of a Prometheus; `PrometheusSource` is one."""

    config: SourceConfig
    clock_ahead: float
    clock_behind: float

    async def query(self, promql: str, at: float, *, lookback_seconds: float | None = None) -> list[Series]:
        """Give raw samples, or raise `SourceError`; instant selectors inside look back so far."""
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
        self._greedy: dict[tuple[str, str], tuple[SourceError, float]] = {}

    async def get(self, key: tuple[str, str], interest: Interest, reach: float) -> Snapshot:
        """Give samples of what `interest` names, back to `reach` (epoch seconds) as far as the longest window allows.

        `key` is the rollout (namespace, name). Raises `SourceError`, at once while the last failure is younger than a second. When all
        rollouts together are too much for one answer, each is asked about apart; one that alone is too much is left out from then on.
        """
        greedy = self._greedy.get(key)
        if greedy is not None:
            return await self._get_apart(key, interest, reach, greedy)
        self._interests[key] = (interest, self._clock())
        async with self._lock:
            if self._last is not None and self._last[2] > self._clock():  # the clock was set back: that time comes again
                self._last = None
            last = self._last
            if last is not None and self._young(last[2], SHARE_SECONDS) and last[0].covers(interest) and _reaches(last[1], reach):
                return last[1]
            self._forget()
            everyone = united(one for one, _ in self._interests.values())
            try:
                snapshot = await self._ask(everyone, reach)
            except SourceError as error:
                if error.failure not in _TOO_MUCH or len(self._interests) == 1:
                    raise
                return await self._ask_apart(key, interest, reach)
            self._last = (everyone, snapshot, self._clock())
            return snapshot

    async def _get_apart(self, key: tuple[str, str], interest: Interest, reach: float, greedy: tuple[SourceError, float]) -> Snapshot:
        error, since = greedy
        if self._young(since, APART_SECONDS):
            raise SourceError(error.failure, str(error))
        async with self._lock:
            return await self._ask_apart(key, interest, reach)

    async def _ask_apart(self, key: tuple[str, str], interest: Interest, reach: float) -> Snapshot:
        """Ask about one rollout, whether or not the common query has just failed."""
        try:
            snapshot = await self._reach_back(interest, reach)
        except SourceError as error:
            if error.failure in _TOO_MUCH:
                self._greedy[key] = (error, self._clock())
                self._interests.pop(key, None)
                self._failure = None  # without this rollout the common query is another
            raise
        self._greedy.pop(key, None)
        return snapshot

    async def get_alone(self, interest: Interest, reach: float) -> Snapshot:
        """Give samples of one rollout further back than the common query goes. Raises `SourceError`."""
        async with self._lock:
            return await self._ask(interest, reach)

    async def _ask(self, interest: Interest, reach: float) -> Snapshot:
        if self._failure is not None and self._young(self._failure[1], RETRY_SECONDS):
            # A new one each time: a raised exception collects the frames of whoever catches it.
            raise SourceError(self._failure[0].failure, str(self._failure[0]))
        try:
            snapshot = await self._reach_back(interest, reach)
        except SourceError as error:
            self._failure = (error, self._clock())
            raise
        self._failure = None
        return snapshot

    async def _reach_back(self, interest: Interest, reach: float) -> Snapshot:
        usual = _window(interest.seconds)
        wanted = max(usual, _window(self._clock() - reach))
        try:
            return await self._look_back(interest, wanted)
        except SourceError as error:
            if wanted == usual or error.failure not in _TOO_MUCH:
                raise
            # So much history is more than Prometheus or we can take. It would be asked for again for ever: the span begins again.
            return await self._look_back(interest, usual)

    async def _look_back(self, interest: Interest, seconds: int) -> Snapshot:
        at = self._clock()
        series = await self._source.query(self._write(interest, seconds), at)
        source = self._source
        return Snapshot(series, at=at, start=at - seconds, clock_ahead=source.clock_ahead, clock_behind=source.clock_behind)

    def _young(self, time: float, limit: float) -> bool:
        # A clock that was set back makes nothing young for ever.
        return 0 <= self._clock() - time <= limit

    def _forget(self) -> None:
        now = self._clock()
        self._interests = {key: (one, seen) for key, (one, seen) in self._interests.items() if now - seen <= _FORGET_SECONDS}
        self._greedy = {key: (error, since) for key, (error, since) in self._greedy.items() if now - since <= _FORGET_SECONDS}


def _window(seconds: float) -> int:
    return min(MAX_WINDOW_SECONDS, math.ceil(max(seconds, 1.0) / _ROUND_SECONDS) * _ROUND_SECONDS)


def _reaches(snapshot: Snapshot, reach: float) -> bool:
    return snapshot.start <= max(reach, snapshot.at - MAX_WINDOW_SECONDS)
