"""Bodies of requests that pass through while they arrive, over real sockets."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from functools import partial
from io import BytesIO

import pytest
from aiohttp import web

from kanarya_inference.router import intake
from tests.unit.router.cluster import StreamingPod
from tests.unit.router.conftest import Start, eventually
from tests.unit.router.streams import (
    MIB,
    SMALL,
    Events,
    attempts,
    comparisons,
    errors_of_ours,
    half_sent,
    pieces,
    pod,
    received,
    slowly,
    stands_still,
    status,
    was_broken_off,
)

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("pods")
@pytest.mark.parametrize("length", [None, 2 * MIB], ids=["chunked", "length"])
async def test_a_body_is_sent_on_while_it_arrives(rig: Start, length: int | None) -> None:
    router = await rig(options=SMALL, mirrorPercent=100)
    more: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        while (piece := await more.get()) is not None:
            yield piece

    headers = {"content-length": str(length)} if length else {}
    asked = asyncio.create_task(status(router, data=body(), headers=headers))
    sent = 0
    while sent < 2 * MIB:
        more.put_nowait(b"x" * (MIB // 2))
        sent += MIB // 2
        if sent > MIB or length:
            await eventually(partial(received, router, sent))
        assert not asked.done() or sent == length
    more.put_nowait(None)
    assert await asked == 200
    assert pod(router).lengths == [length]
    await eventually(partial(attempts, router, 1, track="stable", exposure="live", outcome="success"))
    await eventually(partial(comparisons, router, "dropped", 1))
    assert router.candidate[0].requests == []


@pytest.mark.usefixtures("pods")
async def test_a_body_up_to_the_limit_is_mirrored_whole_and_one_above_it_is_not(rig: Start) -> None:
    router = await rig(options=SMALL, mirrorPercent=100)
    for data in (b"x" * 1000, pieces(1000, 10)):
        assert await status(router, data=data) == 200
    await eventually(partial(comparisons, router, "match", 2))
    assert pod(router, "candidate").received == 2000
    for data in (b"x" * 1001, pieces(1001, 10)):
        assert await status(router, data=data) == 200
    await eventually(partial(comparisons, router, "dropped", 2))
    assert (pod(router).received, pod(router, "candidate").received) == (4002, 2000)


@pytest.mark.usefixtures("pods")
async def test_a_body_of_200_megabytes_costs_no_memory(rig: Start) -> None:
    router = await rig(options=SMALL, mirrorPercent=100, limit=60)
    block = b"x" * 2**16

    async def body() -> AsyncIterator[bytes]:
        for _ in range(200 * MIB // len(block)):
            yield block

    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        assert await status(router, data=body()) == 200
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pod(router).received == 200 * MIB
    assert peak - before < 16 * MIB, "client, router and pod together"


@pytest.mark.usefixtures("pods")
async def test_a_pod_that_does_not_read_holds_its_client_back(rig: Start) -> None:
    router = await rig(options=SMALL, limit=30)
    pod(router).may_read.clear()
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(64):
            yield b"x" * MIB
            sent += MIB

    asked = asyncio.create_task(status(router, data=body(), headers={"content-length": str(64 * MIB)}))
    await eventually(partial(stands_still, lambda: sent))
    assert sent < 40 * MIB, "what the sockets' buffers hold, and no more"
    pod(router).may_read.set()
    assert await asked == 200
    assert pod(router).received == 64 * MIB


@pytest.mark.usefixtures("pods")
async def test_a_body_that_turns_out_too_long_is_refused_in_its_middle(rig: Start, caplog: pytest.LogCaptureFixture) -> None:
    router = await rig(options=("--max-body-bytes", str(3 * MIB), "--mirror-body-bytes", "1000"))
    assert await status(router, data=pieces(8 * MIB, 2**16)) == 413
    assert await status(router, data=BytesIO(b"x" * 4 * MIB)) == 413
    assert await status(router, data=pieces(3 * MIB, 2**16)) == 200
    await eventually(partial(attempts, router, 1, track="stable", exposure="live", outcome="cancelled"))
    assert await router.attempts(outcome="success") == 1
    assert await router.attempts() == 2
    assert pod(router).finished == 1
    assert not errors_of_ours(caplog)


@pytest.mark.usefixtures("pods")
async def test_a_client_that_stops_in_its_body_is_told_so(rig: Start) -> None:
    router = await rig(options=SMALL, limit=0.3)
    reader, writer = await half_sent(router)
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 408")
    await eventually(partial(attempts, router, 1, track="stable", outcome="cancelled"))
    writer.transport.abort()


@pytest.mark.usefixtures("pods")
async def test_a_client_that_leaves_in_its_body_ends_the_pods_request(rig: Start) -> None:
    router = await rig(options=SMALL, limit=10, mirrorTimeoutMilliseconds=50)
    _, writer = await half_sent(router)
    await eventually(partial(received, router, 1000))
    await asyncio.sleep(0.1)
    writer.transport.abort()
    await eventually(partial(attempts, router, 1, track="stable", outcome="cancelled"))
    await eventually(partial(was_broken_off, router))


@pytest.mark.usefixtures("pods")
async def test_a_body_of_which_nothing_was_sent_is_tried_elsewhere(rig: Start) -> None:
    router = await rig(options=SMALL, stable=0, candidate=100, pods=2, fallback="Unavailable")
    for one in router.candidate:
        await one.stop()
    await router.stable[0].stop()
    for _ in range(4):
        assert await status(router, data=BytesIO(b"x" * 2 * MIB)) == 200
    assert await router.attempts(track="candidate", exposure="live", outcome="unreachable") == 4
    survivor = router.stable[1]
    assert isinstance(survivor, StreamingPod)
    assert survivor.received == 8 * MIB


@pytest.mark.usefixtures("pods")
async def test_a_body_of_which_some_was_sent_is_not_tried_again(rig: Start) -> None:
    router = await rig(options=SMALL, stable=0, candidate=100, fallback="AnyError")

    async def broken(request: web.Request) -> web.StreamResponse:
        await request.content.readany()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    router.candidate[0].handler = broken
    assert await status(router, data=pieces(4 * MIB, 2**16)) == 503
    assert await router.attempts(track="candidate", exposure="live", outcome="unreachable") == 1
    assert router.stable[0].requests == []


@pytest.mark.usefixtures("pods")
async def test_an_answer_before_the_bodys_end_is_passed_on(rig: Start) -> None:
    router = await rig(options=SMALL)

    async def refuse(request: web.Request) -> web.StreamResponse:
        await request.content.readany()
        return web.json_response({"error": "no"}, status=403)

    router.stable[0].handler = refuse
    reader, writer = await half_sent(router)
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 403")
    await eventually(partial(attempts, router, 1, track="stable", outcome="client_error"))
    writer.transport.abort()


@pytest.mark.usefixtures("pods")
async def test_a_client_that_leaves_while_body_and_answer_are_under_way_ends_both(rig: Start) -> None:
    router = await rig(options=SMALL, limit=60)
    events = router.stable[0].handler = Events()
    events.pieces.put_nowait(b"early")
    reader, writer = await half_sent(router)
    assert (await asyncio.wait_for(reader.readuntil(b"early"), 5)).startswith(b"HTTP/1.1 200")
    writer.transport.abort()
    await asyncio.wait_for(events.ended.wait(), 10)
    await eventually(partial(attempts, router, 1, track="stable", exposure="live", outcome="cancelled"))


@pytest.mark.usefixtures("pods")
async def test_the_pod_that_gets_a_long_body_is_slow_only_for_what_it_took_itself(rig: Start) -> None:
    router = await rig(options=SMALL)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"x" * MIB
            await asyncio.sleep(0.2)

    assert await status(router, data=body()) == 200
    assert (await router.sample("kanarya_request_duration_seconds_sum", outcome="success") or 9) < 0.6


async def test_without_memory_to_hold_it_a_body_is_sent_on(rig: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake.Intake.__init__, "__kwdefaults__", {**(intake.Intake.__init__.__kwdefaults__ or {}), "held_limit": 1000})
    router = await rig(options=("--mirror-body-bytes", "1000"), mirrorPercent=100)
    holding = asyncio.create_task(status(router, data=slowly(900)))
    await asyncio.sleep(0.1)
    assert await status(router, data=b"x" * 500) == 200
    assert router.stable[0].requests[0][2] == b"x" * 500
    await eventually(partial(comparisons, router, "dropped", 1))
    assert await holding == 200
