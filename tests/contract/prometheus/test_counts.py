"""What is counted through a real Prometheus is what its exporters did, to the last request."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from kanarya.decision.counts import Attempts, Counts, Missing, Reading, add_bins
from kanarya.telemetry import Collector, PrometheusSource, ReadRequest, SourceConfig
from tests.contract.prometheus.server import SCRAPE_SECONDS, Exporter, MissingProgramError, Prometheus, find_prometheus
from tests.unit.telemetry.fakes import Model, Pod, Router, exposition, request


@pytest.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[Prometheus]:
    try:
        program = find_prometheus()
    except MissingProgramError as error:
        pytest.fail(str(error), pytrace=False)
    server = Prometheus(program, tmp_path)
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
async def collector_of() -> AsyncIterator[Callable[[Prometheus], Collector]]:
    made: list[Collector] = []

    def make(prometheus: Prometheus) -> Collector:
        config = SourceConfig(url=prometheus.url, scrape_interval_seconds=SCRAPE_SECONDS, timeout_seconds=2)
        made.append(Collector(PrometheusSource(config), time.time))
        return made[-1]

    yield make
    for collector in made:
        await collector.close()


@pytest.fixture
def collector(prometheus: Prometheus, collector_of: Callable[[Prometheus], Collector]) -> Collector:
    return collector_of(prometheus)


@dataclass
class Watcher:
    """Looks every half second, as the operator would, and adds up."""

    collector: Collector
    request: ReadRequest
    counts: Counts = field(default_factory=Counts)
    bins: dict[str, tuple[float, ...]] = field(default_factory=dict)
    last: Reading | None = None
    seen: set[Missing] = field(default_factory=set)

    async def look(self) -> Reading:
        reading = await self.collector.read(self.request)
        assert not reading.history_lost
        assert reading.until >= self.request.watermark
        self.counts += reading.counts
        self.bins = add_bins(self.bins, reading.drift.current)
        self.seen.update(reading.missing.values())
        self.request = replace(self.request, watermark=reading.until, drift_watermark=reading.until)
        self.last = reading
        return reading

    async def passes(self, moment: float) -> None:
        """Wait until looks have gone on beyond a moment."""
        for _ in range(100):
            if self.request.watermark > moment:
                return
            await asyncio.sleep(0.1)
        raise AssertionError("the watermark stands still")

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def in_background(*jobs: asyncio.Task[None]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for job in jobs:
            job.cancel()
        for result in await asyncio.gather(*jobs, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


@dataclass
class Load:
    """Requests that routers answer, while it is on."""

    routers: list[Router]
    model: Model
    on: bool = False
    truth: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("requests", "errors", "slow", "stable", "mismatch", "bins"), 0.0)
    )

    async def run(self) -> None:
        step = 0
        while True:
            if self.on:
                step += 1
                for router in self.routers:
                    self._answer(router, step)
            await asyncio.sleep(0.01)

    def _answer(self, router: Router, step: int) -> None:
        outcome = "server_error" if step % 7 == 0 else "success"
        slow = step % 5 == 0
        router.answer("candidate", "mirror" if step % 3 else "live", outcome, seconds=0.1 if slow else 0.01)
        router.answer("candidate", outcome="cancelled")
        router.answer("stable", times=2)
        router.comparisons["mismatch" if step % 11 == 0 else "match"] += 1
        self.model.bins["amount"][step % 11] += 1
        counted = {"requests": 1, "errors": outcome == "server_error", "slow": slow, "stable": 2, "mismatch": step % 11 == 0, "bins": 1}
        self.truth = {key: value + counted[key] for key, value in self.truth.items()}


def counted(watcher: Watcher) -> dict[str, float]:
    return {
        "requests": watcher.counts.candidate.requests,
        "errors": watcher.counts.candidate.errors,
        "slow": watcher.counts.candidate.slower["80"],
        "stable": watcher.counts.stable.requests,
        "mismatch": watcher.counts.mismatched,
        "bins": sum(sum(row) for row in watcher.bins.values()),
    }


async def test_counts_are_exact_through_a_reset_a_restart_of_prometheus_and_a_late_target(
    prometheus: Prometheus, collector: Collector
) -> None:
    began = time.time()
    router, model = Router("fraud-router-6c9f8d-x2x4z", started=began - 100), Model("fraud-new-abcde", started=began - 100)
    late = Router("fraud-router-6c9f8d-00000")
    for outcome in ("success", "server_error"):
        router.answer("candidate", outcome=outcome, times=1000)  # before the span: must never count
    load = Load([router], model)
    async with Exporter(router).serving() as first, Exporter(late).serving() as second, Exporter(model).serving() as third:
        prometheus.scrape(first, third)
        await prometheus.start()
        await asyncio.gather(first.scraped(), third.scraped())
        since = time.time()
        times = {"since": since, "watermark": since, "drift_since": since, "drift_watermark": since}
        watcher = Watcher(collector, request(tick_seconds=1.0, **times))
        await asyncio.gather(first.scraped(), third.scraped())
        async with in_background(asyncio.create_task(load.run()), asyncio.create_task(watcher.run())):
            load.on = True
            await first.scraped()

            load.on = False  # a process takes with it what nobody scraped
            await first.scraped()
            router.__post_init__()
            router.comparisons.update(dict.fromkeys(router.comparisons, 0.0))
            router.started = time.time()
            load.on = True
            await first.scraped()

            await prometheus.stop()
            await asyncio.sleep(2)
            assert Missing.SOURCE_DOWN in watcher.seen
            await prometheus.start()
            await first.scraped()

            late.started = time.time()
            load.routers.append(late)
            await watcher.passes(late.started)  # it is found only after that
            prometheus.scrape(first, second, third)
            await second.scraped()
            load.on = False
            await asyncio.gather(first.scraped(), second.scraped(), third.scraped())
            await asyncio.sleep(2.2)
        reading = await watcher.look()
        assert dict(reading.missing) == {}
        assert counted(watcher) == load.truth
        assert load.truth["requests"] > 500
        whole = await collector.read(request(tick_seconds=1.0, **times))
        assert whole.counts.candidate == watcher.counts.candidate


async def test_what_is_said_of_bad_samples_and_targets(prometheus: Prometheus, collector: Collector) -> None:
    old = time.time() - 100
    edges = ("0.08", "1", "+Inf")
    router, model = Router("fraud-router-0", started=old, edges=edges), Model("fraud-new-abcde", started=old)
    liar = Router("fraud-new-00000", started=old, edges=edges)
    twice = Router("cards-router-0", started=old, rollout="cards", edges=edges)
    async with (
        Exporter(router).serving() as first,
        Exporter(model).serving() as second,
        Exporter(liar).serving() as third,
        Exporter(twice).serving() as fourth,
        Exporter(twice).serving() as fifth,
    ):
        everyone = (first, second, third, fourth, fifth)
        prometheus.scrape(*everyone)
        await prometheus.start()
        since = time.time()
        asked = request(tick_seconds=1.0, thresholds_ms=(80, 1000), since=since, watermark=since, drift_since=since, drift_watermark=since)
        await asyncio.gather(*(one.scraped() for one in everyone))
        liar.answer("candidate", times=1000)
        router.answer("candidate", seconds=0.5, times=3)
        router.breaker["stable", "old"] = 1.0
        model.bins["amount"][4] = float("nan")
        await asyncio.gather(*(one.scraped() for one in everyone))
        await asyncio.sleep(2.2)
        reading = await collector.read(asked)
        assert reading.counts.candidate.slower == {"80": 3, "1000": 0}
        assert dict(reading.missing) == {"match": Missing.MIRROR_BREAKER_OPEN, "drift": Missing.NOT_A_NUMBER}
        cards = await collector.read(replace(asked, rollout="cards", router_pod_prefix="cards-router-"))
        assert cards.missing["errors"] is Missing.DUPLICATE_SERIES
        assert (await collector.read(replace(asked, rollout="none", router_pod_prefix="none-"))).missing["*"] is Missing.NO_SERIES


async def test_histograms_that_prometheus_keeps_as_native_ones(tmp_path: Path, collector_of: Callable[[Prometheus], Collector]) -> None:
    server = Prometheus(find_prometheus(), tmp_path, convert_classic_histograms_to_nhcb=True)
    began = time.time()
    router, model = Router("fraud-router-6c9f8d-x2x4z", started=began - 100), Model("fraud-new-abcde", started=began - 100)
    router.answer("candidate", seconds=0.1, times=1000)
    try:
        async with Exporter(router).serving() as first, Exporter(model).serving() as second:
            server.scrape(first, second)
            await server.start()
            await asyncio.gather(first.scraped(), second.scraped())
            since = time.time()
            asked = request(tick_seconds=1.0, since=since, watermark=since, drift_since=since, drift_watermark=since)
            await first.scraped()
            for seconds, times in ((0.01, 40), (0.1, 5), (0.5, 3), (2.0, 2)):
                router.answer("candidate", "mirror", "server_error" if seconds == 2.0 else "success", seconds=seconds, times=times)
            await first.scraped()
            await asyncio.sleep(2.2)
            collector = collector_of(server)
            reading = await collector.read(asked)
            assert reading.counts.candidate == Attempts(50, 2, {"80": 10, "120": 5})
            assert (dict(reading.missing), dict(reading.edges)) == ({}, {})
            apart = await collector.read(replace(asked, thresholds_ms=(90, 800)))
            assert apart.counts.candidate == Attempts(50, 2, {"90": 5, "800": 2}, {"90": 10, "800": 5})
            assert dict(apart.edges) == {"90": (80.0, 120.0), "800": (120.0, 1000.0)}
    finally:
        await server.stop()


@dataclass
class ModelServer(Pod):
    """Exposes what a file holds, as an MLServer would."""

    page: str = "mlserver-start"

    def expose(self) -> Iterator[tuple[str, dict[str, str], float]]:
        yield from (one for one in exposition(self.page) if one[0].startswith("rest_server"))
        yield from super().expose()


async def test_a_model_server_whose_series_begin_with_its_first_requests(prometheus: Prometheus, collector: Collector) -> None:
    began = time.time()
    router, bins = Router("fraud-router-6c9f8d-x2x4z", started=began - 100), Model("fraud-new-abcde", started=began - 100)
    candidate, stable = ModelServer("fraud-new-abcde", started=began - 100), ModelServer("fraud-stable-old-7d9f8c-x2x4z", started=None)
    async with (
        Exporter(router).serving() as first,
        Exporter(bins).serving() as second,
        Exporter(candidate).serving() as third,
        Exporter(stable).serving() as fourth,
    ):
        everyone = (first, second, third, fourth)
        prometheus.scrape(*everyone)
        await prometheus.start()
        await asyncio.gather(*(one.scraped() for one in everyone))
        since = time.time()
        times = {"since": since, "watermark": since, "drift_since": since, "drift_watermark": since}
        asked = request(tick_seconds=1.0, profile="mlserver", stable_pod_prefix="fraud-stable-old-", **times)
        await asyncio.gather(*(one.scraped() for one in everyone))
        candidate.page = stable.page = "mlserver-end"
        router.answer("candidate", outcome="unreachable")
        await asyncio.gather(*(one.scraped() for one in everyone))
        await asyncio.sleep(2.2)
        reading = await collector.read(asked)
        assert reading.counts.candidate == Attempts(7, 2, {"80": 1, "120": 0}, {"80": 1, "120": 1}, timed=6)
        assert reading.counts.stable == Attempts(6, 1, {"80": 1, "120": 0}, {"80": 1, "120": 1}, timed=6)
        assert (dict(reading.missing), reading.history_lost) == ({}, False)
        assert dict(reading.edges) == {"80": (75.0, 100.0), "120": (100.0, 250.0)}
