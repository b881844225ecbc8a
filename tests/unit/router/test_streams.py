"""Bodies that pass through while they arrive, in both directions, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tracemalloc
from collections.abc import AsyncIterator, Callable
from functools import partial
from io import BytesIO
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kanarya_inference.router import answers, intake
from tests.unit.router.cluster import Pod
from tests.unit.router.conftest import Rig, Start, eventually

MIB = 2**20
SMALL = ("--max-body-bytes", str(300 * MIB), "--mirror-body-bytes", "1000")
"""Bodies above 1000 bytes are not held to be copied, those above 1 MiB not at all."""


class StreamingPod(Pod):
    """A model server that reads a body piece by piece, and is told when to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.received = 0
        self.lengths: list[int | None] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.finished = 0
        self.broken = 0

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((f"{request.method} {request.raw_path}", {k.lower(): v for k, v in request.headers.items()}, b""))
        self.lengths.append(request.content_length)
        if self.handler is not None:
            return await self.handler(request)
        try:
            await self.may_read.wait()
            async for piece in request.content.iter_any():
                self.received += len(piece)
                await self.may_read.wait()
        except (aiohttp.ClientError, ConnectionError, asyncio.CancelledError):
            self.broken += 1
            raise
        self.finished += 1
        return web.json_response({"score": 0.5, "label": 1})


@pytest.fixture
def pods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.unit.router.conftest.Pod", StreamingPod)


def pod(router: Rig, track: str = "stable") -> StreamingPod:
    found = (router.stable if track == "stable" else router.candidate)[0]
    assert isinstance(found, StreamingPod)
    return found


class Events:
    """An answer that the test makes go on: each piece is sent when it is put."""

    def __init__(self, *, length: int | None = None, status: int = 200, content_type: str = "text/event-stream") -> None:
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.ended = asyncio.Event()
        self._status, self._length, self._type = status, length, content_type

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=self._status, headers={"content-type": self._type})
        response.content_length = self._length
        await response.prepare(request)
        try:
            while request.transport is not None and not request.transport.is_closing():
                with contextlib.suppress(TimeoutError, ConnectionError):
                    piece = await asyncio.wait_for(self.pieces.get(), 0.02)
                    if piece is None:
                        break
                    if piece == b"break":
                        request.transport.abort()
                        break
                    await response.write(piece)
        finally:
            self.ended.set()
        return response


def errors_of_ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = (record for record in caplog.records if record.levelno >= logging.WARNING and not record.name.startswith("aiohttp.server"))
    return [record.getMessage() for record in ours]


# -- answers --------------------------------------------------------------------------------------------------------------


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
    await eventually(partial(_attempts, router, 1, track="stable", exposure="live", outcome="success"))


async def test_an_answers_time_is_until_its_last_byte_without_what_the_client_took(rig: Start) -> None:
    router = await rig()
    events = router.stable[0].handler = Events()
    async with router.client.post(router.url, json={}) as response:
        events.pieces.put_nowait(b"first")
        assert await response.content.readany() == b"first"
        await asyncio.sleep(0.3)
        events.pieces.put_nowait(None)
        await response.read()
    await eventually(partial(_attempts, router, 1, outcome="success"))
    assert (await router.sample("kanarya_request_duration_seconds_sum", outcome="success") or 0) >= 0.3

    block = b"x" * MIB
    events = router.stable[0].handler = Events()
    async with router.client.post(router.url, json={}) as response:
        for _ in range(24):
            events.pieces.put_nowait(block)
        events.pieces.put_nowait(None)
        await asyncio.sleep(1.5)  # a client that does not read: what does not fit into the sockets' buffers waits
        assert len(await response.read()) == 24 * MIB
    await eventually(partial(_attempts, router, 2, outcome="success"))
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
    await eventually(partial(_comparisons, router, "mismatch", 1))
    assert router.candidate[0].requests[0][2] == b'{"amount": 1}'


async def test_an_answer_too_long_to_be_kept_is_passed_on_and_not_compared(rig: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kanarya_inference.router.passing.KEPT_ANSWER", MIB)
    monkeypatch.setattr(answers, "KEPT_ANSWER", MIB)
    router = await rig(mirrorPercent=100)
    for one in (router.stable[0], router.candidate[0]):
        one.handler = partial(_chunks, 2 * MIB)
    async with router.client.post(router.url, json={}) as response:
        assert len(await response.read()) == 2 * MIB
    await eventually(partial(_comparisons, router, "not_compared", 1))
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
    await eventually(partial(_attempts, router, 1, track="candidate", exposure="live", outcome="unreachable"))
    assert await router.attempts(track="candidate", exposure="live") == 1
    assert router.stable[0].live == 0, "half an answer is out: no other can be given"
    await eventually(partial(_comparisons, router, "not_compared", 1))
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
    await eventually(partial(_attempts, router, 1, track="stable", outcome="timeout"))
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
    await eventually(partial(_attempts, router, 1, track="stable", outcome="timeout"))


async def test_a_client_that_leaves_ends_the_answer(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, mirrorPercent=100, mirrorTimeoutMilliseconds=5000)
    events = router.candidate[0].handler = Events()
    async with router.client.post(router.url, json={}) as response:
        events.pieces.put_nowait(b"half")
        assert await response.content.readany() == b"half"
        response.close()
    await asyncio.wait_for(events.ended.wait(), 5)
    await eventually(partial(_attempts, router, 1, track="candidate", exposure="live", outcome="cancelled"))
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
    await eventually(partial(_attempts, router, 1, track="candidate", exposure="live", outcome="timeout"))


async def test_a_client_that_does_not_read_is_cut_off(rig: Start) -> None:
    router = await rig(limit=0.5)
    router.stable[0].handler = partial(_chunks, 64 * MIB)
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port, limit=2**16)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    await eventually(partial(_attempts, router, 1, track="stable", outcome="cancelled"))
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


# -- bodies of requests ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("pods")
@pytest.mark.parametrize("length", [None, 2 * MIB], ids=["chunked", "length"])
async def test_a_body_is_sent_on_while_it_arrives(rig: Start, length: int | None) -> None:
    router = await rig(options=SMALL, mirrorPercent=100)
    more: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        while (piece := await more.get()) is not None:
            yield piece

    headers = {"content-length": str(length)} if length else {}
    asked = asyncio.create_task(_status(router, data=body(), headers=headers))
    sent = 0
    while sent < 2 * MIB:
        more.put_nowait(b"x" * (MIB // 2))
        sent += MIB // 2
        if sent > MIB or length:
            await eventually(partial(_received, router, sent))
        assert not asked.done() or sent == length
    more.put_nowait(None)
    assert await asked == 200
    assert pod(router).lengths == [length]
    await eventually(partial(_attempts, router, 1, track="stable", exposure="live", outcome="success"))
    await eventually(partial(_comparisons, router, "dropped", 1))
    assert router.candidate[0].requests == []


@pytest.mark.usefixtures("pods")
async def test_a_body_up_to_the_limit_is_mirrored_whole_and_one_above_it_is_not(rig: Start) -> None:
    router = await rig(options=SMALL, mirrorPercent=100)
    for data in (b"x" * 1000, _pieces(1000, 10)):
        assert await _status(router, data=data) == 200
    await eventually(partial(_comparisons, router, "match", 2))
    assert pod(router, "candidate").received == 2000
    for data in (b"x" * 1001, _pieces(1001, 10)):
        assert await _status(router, data=data) == 200
    await eventually(partial(_comparisons, router, "dropped", 2))
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
        assert await _status(router, data=body()) == 200
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

    asked = asyncio.create_task(_status(router, data=body(), headers={"content-length": str(64 * MIB)}))
    await eventually(partial(_stands_still, lambda: sent))
    assert sent < 40 * MIB, "what the sockets' buffers hold, and no more"
    pod(router).may_read.set()
    assert await asked == 200
    assert pod(router).received == 64 * MIB


@pytest.mark.usefixtures("pods")
async def test_a_body_that_turns_out_too_long_is_refused_in_its_middle(rig: Start, caplog: pytest.LogCaptureFixture) -> None:
    router = await rig(options=("--max-body-bytes", str(3 * MIB), "--mirror-body-bytes", "1000"))
    assert await _status(router, data=_pieces(8 * MIB, 2**16)) == 413
    assert await _status(router, data=BytesIO(b"x" * 4 * MIB)) == 413
    assert await _status(router, data=_pieces(3 * MIB, 2**16)) == 200
    await eventually(partial(_attempts, router, 1, track="stable", exposure="live", outcome="cancelled"))
    assert await router.attempts(outcome="success") == 1
    assert await router.attempts() == 2
    assert pod(router).finished == 1
    assert not errors_of_ours(caplog)


@pytest.mark.usefixtures("pods")
async def test_a_client_that_stops_in_its_body_is_told_so(rig: Start) -> None:
    router = await rig(options=SMALL, limit=0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (2 * MIB) + b"x" * 1000)
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 408")
    await eventually(partial(_attempts, router, 1, track="stable", outcome="cancelled"))
    writer.transport.abort()


@pytest.mark.usefixtures("pods")
async def test_a_client_that_leaves_in_its_body_ends_the_pods_request(rig: Start) -> None:
    router = await rig(options=SMALL, limit=10, mirrorTimeoutMilliseconds=50)
    _, writer = await asyncio.open_connection("127.0.0.1", router.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (2 * MIB) + b"x" * 1000)
    await eventually(partial(_received, router, 1000))
    await asyncio.sleep(0.1)
    writer.transport.abort()
    await eventually(partial(_attempts, router, 1, track="stable", outcome="cancelled"))
    await eventually(partial(_was_broken_off, router))


@pytest.mark.usefixtures("pods")
async def test_a_body_of_which_nothing_was_sent_is_tried_elsewhere(rig: Start) -> None:
    router = await rig(options=SMALL, stable=0, candidate=100, pods=2, fallback="Unavailable")
    for one in router.candidate:
        await one.stop()
    await router.stable[0].stop()
    for _ in range(4):
        assert await _status(router, data=BytesIO(b"x" * 2 * MIB)) == 200
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
    assert await _status(router, data=_pieces(4 * MIB, 2**16)) == 503
    assert await router.attempts(track="candidate", exposure="live", outcome="unreachable") == 1
    assert router.stable[0].requests == []


@pytest.mark.usefixtures("pods")
async def test_an_answer_before_the_bodys_end_is_passed_on(rig: Start) -> None:
    router = await rig(options=SMALL)

    async def refuse(request: web.Request) -> web.StreamResponse:
        await request.content.readany()
        return web.json_response({"error": "no"}, status=403)

    router.stable[0].handler = refuse
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (2 * MIB) + b"x" * 1000)
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 403")
    await eventually(partial(_attempts, router, 1, track="stable", outcome="client_error"))
    writer.transport.abort()


@pytest.mark.usefixtures("pods")
async def test_a_client_that_leaves_while_body_and_answer_are_under_way_ends_both(rig: Start) -> None:
    router = await rig(options=SMALL, limit=60)
    events = router.stable[0].handler = Events()
    events.pieces.put_nowait(b"early")
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (2 * MIB) + b"x" * 1000)
    assert (await asyncio.wait_for(reader.readuntil(b"early"), 5)).startswith(b"HTTP/1.1 200")
    writer.transport.abort()
    await asyncio.wait_for(events.ended.wait(), 10)
    await eventually(partial(_attempts, router, 1, track="stable", exposure="live", outcome="cancelled"))


@pytest.mark.usefixtures("pods")
async def test_the_pod_that_gets_a_long_body_is_slow_only_for_what_it_took_itself(rig: Start) -> None:
    router = await rig(options=SMALL)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"x" * MIB
            await asyncio.sleep(0.2)

    assert await _status(router, data=body()) == 200
    assert (await router.sample("kanarya_request_duration_seconds_sum", outcome="success") or 9) < 0.6


async def test_without_memory_to_hold_it_a_body_is_sent_on(rig: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake.Intake.__init__, "__kwdefaults__", {**(intake.Intake.__init__.__kwdefaults__ or {}), "held_limit": 1000})
    router = await rig(options=("--mirror-body-bytes", "1000"), mirrorPercent=100)
    holding = asyncio.create_task(_status(router, data=_slowly(900)))
    await asyncio.sleep(0.1)
    assert await _status(router, data=b"x" * 500) == 200
    assert router.stable[0].requests[0][2] == b"x" * 500
    await eventually(partial(_comparisons, router, "dropped", 1))
    assert await holding == 200


# -- leaving --------------------------------------------------------------------------------------------------------------


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
    await eventually(partial(_no_more_tasks_than, before + 2))


async def _status(router: Rig, **options: Any) -> int:
    async with router.client.post(router.url, **options) as response:
        await response.read()
        return response.status


async def _chunks(size: int, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for start in range(0, size, 2**16):
        await response.write(b"x" * min(2**16, size - start))
    return response


async def _pieces(size: int, piece: int) -> AsyncIterator[bytes]:
    for start in range(0, size, piece):
        yield b"x" * min(piece, size - start)


async def _slowly(size: int) -> AsyncIterator[bytes]:
    yield b"x" * (size - 1)
    await asyncio.sleep(0.8)
    yield b"x"


async def _attempts(router: Rig, count: int, **labels: str) -> bool:
    return await router.attempts(**labels) == count


async def _comparisons(router: Rig, outcome: str, count: int) -> bool:
    return await router.comparisons(outcome) == count


async def _received(router: Rig, count: int) -> bool:
    return pod(router).received == count


async def _was_broken_off(router: Rig) -> bool:
    return pod(router).broken == 1


async def _stands_still(value: Callable[[], int]) -> bool:
    before = value()
    await asyncio.sleep(0.5)
    return before > 0 and value() == before


async def _no_more_tasks_than(count: int) -> bool:
    return len(asyncio.all_tasks()) <= count
