"""Looks at a Prometheus in memory that was gone, is stale, or shows what cannot be counted."""

from __future__ import annotations

import asyncio
import math

import pytest

from kanarya.decision.counts import Missing, Reading
from tests.unit.telemetry.fakes import Model, Router, down
from tests.unit.telemetry.watched import ROUTER, World


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


async def test_an_answer_with_nothing_new_is_blank(world: World) -> None:
    world.run_to(1008.0)
    assert not (await world.read()).blank
    assert (await world.read(watermark=1006.0)).blank
    world.prometheus.nothing = True
    world.run_to(1030.0)
    assert (await world.read(watermark=1006.0)).blank
    world.prometheus.nothing = False
    world.run_to(1032.0)
    assert not (await world.read(watermark=1006.0)).blank
