"""Mirroring and comparison, over real sockets; limits with a hanging upstream."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any, cast

import pytest

from kanarya.cluster.port import CONFIGMAPS
from kanarya_inference.router import mirror as mirror_module
from kanarya_inference.router.breaker import Breaker
from kanarya_inference.router.endpoints import Pool
from kanarya_inference.router.metrics import RouterMetrics
from kanarya_inference.router.mirror import Mirror
from kanarya_inference.router.mismatches import Mismatches
from kanarya_inference.router.model import Answer, Attempt, Request
from kanarya_inference.router.pairs import Pairs
from kanarya_inference.router.plan import Plan, Track
from kanarya_inference.router.settings import read_settings
from kanarya_inference.router.upstream import Upstream
from tests.unit.router.cluster import ROLLOUT, configmap
from tests.unit.router.conftest import Rig, Start, eventually

pytestmark = pytest.mark.slow


async def test_copy_goes_to_the_other_track_and_is_compared(rig: Start) -> None:
    router = await rig(mirrorPercent=100)
    router.stable[0].score, router.candidate[0].score = 0.70, 0.75
    assert (await router.predict())[1] == "stable"
    await eventually(lambda: _compared(router, match=1))
    line, headers, body = router.candidate[0].requests[0]
    assert (line, headers["x-kanarya-mirror"], body) == ("POST /ml/predict", "true", b'{"amount": 1}')
    assert "x-kanarya-mirror" not in router.stable[0].requests[0][1]
    assert await router.attempts(track="stable", exposure="live", outcome="success") == 1
    assert await router.attempts(track="candidate", exposure="mirror", outcome="success") == 1

    router.candidate[0].score = 0.76
    await router.predict()
    await eventually(lambda: _compared(router, match=1, mismatch=1))


async def test_candidate_answers_are_mirrored_to_stable(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, mirrorPercent=100)
    assert (await router.predict())[1] == "candidate"
    await eventually(lambda: _compared(router, match=1))
    assert (router.stable[0].mirrored, router.stable[0].live) == (1, 0)
    assert await router.attempts(track="stable", exposure="mirror", outcome="success") == 1


async def test_what_cannot_be_compared_is_said_so(rig: Start) -> None:
    router = await rig(mirrorPercent=100)
    router.candidate[0].score = None
    await router.predict()
    await eventually(lambda: _compared(router, not_compared=1))
    router.candidate[0].score, router.candidate[0].status = 0.5, 500
    await router.predict()
    await eventually(lambda: _compared(router, not_compared=2))
    router.candidate[0].status, router.stable[0].status = 200, 500
    assert (await router.predict())[0] == 500
    await eventually(lambda: _compared(router, not_compared=3))
    assert await router.attempts(track="candidate", exposure="mirror", outcome="server_error") == 1


async def test_slow_copy_costs_the_client_nothing(rig: Start) -> None:
    router = await rig(mirrorPercent=100, mirrorTimeoutMilliseconds=2000)
    router.candidate[0].delay = 0.3
    await router.predict()
    began = time.monotonic()
    for _ in range(10):
        await router.predict()
    assert time.monotonic() - began < 1.5  # 3 s if each waited for its copy
    await eventually(lambda: _compared(router, match=11))


async def test_copy_that_times_out_is_slower_than_every_bucket(rig: Start) -> None:
    router = await rig(mirrorPercent=100, mirrorTimeoutMilliseconds=40)
    router.candidate[0].delay = 0.2
    await router.predict()
    await eventually(lambda: _compared(router, not_compared=1))
    timed_out = {"track": "candidate", "exposure": "mirror", "outcome": "timeout"}
    assert await router.attempts(**timed_out) == 1
    assert await router.sample("kanarya_request_duration_seconds_bucket", **timed_out, le="5.0") == 0
    assert await router.sample("kanarya_request_duration_seconds_bucket", **timed_out, le="+Inf") == 1


async def test_candidate_that_lost_its_pods_is_unreachable(rig: Start) -> None:
    router = await rig(mirrorPercent=100)
    await router.predict()
    await eventually(lambda: _compared(router, match=1))
    await router.candidate[0].stop()
    await router.predict()
    await eventually(lambda: _compared(router, match=1, not_compared=1))
    router.api.put_pods("fraud-candidate")
    await asyncio.sleep(0.02)
    await router.predict()
    await eventually(lambda: _compared(router, match=1, not_compared=2))
    assert await router.attempts(track="candidate", exposure="mirror", outcome="unreachable") == 2


async def test_breaker_suspends_mirroring_and_nothing_else(rig: Start) -> None:
    router = await rig(mirrorPercent=100)
    router.candidate[0].status = 500
    for number in range(5):
        await router.predict()
        await eventually(partial(_compared, router, not_compared=number + 1))
    assert await router.sample("kanarya_mirror_breaker_open", track="candidate") == 1
    assert await router.sample("kanarya_mirror_breaker_open", track="stable") == 0
    assert (await router.predict())[0] == 200
    assert await router.comparisons("dropped") == 1
    assert router.candidate[0].mirrored == 5


async def test_only_posts_are_mirrored(rig: Start) -> None:
    router = await rig(mirrorPercent=100)
    async with router.client.get(router.url) as response:
        assert response.status == 200
    await router.predict()
    await eventually(lambda: _compared(router, match=1))
    assert [line for line, _, _ in router.candidate[0].requests] == ["POST /ml/predict"]


async def test_request_that_fell_back_is_not_copied_again(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, mirrorPercent=100, fallback="AnyError")
    router.candidate[0].status = 500
    assert (await router.predict())[:2] == (200, "stable")
    assert await router.comparisons("not_compared") == 1
    assert (router.stable[0].live, router.stable[0].mirrored) == (1, 0)


async def test_sampling(rig: Start) -> None:
    router = await rig(mirrorPercent=20)
    for _ in range(200):
        await router.predict()
    mirrored = await router.sample("kanarya_comparisons_total") or 0
    assert 20 <= mirrored <= 60  # 40 ± 3.5 standard deviations
    router.api.put(CONFIGMAPS, configmap(mirrorPercent=0))
    await asyncio.sleep(0.05)
    before = router.candidate[0].mirrored
    await router.predict()
    assert router.candidate[0].mirrored == before


class _Hanging:
    """An upstream whose answers come when `release` is set."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.attempts = 0

    async def attempt(self, request: Request, pool: Pool, *, seconds: float) -> Attempt:
        self.attempts += 1
        await self.release.wait()
        return Attempt("success", 0.001, Answer(200, (), b'{"score": 0.5}'))


def _mirror(upstream: _Hanging, clock: _Clock) -> Mirror:
    mismatches = Mismatches(inputs=False, clock=clock, now=lambda: datetime.now(UTC))
    return Mirror(cast("Upstream", upstream), Pairs(Random(1), mismatches), Random(1), clock)


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _plan(clock: _Clock, *, ready: bool = True) -> Plan:
    settings = read_settings(configmap(mirrorPercent=100), ROLLOUT)
    metrics = RouterMetrics(ROLLOUT, clock)
    metrics.follow(settings)
    pools = [Pool(Random(1), clock) for _ in range(2)]
    if ready:
        for pool in pools:
            pool.update([{"addressType": "IPv4", "ports": [{"port": 1}], "endpoints": [{"addresses": ["10.0.0.1"]}]}])
    stable = Track("stable", "fraud-stable", "7d4b9c", pools[0], Breaker(clock), clock(), metrics.series("stable", "7d4b9c"))
    candidate = Track("candidate", "fraud-candidate", "5f6c8d", pools[1], Breaker(clock), clock(), metrics.series("candidate", "5f6c8d"))
    return Plan(settings, 1, stable, candidate, 100, 100)


def _offer(mirror: Mirror, plan: Plan, body: bytes = b"{}") -> None:
    live = Attempt("success", 0.001, Answer(200, (), b'{"score": 0.5}'))
    mirror.offer(plan, plan.stable, Request("POST", "/", [], body), live, fell_back=False)


def _count(plan: Plan, outcome: Any) -> float:
    assert plan.candidate.series is not None
    return float(plan.candidate.series.comparisons[outcome]._value.get())


async def test_queue_is_bounded_and_the_rest_dropped() -> None:
    clock, upstream = _Clock(), _Hanging()
    plan, mirror = _plan(clock), _mirror(upstream, clock)
    for _ in range(mirror_module.IN_FLIGHT_LIMIT + mirror_module.QUEUE_LIMIT + 7):
        _offer(mirror, plan)
    await asyncio.sleep(0)
    assert upstream.attempts == mirror_module.IN_FLIGHT_LIMIT
    assert _count(plan, "dropped") == 7
    upstream.release.set()
    for _ in range(200):
        await asyncio.sleep(0)
    assert _count(plan, "match") == mirror_module.IN_FLIGHT_LIMIT + mirror_module.QUEUE_LIMIT
    await mirror.close()


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "HELD_BYTES_LIMIT", 1000)
    clock, upstream = _Clock(), _Hanging()
    plan, mirror = _plan(clock), _mirror(upstream, clock)
    for _ in range(3):
        _offer(mirror, plan, b"x" * 480)
    assert _count(plan, "dropped") == 1
    upstream.release.set()
    for _ in range(10):
        await asyncio.sleep(0)
    _offer(mirror, plan, b"x" * 480)
    assert _count(plan, "dropped") == 1
    await mirror.close()


async def test_new_candidate_has_time_to_show_its_first_pod() -> None:
    clock, upstream = _Clock(), _Hanging()
    plan, mirror = _plan(clock, ready=False), _mirror(upstream, clock)
    _offer(mirror, plan)
    await asyncio.sleep(0)
    assert upstream.attempts == 0
    clock.now += 10
    _offer(mirror, plan)
    await asyncio.sleep(0)
    assert upstream.attempts == 1
    await mirror.close()
    assert [_count(plan, outcome) for outcome in ("match", "not_compared", "dropped")] == [0, 0, 0]


async def _compared(router: Rig, **expected: int) -> bool:
    found = {outcome: await router.comparisons(outcome) for outcome in ("match", "mismatch", "not_compared", "dropped")}
    return found == {"match": 0, "mismatch": 0, "not_compared": 0, "dropped": 0} | expected
