"""Reading metrics of the team's own: counts to the last event, and a reason for each that cannot be seen."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from kanarya.api.rollout import CustomMetric
from kanarya.decision.counts import Missing, Sight
from kanarya.telemetry import custom
from kanarya.telemetry.collector import Collector
from kanarya.telemetry.custom import CustomReader, Seen
from kanarya.telemetry.request import CustomRequest
from kanarya.telemetry.source import Series, SourceConfig, SourceError
from tests.unit.telemetry.fakes import Clock, FakePrometheus, Model, Router, request

SCRAPE = 5.0
RATIO = CustomMetric.model_validate({"name": "low", "bad": 'seen_total{r="low"}', "total": "seen_total", "slo": 0.01, "abort": 0.02})
VALUE = CustomMetric.model_validate({"name": "gpu", "query": "max(rate(gpu[1m]))", "slo": 1, "abort": 2})


def other(name: str) -> CustomMetric:
    return VALUE.model_copy(update={"name": name})


class Answers:
    """A Prometheus that answers by what a query names; `down` and `slow` are names that fail and that take for ever."""

    def __init__(self) -> None:
        self.config = SourceConfig(url="http://prometheus.test", scrape_interval_seconds=SCRAPE)
        self.clock_ahead = self.clock_behind = 0.0
        self.series: dict[str, list[Series]] = {}
        self.failures: dict[str, SourceError] = {}
        self.slow = ""
        self.asked: list[tuple[str, float, float | None]] = []
        self.running = self.most = 0

    async def query(self, promql: str, at: float, *, lookback_seconds: float | None = None) -> list[Series]:
        self.asked.append((promql, at, lookback_seconds))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(30 if self.slow and self.slow in promql else 0)
        finally:
            self.running -= 1
        for word, failure in self.failures.items():
            if word in promql:
                raise failure
        return next((found for word, found in self.series.items() if word in promql), [])

    async def close(self) -> None:
        return None


def counter(values: list[float], *, start: float = 1000.0, pod: str = "fraud-new-a", job: str = "pods", **labels: str) -> Series:
    identity = {"__name__": "seen_total", "namespace": "shop", "pod": pod, "job": job, "instance": f"{pod}:1"}
    return Series(identity | labels, tuple((start + SCRAPE * index, value) for index, value in enumerate(values)))


async def read(answers: Answers, *metrics: CustomMetric, now: float = 1027.0, watermark: float = 1000.0, allowed: bool = True) -> Seen:
    reader = CustomReader(answers, lambda: now, allowed=allowed)
    return await reader.read(request(custom=tuple(CustomRequest(metric, watermark) for metric in metrics), since=990.0))


def ratio(bad: list[Series], total: list[Series]) -> Answers:
    answers = Answers()
    answers.series = {'r="low"': bad, "seen_total": total}
    return answers


async def test_a_ratio_is_what_its_counters_grew_by() -> None:
    bad = [counter([1, 1, 2, 2, 4, 4], r="low")]
    total = [*bad, counter([10, 20, 30, 40, 50, 60], r="high"), counter([0, 5, 3, 4, 5, 6], pod="fraud-new-b", r="high")]
    seen = await read(ratio(bad, total))
    assert seen == Seen()
    answers = ratio(bad, total)
    seen = await read(answers, RATIO)
    # The third pod restarted: 5, then 3 from 0, then 3 more.
    assert seen.sights == {"low": Sight(1025.0, bad=3.0, total=3.0 + 50.0 + 11.0)}
    assert [text for text, *_ in answers.asked] == [
        '{__name__="seen_total",namespace="shop",r="low"}[37s]',
        '{__name__="seen_total",namespace="shop"}[37s]',
    ]


async def test_looks_add_up_whatever_the_cut() -> None:
    bad, total = [counter([1, 1, 2, 2, 4, 4], r="low")], [counter([10, 20, 30, 40, 50, 60], r="high")]
    whole = (await read(ratio(bad, total), RATIO)).sights["low"]
    first = (await read(ratio(bad, total), RATIO, now=1013.0)).sights["low"]
    second = (await read(ratio(bad, total), RATIO, watermark=first.until)).sights["low"]
    assert (first.bad + second.bad, first.total + second.total) == (whole.bad, whole.total)
    assert first.until == 1011.0


async def test_a_counter_that_appears_on_a_scraped_pod_counts_from_0() -> None:
    bad = [counter([1, 1, 1, 1, 1, 1], r="low"), counter([7, 9], start=1015.0, r="low", reason="timeout")]
    total = [counter([10, 20, 30, 40, 50, 60], r="high")]
    assert (await read(ratio(bad, total), RATIO)).sights["low"].bad == 9.0
    new_pod = [counter([1, 1, 1, 1, 1, 1], r="low"), counter([7, 9], start=1015.0, r="low", pod="fraud-new-c")]
    assert (await read(ratio(new_pod, total), RATIO)).sights["low"].bad == 2.0, "nobody knows what it had before its first scrape"


@pytest.mark.parametrize(
    ("bad", "total", "missing", "words"),
    [
        ([], [counter([1, 2, 3, 4, 5, 6])], Missing.NO_SERIES, "no series for bad, not even at 0"),
        ([counter([1] * 6)], [], Missing.NO_SERIES, "no series for total"),
        ([counter([1])], [counter([1], start=990.0)], Missing.STALE_SAMPLES, "too old"),
        ([counter([1] * 6)], [counter([1, 2, math.nan, 4, 5, 6])], Missing.NOT_A_NUMBER, "no count"),
        ([counter([1] * 6)], [counter([1] * 6), counter([1] * 6, job="again")], Missing.DUPLICATE_SERIES, "twice"),
    ],
)
async def test_a_ratio_that_cannot_be_seen(bad: list[Series], total: list[Series], missing: Missing, words: str) -> None:
    seen = await read(ratio(bad, total), RATIO)
    assert (seen.sights, seen.missing) == ({}, {"low": missing})
    assert words in seen.sentences[0]


def values(*numbers: float) -> Answers:
    answers = Answers()
    answers.series = {"gpu": [Series({"pod": str(index)}, ((1027.0, number),)) for index, number in enumerate(numbers)]}
    return answers


async def test_a_value_and_what_may_be_behind_it() -> None:
    answers = values(1.5)
    answers.clock_behind = 0.5
    seen = await read(answers, VALUE)
    # The range, then the look-back of selectors: three scrapes and 2 s.
    assert seen.sights == {"gpu": Sight(1027.0, 1.5, 1027.0 - 60 - 17 - 0.5)}
    (asked,) = answers.asked
    assert asked == ('(max(rate({__name__="gpu",namespace="shop"}[1m])))[1s:1s]', 1027.0, 17.0)


@pytest.mark.parametrize(
    ("numbers", "missing", "words"),
    [
        ((), Missing.NO_SERIES, "gives nothing"),
        ((1.0, 1.0), Missing.SEVERAL_SERIES, "2 series where one is meant"),
        ((math.nan,), Missing.NOT_A_NUMBER, "nan"),
        ((math.inf,), Missing.NOT_A_NUMBER, "inf"),
    ],
)
async def test_a_value_that_cannot_be_seen(numbers: tuple[float, ...], missing: Missing, words: str) -> None:
    seen = await read(values(*numbers), VALUE)
    assert (seen.sights, seen.missing) == ({}, {"gpu": missing})
    assert words in seen.sentences[0]


async def test_what_one_metric_lacks_touches_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custom, "PATIENCE_SECONDS", 0.2)
    answers = values(1.5)
    bad = VALUE.model_copy(update={"name": "bad", "query": "wrong"})
    away = VALUE.model_copy(update={"name": "away", "query": "away"})
    refused = VALUE.model_copy(update={"name": "refused", "query": "x offset 5m"})
    slow = VALUE.model_copy(update={"name": "slow", "query": "slow"})
    answers.failures = {"wrong": SourceError("4xx", "Prometheus refused the query (400)."), "away": SourceError("5xx", "Gone.")}
    answers.slow = "slow"
    seen = await read(answers, bad, away, refused, slow, VALUE)
    assert set(seen.sights) == {"gpu"}
    expected = {"bad": Missing.QUERY_REFUSED, "away": Missing.SOURCE_DOWN, "refused": Missing.QUERY_REFUSED, "slow": Missing.QUERY_REFUSED}
    assert seen.missing == expected
    assert answers.running == 0, "what was given up goes on nowhere"


async def test_few_are_asked_at_the_same_time() -> None:
    answers = values(1.5)
    metrics = [other(f"m{index}") for index in range(10)]
    seen = await read(answers, *metrics)
    assert (len(seen.sights), answers.most) == (10, custom.AT_ONCE)


async def test_nothing_is_asked_where_it_is_not_allowed() -> None:
    answers = values(1.5)
    seen = await read(answers, VALUE, allowed=False)
    assert (seen.missing, answers.asked) == ({"gpu": Missing.QUERY_REFUSED}, [])


class Mixed(FakePrometheus):
    """Our own metrics as ever; the team's query is answered with `value`."""

    value: float | None = 3.0

    async def query(self, promql: str, at: float, *, lookback_seconds: float | None = None) -> list[Series]:
        if lookback_seconds is None:
            return await super().query(promql, at)
        return [] if self.value is None else [Series({}, ((at, self.value),))]


async def test_the_collector_puts_both_into_one_reading() -> None:
    clock, prometheus, router, model = Clock(), Mixed(SCRAPE), Router("fraud-router-a"), Model("fraud-new-a")
    for at in (1000.0, 1005.0, 1010.0):
        prometheus.scrape(at, router, model)
        router.answer("candidate", times=5)
    clock.now = 1013.0
    collector = Collector(prometheus, clock, custom_queries=True)
    wanted: Any = request(custom=(CustomRequest(VALUE, 1000.0),), since=995.0)
    reading = await collector.read(wanted)
    assert (reading.custom["gpu"].value, dict(reading.missing)) == (3.0, {})
    assert reading.counts.candidate_live.requests > 0
    prometheus.value = None
    reading = await collector.read(wanted)
    assert (reading.custom, reading.missing) == ({}, {"gpu": Missing.NO_SERIES})
    assert reading.detail.startswith("gpu: the query gives nothing")
    assert reading.counts.candidate_live.requests > 0
