"""Looks at a Prometheus in memory: what is counted, and what is said to be missing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from kanarya.decision.counts import Attempts, Counts, Missing
from kanarya.telemetry.collector import ReadRequest
from tests.unit.telemetry.fakes import Router, request
from tests.unit.telemetry.watched import ROUTER, World


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


def test_names_of_routers() -> None:
    asked: ReadRequest = request()
    assert asked.is_router(ROUTER)
    assert asked.is_router("fraud-router-0")
    assert not replace(asked, router_pod_prefix="fraud-router-eu-").is_router(ROUTER)
