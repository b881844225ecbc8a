"""Behind a gateway's mirror: copies come in, both tracks are asked, nothing counts as live."""

from __future__ import annotations

from functools import partial

import pytest

from kanarya.cluster.port import CONFIGMAPS, HTTPROUTES
from tests.unit.router.cluster import configmap, no_candidate, route
from tests.unit.router.conftest import Rig, Start, eventually

pytestmark = pytest.mark.slow

ONLY = ("--compare-only",)


async def test_a_copy_is_asked_of_both_tracks_and_never_counts_as_live(rig: Start) -> None:
    router = await rig(mirrorPercent=20, options=ONLY)
    router.candidate[0].score = 0.9
    for _ in range(10):
        assert await send(router) == (202, None)
    await eventually(partial(_mismatches, router, 10))
    for track in ("stable", "candidate"):
        assert await router.attempts(track=track, exposure="mirror", outcome="success") == 10, "the gateway has sampled already"
        assert await router.attempts(track=track, exposure="live") == 0
    for pod in (router.stable[0], router.candidate[0]):
        assert (pod.mirrored, pod.live) == (10, 0)
    assert await router.sample("ml_baseline_latency_ms_count", track="stable") == 10


async def test_what_cannot_be_compared_is_left_alone(rig: Start) -> None:
    router = await rig(options=ONLY)
    assert await send(router, "GET") == (204, None)
    router.api.put(CONFIGMAPS, configmap(**no_candidate()))
    await eventually(partial(_answers, router, 204))
    before = len(router.stable[0].requests)
    assert await send(router) == (204, None)
    assert len(router.stable[0].requests) == before


async def test_the_gateways_route_is_not_ours(rig: Start) -> None:
    router = await rig(options=ONLY)
    router.api.put(HTTPROUTES, route(0, 100, generation=5, hostnames=["models.example"]))
    for _ in range(20):
        assert (await send(router))[0] == 202
    assert router.api.patches == []
    assert await router.attempts(exposure="live") == 0


async def test_a_copy_before_the_settings_is_refused(rig: Start) -> None:
    router = await rig(ready=False, options=ONLY)
    assert (await send(router))[0] == 503
    assert (await router.get("/readyz"))[0] == 503


async def test_a_track_that_fails_is_left_in_peace_by_its_breaker(rig: Start) -> None:
    router = await rig(options=ONLY)
    router.stable[0].status = 500
    for number in range(5):
        await send(router)
        await eventually(partial(_counted, router, number + 1))
    assert await router.sample("kanarya_mirror_breaker_open", track="stable") == 1
    asked = len(router.candidate[0].requests)
    assert (await send(router))[0] == 202
    assert await router.comparisons("dropped") == 1
    assert len(router.candidate[0].requests) == asked, "no half of a pair"


async def send(router: Rig, method: str = "POST") -> tuple[int, str | None]:
    async with router.client.request(method, router.url, json={"amount": 1}) as response:
        assert await response.read() == b"" or response.status == 503
        return response.status, response.headers.get("x-kanarya-track")


async def _mismatches(router: Rig, count: int) -> bool:
    return await router.comparisons("mismatch") == count


async def _counted(router: Rig, count: int) -> bool:
    return await router.sample("kanarya_comparisons_total") == count


async def _answers(router: Rig, status: int) -> bool:
    return (await send(router))[0] == status
