"""Answers that pass through while they arrive, over real sockets, and streams when the router leaves."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

import aiohttp
import pytest

from kanarya_inference.router import answers
from tests.unit.router.conftest import Start, eventually
from tests.unit.router.streams import (
    MIB,
    Events,
    attempts,
    chunks,
    comparisons,
    errors_of_ours,
    no_more_tasks_than,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("length", [None, 2 * MIB], ids=["chunked", "of a long known length"])
async def test_each_piece_of_an_answer_arrives_before_the_next_is_made(rig: Start, length: int | None) -> None:
    router = await rig(mirrorPercent=0)
    events = router.stable[0].handler = Events(length=length)
    async with router.client.post(router.url, json={}) as response:
        assert (response.status, response.headers["x-kanarya-track"]) == (200, "stable")
        assert response.headers.get("content-length") == (str(length) if length else None)
        for number in range(3):
            events.pieces.put_nowait(b"data: %d\n\n" % number)
            assert await asyncio.wait_for(response.content.readany(), 5) == b"data: %d\n\n" % number
            assert await router.attempts() == 0, "counted when it is over"
        rest = length - 27 if length else 0
        events.pieces.put_nowait(b"x" * rest or b"!")
        events.pieces.put_nowait(None)
        assert len(await response.read()) == (rest or 1)
    await eventually(partial(attempts, router, 1, track="stable", exposure="live", outcome="success"))


async def test_an_answers_time_is_until_its_last_byte_without_what_the_client_took(rig: Start) -> None:
    router = await rig()
    events = router.stable[0].handler = Events()
    async with router.client.post(router.url, json={}) as response:
        events.pieces.put_nowait(b"first")
        assert await response.content.readany() == b"first"
        await asyncio.sleep(0.3)
        events.pieces.put_nowait(None)
        await response.read()
    await eventually(partial(attempts, router, 1, outcome="success"))
    assert (await router.sample("kanarya_request_duration_seconds_sum", outcome="success") or 0) >= 0.3

    block = b"x" * MIB
    events = router.stable[0].handler = Events()
    async with router.client.post(router.url, json={}) as response:
        for _ in range(24):
            events.pieces.put_nowait(block)
        events.pieces.put_nowait(None)
        await asyncio.sleep(1.5)  # a client that does not read: what does not fit into the sockets' buffers waits
        assert len(await response.read()) == 24 * MIB
    await eventually(partial(attempts, router, 2, outcome="success"))
    assert (await router.sample("kanarya_request_duration_seconds_sum", outcome="success") or 9) < 0.3 + 1.4


async def test_an_answer_that_passed_through_is_compared(rig: Start) -> None:
    router = await rig(mirrorPercent=100)
    router.candidate[0].score = 0.9
    events = router.stable[0].handler = Events(content_type="application/json")
    async with router.client.post(router.url, json={"amount": 1}) as response:
        for piece in (b'{"score"', b": 0.5}", None):
            events.pieces.put_nowait(piece)
        assert await response.json() == {"score": 0.5}
        assert "content-length" not in response.headers
    await eventually(partial(comparisons, router, "mismatch", 1))
    assert router.candidate[0].requests[0][2] == b'{"amount": 1}'


async def test_an_answer_too_long_to_be_kept_is_passed_on_and_not_compared(rig: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kanarya_inference.router.passing.KEPT_ANSWER", MIB)
    monkeypatch.setattr(answers, "KEPT_ANSWER", MIB)
    router = await rig(mirrorPercent=100)
    for one in (router.stable[0], router.candidate[0]):
        one.handler = partial(chunks, 2 * MIB)
    async with router.client.post(router.url, json={}) as response:
        assert len(await response.read()) == 2 * MIB
    await eventually(partial(comparisons, router, "not_compared", 1))
    assert await router.attempts(track="candidate", exposure="mirror", outcome="success") == 1, "no fault of the copy's"


@pytest.mark.parametrize("length", [None, 2 * MIB])
async def test_a_pod_that_breaks_off_ends_the_clients_connection(rig: Start, length: int | None, caplog: pytest.LogCaptureFixture) -> None:
    router = await rig(stable=0, candidate=100, mirrorPercent=100, fallback="AnyError")
    events = router.candidate[0].handler = Events(length=length)
    async with router.client.post(router.url, json={}) as response:
        events.pieces.put_nowait(b"half")
        assert await response.content.readany() == b"half"
        events.pieces.put_nowait(b"break")
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    await eventually(partial(attempts, router, 1, track="candidate", exposure="live", outcome="unreachable"))
    assert await router.attempts(track="candidate", exposure="live") == 1
    assert router.stable[0].live == 0, "half an answer is out: no other can be given"
    await eventually(partial(comparisons, router, "not_compared", 1))
    assert not errors_of_ours(caplog)


async def test_a_short_answer_that_breaks_off_is_answered_by_stable(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, fallback="Unavailable")
    events = router.candidate[0].handler = Events(length=answers.SHORT_ANSWER)
    events.pieces.put_nowait(b"half")
    events.pieces.put_nowait(b"break")
    assert (await router.predict())[:2] == (200, "stable")
    assert await router.attempts(track="candidate", exposure="live", outcome="unreachable") == 1


async def test_a_failed_answer_of_unknown_length_falls_back_before_it_is_passed_on(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, fallback="AnyError")
    events = router.candidate[0].handler = Events(status=500)
    assert (await router.predict())[:2] == (200, "stable")
    assert await router.attempts(track="candidate", exposure="live", outcome="server_error") == 1
    assert await router.sample("kanarya_fallbacks_total", reason="server_error") == 1
    await asyncio.wait_for(events.ended.wait(), 5)


async def test_a_pod_that_falls_silent_is_a_timeout(rig: Start) -> None:
    router = await rig(limit=0.3)
    events = router.stable[0].handler = Events()
    async with router.client.post(router.url, json={}) as response:
        events.pieces.put_nowait(b"half")
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    await eventually(partial(attempts, router, 1, track="stable", outcome="timeout"))
    await asyncio.wait_for(events.ended.wait(), 5)


async def test_an_answer_without_end_is_ended(rig: Start) -> None:
    router = await rig(limit=5, options=("--stream-seconds", "0.5"))
    events = router.stable[0].handler = Events()

    async def go_on() -> None:
        while not events.ended.is_set():
            events.pieces.put_nowait(b"more")
            await asyncio.sleep(0.02)

    going_on = asyncio.create_task(go_on())
    async with router.client.post(router.url, json={}) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    await going_on
    await eventually(partial(attempts, router, 1, track="stable", outcome="timeout"))


async def test_a_client_that_leaves_ends_the_answer(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, mirrorPercent=100, mirrorTimeoutMilliseconds=5000)
    events = router.candidate[0].handler = Events()
    async with router.client.post(router.url, json={}) as response:
        events.pieces.put_nowait(b"half")
        assert await response.content.readany() == b"half"
        response.close()
    await asyncio.wait_for(events.ended.wait(), 5)
    await eventually(partial(attempts, router, 1, track="candidate", exposure="live", outcome="cancelled"))
    assert await router.sample("kanarya_comparisons_total") == 0


async def test_a_client_that_leaves_a_silent_pod_saw_a_timeout(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, mirrorTimeoutMilliseconds=60, limit=10)
    events = router.candidate[0].handler = Events()
    async with router.client.post(router.url, json={}) as response:
        for _ in range(10):  # longer than a copy may take, and nobody's fault
            events.pieces.put_nowait(b"more")
            await response.content.readany()
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        response.close()
    await eventually(partial(attempts, router, 1, track="candidate", exposure="live", outcome="timeout"))


async def test_a_client_that_does_not_read_is_cut_off(rig: Start) -> None:
    router = await rig(limit=0.5)
    router.stable[0].handler = partial(chunks, 64 * MIB)
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port, limit=2**16)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    await eventually(partial(attempts, router, 1, track="stable", outcome="cancelled"))
    with contextlib.suppress(ConnectionError):
        while len(await asyncio.wait_for(reader.read(2**20), 5)):
            pass
    writer.transport.abort()


async def test_an_old_client_gets_whole_answers(rig: Start) -> None:
    router = await rig()
    events = router.stable[0].handler = Events()
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    writer.write(b"POST / HTTP/1.0\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    for piece in (b"one", b"two", None):
        events.pieces.put_nowait(piece)
        await asyncio.sleep(0.1)
    received = await asyncio.wait_for(reader.read(), 5)
    assert b"content-length: 6\r\n" in received
    assert b"chunked" not in received
    writer.close()


async def test_a_drain_waits_for_a_stream(rig: Start) -> None:
    router = await rig(limit=5)
    events = router.stable[0].handler = Events()
    async with router.client.post(router.url, json={}) as response:
        events.pieces.put_nowait(b"first")
        assert await response.content.readany() == b"first"
        router.drain.begin()
        await asyncio.sleep(0.3)
        events.pieces.put_nowait(b"last")
        events.pieces.put_nowait(None)
        assert await response.read() == b"last"
    assert router.task is not None
    await asyncio.wait_for(router.task, 5)


async def test_a_drain_ends_a_stream_that_goes_on(rig: Start, caplog: pytest.LogCaptureFixture) -> None:
    router = await rig(limit=0.5)
    events = router.stable[0].handler = Events()

    async def go_on() -> None:
        while not events.ended.is_set():
            events.pieces.put_nowait(b"more")
            await asyncio.sleep(0.02)

    async with router.client.post(router.url, json={}) as response:
        going_on = asyncio.create_task(go_on())
        assert await response.content.readany()
        router.drain.begin()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    await going_on
    assert router.task is not None
    await asyncio.wait_for(router.task, 5)
    assert not errors_of_ours(caplog)


async def test_streams_leave_no_task_behind(rig: Start) -> None:
    router = await rig(limit=5)
    before = len(asyncio.all_tasks())
    for _ in range(20):
        events = router.stable[0].handler = Events()
        async with router.client.post(router.url, json={}) as response:
            events.pieces.put_nowait(b"half")
            await response.content.readany()
            response.close()
    await eventually(partial(no_more_tasks_than, before + 2))
