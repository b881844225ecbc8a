"""Metrics of the team's own: each with its own queries, so that what one of them lacks touches no other metric."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kanarya.api.rollout import CustomMetric
from kanarya.decision.counts import Missing, Sight
from kanarya.telemetry import counting
from kanarya.telemetry.counting import LAG_SECONDS, Joined, Point, Samples, Span, Starts
from kanarya.telemetry.feed import MAX_WINDOW_SECONDS, Source
from kanarya.telemetry.look import STALE_SCRAPES, STALE_SLACK_SECONDS, horizon
from kanarya.telemetry.queries import QueryProblem, Values, selector, value_query
from kanarya.telemetry.request import CustomRequest, ReadRequest
from kanarya.telemetry.snapshot import Target, target_of
from kanarya.telemetry.source import Series, SourceError

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0
"""For so long a look waits for all queries of the team's own: a rollback that errors ask for waits no longer."""
AT_ONCE = 2
"""Such queries a source answers at the same time: the connections left over are for our own."""


class _Unseen(Exception):  # noqa: N818 -- reads as the condition it becomes
    """A metric could not be seen."""

    def __init__(self, missing: Missing, sentence: str) -> None:
        super().__init__(sentence)
        self.missing = missing


@dataclass
class Seen:
    """What was seen, and what was not, by metric; a sentence on each of the latter."""

    sights: dict[str, Sight] = field(default_factory=dict)
    missing: dict[str, Missing] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)

    def lacks(self, metric: str, missing: Missing, sentence: str) -> None:
        """Note what keeps a metric from being judged."""
        self.missing[metric] = missing
        self.sentences.append(f"{metric}: {sentence}")


class CustomReader:
    """Asks one source; `allowed` is whether this installation lets rollouts bring queries, `clock` gives epoch seconds."""

    def __init__(self, source: Source, clock: Callable[[], float], *, allowed: bool) -> None:
        self._source = source
        self._clock = clock
        self._allowed = allowed
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def read(self, request: ReadRequest) -> Seen:
        """Look at every metric of the team's own that a request names; never raises."""
        seen = Seen()
        if not request.custom:
            return seen
        tasks = {one.metric.name: asyncio.create_task(self._look(request, one)) for one in request.custom}
        try:
            await asyncio.wait(tasks.values(), timeout=PATIENCE_SECONDS)
        finally:
            for task in tasks.values():
                task.cancel()
        for name, outcome in zip(tasks, await asyncio.gather(*tasks.values(), return_exceptions=True), strict=True):
            _sort_in(seen, name, outcome)
        return seen

    async def _look(self, request: ReadRequest, one: CustomRequest) -> Sight:
        if not self._allowed:
            raise _Unseen(Missing.QUERY_REFUSED, "this installation does not allow queries of rollouts (allowCustomQueries).")
        values = Values(request.namespace, request.rollout, request.candidate_revision, request.candidate_pod_prefixes)
        async with self._turns:
            return await (self._value if one.metric.bad is None else self._ratio)(request, one, values)

    async def _value(self, request: ReadRequest, one: CustomRequest, values: Values) -> Sight:
        del request
        query = value_query(one.metric.query or "", values)
        look_back = STALE_SCRAPES * self._source.config.scrape_interval_seconds + STALE_SLACK_SECONDS
        now = self._clock()
        series = await self._source.query(query.text, now - self._source.clock_ahead, lookback_seconds=look_back)
        series = [each for each in series if each.samples]
        if not series:
            raise _Unseen(Missing.NO_SERIES, f"the query gives nothing: {query.text}")
        if len(series) > 1:
            raise _Unseen(Missing.SEVERAL_SERIES, f"the query gives {len(series)} series where one is meant: put max or sum around it")
        at, value = series[0].samples[-1]
        if not math.isfinite(value):
            raise _Unseen(Missing.NOT_A_NUMBER, f"the query gives {value}: {query.text}")
        return Sight(now, value, at - query.reach - look_back - self._source.clock_behind)

    async def _ratio(self, request: ReadRequest, one: CustomRequest, values: Values) -> Sight:
        scrape, now = self._source.config.scrape_interval_seconds, self._clock()
        usual = horizon(scrape, request.tick_seconds)
        seconds = min(math.ceil(max(usual, now - one.watermark + 2 * scrape)), MAX_WINDOW_SECONDS)
        found: dict[str, list[Series]] = {}
        for part, template in _parts(one.metric):
            text = f"{selector(template, values)}[{seconds}s]"
            found[part] = [each for each in await self._source.query(text, now) if each.samples]
            if not found[part]:
                raise _Unseen(Missing.NO_SERIES, f"there are no series for {part}, not even at 0: {text}")
        every = [each for some in found.values() for each in some]
        ahead, behind = self._source.clock_ahead, self._source.clock_behind
        newest = counting.newest((each.samples for each in every), now - ahead)
        if newest is None or newest < now - ahead - STALE_SCRAPES * scrape - STALE_SLACK_SECONDS:
            raise _Unseen(Missing.STALE_SAMPLES, "the newest sample of its counters is too old.")
        since = request.since + behind
        span = Span(since, max(one.watermark, since), max(now - ahead - LAG_SECONDS, one.watermark), _earliest(every))
        scraped = _scrapes(every)
        bad, total = (_grown(found[part], scraped, span, now - ahead) for part in ("bad", "total"))
        return Sight(span.until, bad=bad, total=total)


def _parts(metric: CustomMetric) -> tuple[tuple[str, str], ...]:
    return ("bad", metric.bad or ""), ("total", metric.total or "")


def _sort_in(seen: Seen, name: str, outcome: Sight | BaseException) -> None:
    match outcome:
        case Sight():
            seen.sights[name] = outcome
        case _Unseen():
            seen.lacks(name, outcome.missing, str(outcome))
        case QueryProblem():
            seen.lacks(name, Missing.QUERY_REFUSED, f"{outcome}.")
        case SourceError(failure="4xx"):
            seen.lacks(name, Missing.QUERY_REFUSED, str(outcome))
        case SourceError():
            seen.lacks(name, Missing.SOURCE_DOWN, str(outcome))
        case asyncio.CancelledError():
            seen.lacks(name, Missing.QUERY_REFUSED, f"Prometheus gave no answer in {PATIENCE_SECONDS:g} s.")
        case _:
            log.error("metric %s could not be read", name, exc_info=outcome)
            seen.lacks(name, Missing.SOURCE_DOWN, "the answer of Prometheus could not be read; the operator's log has more.")


def _earliest(series: Sequence[Series]) -> float:
    return min((each.samples[0][0] for each in series), default=math.inf)


def _scrapes(series: Sequence[Series]) -> dict[Target, list[float]]:
    """Give the times at which each target is known to have been scraped."""
    found: dict[Target, set[float]] = {}
    for each in series:
        found.setdefault(target_of(each.labels), set()).update(at for at, _ in each.samples)
    return {target: sorted(times) for target, times in found.items()}


def _grown(series: Sequence[Series], scraped: dict[Target, list[float]], span: Span, now: float) -> float:
    """Count what all counters grew by in the span, each by itself: a restarted pod counts from 0."""
    claims: dict[tuple[tuple[str, str], ...], list[tuple[Samples, Starts]]] = {}
    for each in series:
        claims.setdefault(_identity(each), []).append((each.samples, _began(each, scraped)))
    total = 0.0
    for claimed in claims.values():
        joined: Joined = counting.join(claimed, span, now)
        if joined.duplicate:
            raise _Unseen(Missing.DUPLICATE_SERIES, "a counter is there twice for one pod; do two jobs scrape it?")
        if any(at > span.watermark for at in joined.refused):
            raise _Unseen(Missing.NOT_A_NUMBER, "a counter holds a sample that is no count.")
        total += sum(counting.increments([Point(at, (value,), started) for at, value, started in joined.samples], span))
    return total


def _identity(series: Series) -> tuple[tuple[str, str], ...]:
    """Tell counters apart: by pod and labels, whatever job and address say; without a pod's name by all labels."""
    unimportant = {"job", "instance"} if series.labels.get("pod") else set()
    return tuple(sorted((name, value) for name, value in series.labels.items() if name not in unimportant))


def _began(series: Series, scraped: dict[Target, list[float]]) -> Starts:
    """Say when a counter began, if its target was scraped before without it: many are made at their first event, and count from 0."""
    first = series.samples[0][0]
    earlier = [at for at in scraped[target_of(series.labels)] if at < first]
    return Starts([(first, earlier[-1])]) if earlier else Starts()
