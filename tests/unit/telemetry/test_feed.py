"""Reads that come close together are one query."""

from __future__ import annotations

import asyncio

import pytest

from kanarya.telemetry.feed import Feed, Interest
from kanarya.telemetry.source import Series, SourceError
from tests.unit.telemetry.fakes import Clock, FakePrometheus, down


class Slow(FakePrometheus):
    """Answers once `go` is set."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self._clock = clock
        self.too_large_above: int | None = None

    async def query(self, promql: str, at: float, *, lookback_seconds: float | None = None) -> list[Series]:
        self.asked.append((promql, at))
        await self.go.wait()
        if self.fail is not None:
            raise self.fail
        seconds = int(promql.rpartition("|")[2])
        if self.too_large_above is not None and seconds > self.too_large_above:
            raise SourceError("too_large", "Too large.")
        return []


def write(interest: Interest, seconds: int) -> str:
    return f"{sorted(interest.namespaces)}{sorted(interest.thresholds_ms)}|{seconds}"


def interest(namespace: str = "shop", *thresholds: int, seconds: float = 20.0) -> Interest:
    return Interest(frozenset({namespace}), frozenset({"p-"}), frozenset(thresholds or (80,)), seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(clock: Clock) -> Slow:
    source = Slow(clock)
    source.go.set()
    return source


@pytest.fixture
def feed(source: Slow, clock: Clock) -> Feed:
    return Feed(source, clock, write)


async def test_reads_at_the_same_time_share_two_queries_at_most(feed: Feed, source: Slow) -> None:
    source.go.clear()
    reads = [asyncio.create_task(feed.get(("shop", str(index)), interest("shop", index), 980.0)) for index in range(1, 40)]
    await asyncio.sleep(0)
    source.go.set()
    snapshots = await asyncio.gather(*reads)
    # The first goes off with what it alone knew of; the second with what all others had asked for by then.
    assert len(source.asked) == 2
    assert len({id(snapshot) for snapshot in snapshots}) == 2


async def test_an_answer_is_shared_for_a_second(feed: Feed, source: Slow, clock: Clock) -> None:
    first = await feed.get(("shop", "a"), interest(), 980.0)
    clock.now += 1.0
    assert await feed.get(("shop", "b"), interest(), 981.0) is first
    clock.now += 0.1
    assert await feed.get(("shop", "b"), interest(), 981.0) is not first
    assert len(source.asked) == 2


async def test_a_slow_answer_serves_all_who_waited_for_it(feed: Feed, source: Slow, clock: Clock) -> None:
    source.go.clear()
    reads = [asyncio.create_task(feed.get(("shop", "a"), interest(), 980.0)) for _ in range(5)]
    await asyncio.sleep(0)
    clock.now += 4.0
    source.go.set()
    assert {snapshot.at for snapshot in await asyncio.gather(*reads)} == {1000.0}
    assert len(source.asked) == 1


async def test_an_unknown_threshold_namespace_or_an_older_time_asks_anew(feed: Feed, source: Slow) -> None:
    await feed.get(("shop", "a"), interest("shop", 80), 980.0)
    await feed.get(("shop", "b"), interest("shop", 90), 980.0)
    await feed.get(("bank", "c"), interest("bank", 80), 980.0)
    await feed.get(("shop", "a"), interest("shop", 80), 700.0)
    await feed.get(("shop", "a"), interest("shop", 80), -5000.0)
    await feed.get(("shop", "a"), interest("shop", 80), -9000.0)
    assert [promql for promql, _ in source.asked] == [
        "['shop'][80]|20",
        "['shop'][80, 90]|20",
        "['bank', 'shop'][80, 90]|20",
        "['bank', 'shop'][80, 90]|300",
        "['bank', 'shop'][80, 90]|900",
    ]


async def test_a_rollout_that_asks_no_more_is_forgotten(feed: Feed, source: Slow, clock: Clock) -> None:
    await feed.get(("shop", "a"), interest("shop"), 980.0)
    clock.now += 901
    await feed.get(("bank", "b"), interest("bank"), 1881.0)
    assert source.asked[-1][0] == "['bank'][80]|20"


async def test_a_failing_source_is_asked_once_a_second(feed: Feed, source: Slow, clock: Clock) -> None:
    source.fail = down()
    for step in range(30):
        clock.now = 1000.0 + step / 10
        with pytest.raises(SourceError, match="cannot be reached"):
            await feed.get(("shop", "a"), interest(), 980.0)
    assert [at for _, at in source.asked] == pytest.approx([1000.0, 1001.1, 1002.2])
    source.fail = None
    clock.now = 1004.0
    assert (await feed.get(("shop", "a"), interest(), 980.0)).at == 1004.0


async def test_a_read_that_is_given_up_leaves_the_others_going(feed: Feed, source: Slow) -> None:
    source.go.clear()
    reads = [asyncio.create_task(feed.get(("shop", "a"), interest(), 980.0)) for _ in range(3)]
    await asyncio.sleep(0)
    reads[0].cancel()
    await asyncio.sleep(0)
    source.go.set()
    results = await asyncio.gather(*reads, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1] is results[2]


async def test_history_that_is_too_large_is_given_up(feed: Feed, source: Slow) -> None:
    source.too_large_above = 100
    snapshot = await feed.get(("shop", "a"), interest(), 400.0)
    assert snapshot.start == 980.0
    assert [promql for promql, _ in source.asked] == ["['shop'][80]|600", "['shop'][80]|20"]
    source.too_large_above = 10
    with pytest.raises(SourceError, match="Too large"):
        await feed.get(("shop", "a"), interest(), 400.0)


async def test_a_clock_that_is_set_back_makes_nothing_young(feed: Feed, source: Slow, clock: Clock) -> None:
    await feed.get(("shop", "a"), interest(), 980.0)
    clock.now = 500.0
    assert (await feed.get(("shop", "a"), interest(), 480.0)).at == 500.0


async def test_snapshots_settle_behind_the_clocks(feed: Feed, source: Slow) -> None:
    source.clock_ahead = 3.0
    assert (await feed.get(("shop", "a"), interest(), 980.0)).settled == 995.0


async def test_an_answer_does_not_become_young_again_when_a_clock_that_was_set_back_catches_up(
    feed: Feed, source: Slow, clock: Clock
) -> None:
    first = await feed.get(("shop", "a"), interest(), 980.0)
    clock.now -= 8
    source.fail = SourceError("clock", "Set back.")
    with pytest.raises(SourceError):
        await feed.get(("shop", "a"), interest(), 980.0)
    clock.now += 8
    source.fail = None
    assert await feed.get(("shop", "a"), interest(), 980.0) is not first
