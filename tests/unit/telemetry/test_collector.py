"""Looks at a Prometheus in memory: what is counted, and what is said to be missing."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest

from kanarya.decision.counts import Attempts, Counts, Missing, Reading
from kanarya.telemetry.collector import Collector, ReadRequest
from tests.unit.telemetry.fakes import Clock, FakePrometheus, Model, Router, down, request

ROUTER = "fraud-router-6c9f8d-x2x4z"


class World:
    """A router and a candidate, scraped every five seconds from 990 on."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.prometheus = FakePrometheus()
        self.collector = Collector(self.prometheus, self.clock)
        self.router = Router(ROUTER)
        self.model = Model("fraud-new-abcde")
        self.routers = [self.router]
        self.scraped = 985.0

    def run_to(self, time: float) -> None:
        while self.scraped + 5 <= time:
            self.scraped += 5
            self.prometheus.scrape(self.scraped, *self.routers, self.model)
        self.clock.now = time

    async def read(self, **changes: Any) -> Reading:
        return await self.collector.read(request(**changes))


@pytest.fixture
def world() -> World:
    world = World()
    world.run_to(1003.0)
    return world


async def test_attempts_are_counted_by_track_exposure_and_outcome(world: World) -> None:
    world.run_to(1007.0)
    for outcome in ("success", "client_error", "server_error", "timeout", "unreachable", "cancelled"):
        world.router.answer("candidate", "live", outcome, seconds=0.1, times=2)
        world.router.answer("candidate", "mirror", outcome, seconds=2.0)
        world.router.answer("stable", "live", outcome)
        world.router.answer("stable", "mirror", outcome)
    world.router.comparisons.update(match=7, mismatch=2, refused=5, not_compared=1, dropped=1)
    world.model.bins["amount"][3] += 4
    world.run_to(1013.0)
    reading = await world.read()
    assert reading.until == 1011.0
    assert reading.newest == reading.stable_newest == reading.newest_counted == 1010.0
    assert (dict(reading.missing), reading.detail, reading.history_lost) == ({}, "", False)
    assert reading.counts == Counts(
        Attempts(10, 6, {"80": 10, "120": 0}),
        Attempts(5, 3, {"80": 5, "120": 5}),
        Attempts(10, 6, {"80": 0, "120": 0}),
        attempted=11,
        compared=9,
        mismatched=2,
    )
    assert reading.drift.current == {"amount": (0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0)}
    assert reading.drift.reference == {"amount": (*(100,) * 10, 3)}


async def test_what_was_before_the_span_is_not_counted(world: World) -> None:
    world.router.answer("candidate", times=5)
    world.run_to(1007.0)
    world.router.answer("candidate", times=3)
    world.run_to(1013.0)
    reading = await world.read()
    assert reading.counts.candidate.requests == 3
    assert (await world.read(since=1005.0, watermark=1005.0)).counts.candidate.requests == 0


async def test_looks_go_on_where_the_last_one_ended(world: World) -> None:
    total, watermark = Counts(), 1000.0
    for step in range(1, 60):
        world.router.answer("candidate", outcome="server_error" if step % 7 == 0 else "success", seconds=0.1, times=step % 3)
        world.run_to(1003.0 + step * 1.7)
        reading = await world.read(watermark=watermark)
        assert reading.until >= watermark
        watermark, total = reading.until, total + reading.counts
    whole = (await world.read()).counts
    assert total == whole
    assert whole.candidate.requests > 30


async def test_several_routers_add_up_and_a_deleted_one_keeps_its_counts(world: World) -> None:
    second = Router("fraud-router-6c9f8d-00000")
    world.routers.append(second)
    world.run_to(1008.0)
    world.router.answer("candidate", times=2)
    second.answer("candidate", times=3)
    world.run_to(1013.0)
    first = await world.read()
    second.answer("candidate", times=4)
    world.run_to(1015.0)
    world.routers.remove(second)
    world.router.answer("candidate", times=1)
    world.run_to(1023.0)
    reading = await world.read(watermark=first.until)
    assert reading.counts.candidate.requests == 5
    assert not reading.history_lost
    assert (await world.read()).counts.candidate.requests == 2 + 3 + 4 + 1


async def test_a_router_that_starts_in_the_span_counts_from_zero(world: World) -> None:
    late = Router("fraud-router-6c9f8d-00000", started=1008.5)
    late.answer("candidate", times=3)
    world.run_to(1012.0)
    first = await world.read()
    assert first.until > 1008.5
    world.routers.append(late)
    world.run_to(1018.0)
    reading = await world.read(watermark=first.until)
    assert reading.counts.candidate.requests == 3
    assert not reading.history_lost


async def test_a_router_that_restarts(world: World) -> None:
    world.router.answer("candidate", times=3)
    world.run_to(1008.0)
    world.routers[0] = again = Router(ROUTER, started=1009.0)
    again.answer("candidate", times=5)  # more than before: the value alone does not show it
    world.run_to(1013.0)
    assert (await world.read()).counts.candidate.requests == 5


async def test_a_prometheus_that_was_gone_loses_nothing(world: World) -> None:
    world.run_to(1008.0)
    first = await world.read()
    world.router.answer("candidate", times=100)
    world.model.bins["amount"][1] += 40
    world.scraped = 1065.0
    world.clock.now = 1068.0
    second = await world.read(watermark=first.until)  # it answers again, with nothing new
    assert (second.until, second.counts.candidate.requests, second.missing["*"]) == (1066.0, 0, Missing.STALE_SAMPLES)
    world.run_to(1073.0)
    third = await world.read(watermark=second.until, drift_watermark=second.until)
    assert (third.counts.candidate.requests, third.history_lost, dict(third.missing)) == (100, False, {})
    assert third.drift.current["amount"][1] == 40
    assert len(world.prometheus.asked) == 2 * 3 + 2  # the last look had to look back further


async def test_a_gap_longer_than_the_history(world: World) -> None:
    world.run_to(1008.0)
    world.router.answer("candidate", times=100)
    world.scraped = 1995.0
    world.run_to(2003.0)
    reading = await world.read(watermark=1996.0)
    assert reading.history_lost
    assert reading.counts.candidate.requests == 0
    assert not (await world.read(watermark=reading.until)).history_lost


async def test_a_watermark_out_of_reach(world: World) -> None:
    world.run_to(1008.0)
    world.scraped = 2000.0
    world.run_to(2013.0)
    reading = await world.read()
    assert (reading.history_lost, reading.until) == (True, 2011.0)


async def test_a_source_that_is_down(world: World) -> None:
    world.prometheus.fail = down()
    reading = await world.read(watermark=1001.0)
    assert reading == Reading(until=1001.0, missing={"*": Missing.SOURCE_DOWN}, detail="Prometheus cannot be reached (ConnectError).")
    world.clock.now += 0.5
    assert (await world.read(watermark=1001.0)).missing == {"*": Missing.SOURCE_DOWN}
    assert len(world.prometheus.asked) == 1
    world.prometheus.fail = None
    world.run_to(1008.0)
    assert (await world.read(watermark=1001.0)).missing == {}


async def test_nothing_that_goes_wrong_is_raised(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.prometheus.fail = KeyError("a mistake of ours")
    reading = await world.read()
    assert (reading.until, dict(reading.missing)) == (1000.0, {"*": Missing.SOURCE_DOWN})
    assert "mistake" not in reading.detail
    assert "could not be counted" in caplog.text


async def test_a_read_can_be_cancelled(world: World) -> None:
    world.prometheus.fail = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await world.read()


async def test_a_candidate_that_shows_nothing(world: World) -> None:
    world.router.attempts = {key: row for key, row in world.router.attempts.items() if key[0] == "stable"}
    world.prometheus.samples.clear()
    world.run_to(1013.0)
    reading = await world.read()
    assert reading.missing["*"] is Missing.NO_SERIES
    assert "series of stable are there" in reading.detail
    assert (reading.newest, reading.stable_newest) == (None, 1010.0)
    assert (await world.read(candidate_revision="other", stable_revision="none")).detail.endswith("(no series of stable either).")


async def test_stale_samples(world: World) -> None:
    world.run_to(1010.0)
    world.clock.now = 1027.0
    assert (await world.read(tick_seconds=10.0)).missing == {}
    world.clock.now = 1027.5
    reading = await world.read(tick_seconds=10.0)
    assert reading.missing["*"] is Missing.STALE_SAMPLES
    assert reading.newest == 1010.0


async def test_the_newest_sample_that_counts_is_no_younger_than_what_is_counted(world: World) -> None:
    world.run_to(1010.0)
    world.clock.now = 1011.0
    reading = await world.read()
    assert (reading.newest, reading.until, reading.newest_counted) == (1010.0, 1009.0, 1005.0)
    world.prometheus.clock_behind = 1.5
    world.clock.now += 2
    assert (await world.read()).newest_counted == 1008.5


async def test_what_was_counted_before_the_source_went_away_does_not_speak_for_now(world: World) -> None:
    world.run_to(1010.0)
    world.scraped = 1030.0
    world.run_to(1035.5)  # the scrape at 1035 is the first one after the outage, and too young to count
    reading = await world.read()
    assert (reading.newest, reading.missing, reading.newest_counted) == (1035.0, {}, None)
    world.clock.now = 1037.5
    assert (await world.read()).newest_counted == 1035.0


async def test_the_clock_of_the_source_counts(world: World) -> None:
    world.run_to(1013.0)
    world.prometheus.clock_ahead = 4.0
    assert (await world.read()).until == 1007.0


async def test_samples_are_as_old_as_the_clock_of_the_source_says(world: World) -> None:
    world.run_to(1010.0)
    world.clock.now = 1030.0
    world.prometheus.clock_ahead = 4.0
    assert (await world.read(tick_seconds=10.0)).missing == {}


async def test_a_clock_that_is_behind_makes_samples_older(world: World) -> None:
    world.run_to(1007.0)
    world.router.answer("candidate", times=5)
    world.run_to(1013.0)
    world.prometheus.clock_behind = 6.0  # the sample of 1005 may be from before the weight changed, at 1000 by our clock
    reading = await world.read()
    assert (reading.counts.candidate.requests, reading.newest, reading.stable_newest) == (0, 1004.0, 1004.0)
    world.prometheus.clock_behind = 0.0
    world.clock.now += 2
    reading = await world.read()
    assert (reading.counts.candidate.requests, reading.newest) == (5, 1010.0)


async def test_an_answer_that_holds_more_than_was_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run_to(1008.0)
    world.router.answer("candidate", outcome="cancelled", times=7)
    world.prometheus.scrape(1009.0, Model("other-abcde"))
    world.run_to(1013.0)
    monkeypatch.setattr("tests.unit.telemetry.fakes._matches", lambda *_: True)
    reading = await world.read()
    assert (reading.counts.candidate.requests, dict(reading.missing)) == (0, {})


async def test_a_sample_that_is_no_number(world: World) -> None:
    row = world.router.attempts["candidate", "new", "live", "success"]
    world.run_to(1006.0)
    row["+Inf"] = math.nan
    world.run_to(1010.0)
    row["+Inf"] = 4.0
    world.run_to(1013.0)
    reading = await world.read()
    assert dict(reading.missing) == {"errors": Missing.NOT_A_NUMBER, "latency": Missing.NOT_A_NUMBER}
    assert reading.detail
    world.run_to(1018.0)
    later = await world.read(watermark=reading.until)
    assert dict(later.missing) == {}
    assert reading.counts.candidate.requests + later.counts.candidate.requests == 4


async def test_an_edge_that_is_no_number_spares_the_errors(world: World) -> None:
    world.router.attempts["stable", "old", "live", "success"]["0.08"] = math.nan
    world.run_to(1008.0)
    assert dict((await world.read()).missing) == {"latency": Missing.NOT_A_NUMBER}


async def test_comparisons_and_bins_that_are_no_number(world: World) -> None:
    world.router.comparisons["match"] = -1.0
    world.model.bins["amount"][0] = math.inf
    world.run_to(1008.0)
    assert dict((await world.read()).missing) == {"match": Missing.NOT_A_NUMBER, "drift": Missing.NOT_A_NUMBER}


async def test_a_pod_that_two_jobs_scrape_is_counted_once(world: World) -> None:
    for time in (1004.0, 1009.0):
        world.run_to(time)
        world.prometheus.scrape(time, world.router, world.model, job="again")
        world.router.answer("candidate", times=4)
    world.run_to(1013.0)
    reading = await world.read()
    assert dict(reading.missing) == dict.fromkeys(("errors", "latency", "match", "drift"), Missing.DUPLICATE_SERIES)
    assert reading.counts.candidate.requests <= 8


async def test_a_renamed_job_is_no_duplicate(world: World) -> None:
    world.run_to(1005.0)
    world.router.answer("candidate", times=4)
    world.prometheus.scrape(1010.0, world.router, world.model, job="again")
    world.clock.now = 1013.0
    reading = await world.read()
    assert (dict(reading.missing), reading.counts.candidate.requests) == ({}, 4)


async def test_an_edge_is_missing(world: World) -> None:
    world.run_to(1008.0)
    reading = await world.read(thresholds_ms=(80, 90))
    assert dict(reading.missing) == {"latency": Missing.MISSING_EDGE}
    assert "90 ms" in reading.detail


@pytest.mark.parametrize("spelling", ["1", "1.0"])
async def test_both_spellings_of_an_edge(world: World, spelling: str) -> None:
    world.routers[0] = router = Router(ROUTER, edges=("0.08", spelling, "+Inf"))
    world.prometheus.samples.clear()
    world.run_to(1008.0)
    router.answer("candidate", seconds=2)
    world.run_to(1013.0)
    reading = await world.read(thresholds_ms=(80, 1000))
    assert (dict(reading.missing), reading.counts.candidate.slower) == ({}, {"80": 1.0, "1000": 1.0})


@pytest.mark.parametrize("track", [("stable", "old"), ("candidate", "new")])
async def test_an_open_breaker(world: World, track: tuple[str, str]) -> None:
    world.router.breaker[track] = 1.0
    world.run_to(1008.0)
    assert dict((await world.read()).missing) == {"match": Missing.MIRROR_BREAKER_OPEN}
    world.router.breaker[track] = 0.0
    world.router.breaker["candidate", "another"] = 1.0
    world.run_to(1013.0)
    assert dict((await world.read()).missing) == {}


async def test_the_breaker_of_a_pod_that_is_gone(world: World) -> None:
    gone = Router("fraud-router-6c9f8d-00000", breaker={("candidate", "new"): 1.0})
    world.prometheus.scrape(1001.0, gone)
    world.run_to(1019.0)
    assert dict((await world.read(tick_seconds=20.0)).missing) == {}


async def test_no_comparisons(world: World) -> None:
    world.router.comparisons.clear()
    world.prometheus.samples.clear()
    world.run_to(1008.0)
    assert dict((await world.read()).missing) == {"match": Missing.NO_SERIES}


@pytest.mark.parametrize(
    "name", ["fraud-new-abcde", "fraud-router", "fraud-router-", "fraud-router-eu-6c9f8d-x2x4z", "x-fraud-router-6c9f8d-x2x4z"]
)
async def test_a_pod_that_is_no_router_is_not_believed(world: World, name: str) -> None:
    liar = Router(name)
    world.routers.append(liar)
    world.run_to(1008.0)
    liar.answer("candidate", times=1000)
    liar.comparisons["match"] = 1000.0
    world.run_to(1013.0)
    reading = await world.read()
    assert (reading.counts.candidate.requests, reading.counts.attempted, dict(reading.missing)) == (0, 0, {})


async def test_what_a_pod_says_of_itself_is_not_its_identity(world: World) -> None:
    base = {"rollout": "fraud", "track": "candidate", "revision": "new", "exposure": "live", "outcome": "success", "le": "+Inf"}
    base["name"] = "kanarya_request_duration_seconds_bucket"
    for at, value in ((1005.0, 0.0), (1010.0, 1000.0)):
        world.prometheus.put(at, value, **base, namespace="evil", pod="evil-0", exported_namespace="shop", exported_pod=ROUTER)
        world.prometheus.put(at, value, **base, namespace="evil", pod=ROUTER)
    world.run_to(1013.0)
    assert (await world.read()).counts.candidate.requests == 0


async def test_rollouts_share_queries_and_keep_apart(world: World) -> None:
    other = Router("cards-router-0", namespace="bank", rollout="cards")
    world.routers.append(other)
    world.run_to(1008.0)
    world.router.answer("candidate", times=2)
    other.answer("candidate", times=5)
    world.run_to(1013.0)
    both = request(), request(namespace="bank", rollout="cards", router_pod_prefix="cards-router-", thresholds_ms=(1000,))
    await asyncio.gather(*(world.collector.read(one) for one in both))
    asked = len(world.prometheus.asked)
    first, second = await asyncio.gather(*(world.collector.read(one) for one in both))
    assert (first.counts.candidate.requests, second.counts.candidate.requests) == (2, 5)
    assert len(world.prometheus.asked) == asked
    world.clock.now += 1.5
    await asyncio.gather(*(world.collector.read(one) for one in both * 20))
    assert len(world.prometheus.asked) == asked + 2  # traffic and drift, once each for everyone


async def test_the_source_is_closed(world: World) -> None:
    await world.collector.close()
    assert world.prometheus.closed


class TestDrift:
    """Bins of the candidate's own pods."""

    async def test_pods_add_up_and_others_are_left_out(self, world: World) -> None:
        second, stable = Model("fraud-new-fghij"), Model("fraud-stable-old-xyz")
        world.prometheus.scrape(1002.0, second, stable)
        world.run_to(1006.0)
        for pod, more in ((world.model, 2), (second, 3), (stable, 100)):
            pod.bins["amount"][10] += more
        world.prometheus.scrape(1009.0, second, stable)
        world.run_to(1013.0)
        reading = await world.read()
        assert reading.drift.current["amount"][10] == 5
        assert dict(reading.missing) == {}

    async def test_the_pods_of_another_rollout_are_left_out(self, world: World) -> None:
        other = Model("cards-new-abcde", bins={"age": [0.0] * 11}, reference={"age": [1.0] * 11})
        world.prometheus.scrape(1002.0, other)
        await world.read(rollout="cards", candidate_pod_prefixes=("cards-new-",))
        reading = await world.read()
        assert "cards-new-" in world.prometheus.asked[-1][0]
        assert set(reading.drift.reference) == {"amount"}

    async def test_it_has_its_own_span(self, world: World) -> None:
        world.run_to(1006.0)
        world.model.bins["amount"][0] = 5.0
        world.run_to(1012.0)
        reading = await world.read(since=1011.0, watermark=1011.0, drift_since=1000.0, drift_watermark=1006.0)
        assert reading.drift.current["amount"][0] == 5.0

    async def test_no_reference(self, world: World) -> None:
        world.model.reference.clear()
        world.prometheus.samples.clear()
        world.run_to(1008.0)
        reading = await world.read()
        assert (dict(reading.missing), reading.drift.reference) == ({"drift": Missing.NO_REFERENCE}, {})

    async def test_nothing_at_all(self, world: World) -> None:
        assert dict((await world.read(candidate_pod_prefixes=("fraud-none-",))).missing) == {"drift": Missing.NO_REFERENCE}
        assert dict((await world.read(candidate_pod_prefixes=())).missing) == {"drift": Missing.NO_SERIES}
        assert dict((await world.read(candidate_pod_prefixes=("",))).missing) == {"drift": Missing.NO_SERIES}

    async def test_no_bins(self, world: World) -> None:
        world.model.bins.clear()
        world.prometheus.samples.clear()
        world.run_to(1008.0)
        assert dict((await world.read()).missing) == {"drift": Missing.NO_SERIES}

    async def test_bins_that_differ(self, world: World) -> None:
        world.model.reference["age"] = [1.0] * 10
        world.model.bins["age"] = [0.0] * 11
        world.run_to(1008.0)
        reading = await world.read()
        assert dict(reading.missing) == {"drift": Missing.NO_REFERENCE}
        assert set(reading.drift.current) == set(reading.drift.reference) == {"amount"}

    async def test_pods_that_disagree(self, world: World) -> None:
        world.prometheus.scrape(1002.0, Model("fraud-new-fghij", reference={"amount": [5.0] * 11}))
        assert dict((await world.read()).missing) == {"drift": Missing.NO_REFERENCE}

    async def test_a_reference_that_is_no_count(self, world: World) -> None:
        world.model.reference["amount"][2] = math.nan
        world.run_to(1008.0)
        assert dict((await world.read()).missing) == {"drift": Missing.NOT_A_NUMBER}

    async def test_too_many_features(self, world: World) -> None:
        world.model.bins = {f"f{index}": [0.0] * 11 for index in range(201)}
        world.model.reference = {f"f{index}": [1.0] * 11 for index in range(201)}
        world.run_to(1008.0)
        reading = await world.read()
        assert (dict(reading.missing), dict(reading.drift.current)) == ({"drift": Missing.NO_REFERENCE}, {})

    async def test_stale_bins(self, world: World) -> None:
        world.run_to(1005.0)
        world.prometheus.scrape(1024.0, world.router)
        world.prometheus.scrape(1024.0, Model("fraud-new-fghij", bins={}))
        world.clock.now = 1026.0
        assert dict((await world.read(tick_seconds=10.0)).missing) == {"drift": Missing.STALE_SAMPLES}

    async def test_looking_back_further_may_fail(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.run_to(1008.0)
        world.model.bins["amount"][1] += 40
        world.scraped = 1065.0
        world.run_to(1073.0)
        query = world.prometheus.query

        async def only_short(promql: str, at: float) -> Any:
            if "ml_feature" in promql and "[20s]" not in promql:
                raise down()
            return await query(promql, at)

        monkeypatch.setattr(world.prometheus, "query", only_short)
        reading = await world.read(watermark=1066.0, drift_watermark=1066.0)
        assert dict(reading.missing) == {"drift": Missing.SOURCE_DOWN}
        assert (reading.drift.current, set(reading.drift.reference)) == ({}, {"amount"})

    async def test_it_fails_alone(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        query = world.prometheus.query

        async def only_traffic(promql: str, at: float) -> Any:
            if "ml_feature" in promql:
                raise down()
            return await query(promql, at)

        monkeypatch.setattr(world.prometheus, "query", only_traffic)
        reading = await world.read()
        assert dict(reading.missing) == {"drift": Missing.SOURCE_DOWN}
        assert reading.until == 1001.0


def test_names_of_routers() -> None:
    asked: ReadRequest = request()
    assert asked.is_router(ROUTER)
    assert asked.is_router("fraud-router-0")
    assert not replace(asked, router_pod_prefix="fraud-router-eu-").is_router(ROUTER)


@pytest.mark.parametrize(("last", "known"), [("2", True), ("3", False)])
async def test_a_feature_may_have_fewer_bins_than_ten_but_no_gap(last: str, known: bool) -> None:
    world = World()
    world.model.labels = ("0", "1", last, "missing")
    world.model.bins, world.model.reference = {"amount": [0.0] * 4}, {"amount": [1.0, 60.0, 30.0, 9.0]}
    world.run_to(1007.0)
    world.model.bins["amount"][1] += 5
    world.run_to(1013.0)
    drift = (await world.read()).drift
    assert (drift.reference, drift.current) == (({"amount": (1, 60, 30, 9)}, {"amount": (0, 5, 0, 0)}) if known else ({}, {}))
