"""Clients and pods that break the rules of HTTP, on raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from kanarya_inference import http_protocol
from kanarya_inference.router.intake import Intake
from tests.unit.listening import listening
from tests.unit.router.conftest import Rig, Start, eventually

pytestmark = pytest.mark.slow

PREDICT = b"POST /ml/predict HTTP/1.1\r\nHost: x\r\n"


async def exchange(router: Rig, *pieces: bytes, silence: float = 0.2) -> bytes:
    """Send the pieces on one connection, and give everything that comes back until it is closed, or silent for so long."""
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await _until_silent(reader, silence)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _until_silent(reader: asyncio.StreamReader, seconds: float = 0.2) -> bytes:
    found = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while chunk := await asyncio.wait_for(reader.read(2**16), seconds if found else 5):
            found += chunk
    return found


def statuses(received: bytes) -> list[int]:
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


# -- heads ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"X-Long: " + b"a" * 2**20,
        b"".join(b"X-%d: a\r\n" % number for number in range(5000)),
        b"".join(b"a:\r\n" for number in range(http_protocol.HEADER_COUNT + 1)),
    ],
    ids=["one endless header", "many headers", "many small headers"],
)
async def test_a_head_that_is_too_large_is_refused(rig: Start, head: bytes) -> None:
    router = await rig()
    assert statuses(await exchange(router, PREDICT + head + b"\r\n\r\n")) in ([431], [])  # nothing, when the reset overtakes it
    assert router.stable[0].requests == []
    assert (await router.predict())[0] == 200


async def test_an_endless_head_is_cut_off_at_the_limit(rig: Start) -> None:
    router = await rig()
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    writer.write(PREDICT + b"X-Long: ")
    sent = 0
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10):
            while not reader.at_eof() and sent < 50 * 2**20:
                writer.write(b"a" * 2**16)
                await writer.drain()
                await asyncio.sleep(0)
                sent += 2**16
    assert sent < 20 * 2**20, "what the sockets' buffers hold, and no more"
    writer.close()


async def test_a_long_path_and_long_headers_below_the_limit_go_through(rig: Start) -> None:
    router = await rig()
    head = b"POST /ml/" + b"p" * 6000 + b" HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 6000 + b"\r\nContent-Length: 0\r\n\r\n"
    assert statuses(await exchange(router, *(head[i : i + 100] for i in range(0, len(head), 100)))) == [200]


@pytest.mark.parametrize("begun", [b"POST /ml", PREDICT + b"X-Slow: a"], ids=["line", "header"])
async def test_a_head_that_does_not_come_ends_the_connection(rig: Start, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    router = await rig()
    assert statuses(await exchange(router, begun)) == [408]


@pytest.mark.parametrize("before", [b"", b"\r\n\r\n"], ids=["silent", "line breaks"])
async def test_a_connection_without_a_request_ends_without_an_answer(rig: Start, monkeypatch: pytest.MonkeyPatch, before: bytes) -> None:
    # A client that sends its first request just then would take a 408 for the answer to it.
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    router = await rig()
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    writer.write(before)
    assert await asyncio.wait_for(reader.read(), 3) == b""
    writer.close()


async def test_a_body_that_comes_after_its_head_leaves_the_connection_open(rig: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    router = await rig()
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    for _ in range(2):
        writer.write(PREDICT + b"Content-Length: 2\r\n\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"{}")
        assert statuses(await _until_silent(reader, 0.6)) == [200]
    assert not reader.at_eof()
    writer.close()


async def test_a_second_head_that_does_not_come_ends_the_connection(rig: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.3)
    router = await rig()
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    writer.write(PREDICT + b"Content-Length: 2\r\n\r\n{}")
    await asyncio.sleep(0.5)  # an idle connection is nobody's fault
    writer.write(PREDICT)
    assert statuses(await _until_silent(reader, 2)) == [200, 408]
    writer.close()


async def test_a_slow_answer_to_an_earlier_request_is_not_cut_by_a_late_head(rig: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.05)
    router = await rig()
    router.stable[0].delay = 0.4
    whole = PREDICT + b"Content-Length: 2\r\n\r\n{}"
    assert statuses(await exchange(router, whole + PREDICT, silence=2)) == [200, 408]


# -- bodies ---------------------------------------------------------------------------------------------------------------


async def test_chunked_bodies_arrive_whole(rig: Start) -> None:
    router = await rig()
    head = PREDICT + b"Transfer-Encoding: chunked\r\n\r\n"
    assert statuses(await exchange(router, head, b"3\r\nabc\r\n", b"2;ext=1\r\nde\r\n", b"0\r\nTrailer: x\r\n\r\n")) == [200]
    assert router.stable[0].requests[0][2] == b"abcde"
    assert "transfer-encoding" not in router.stable[0].requests[0][1]


async def test_a_chunked_body_without_end_is_refused(rig: Start) -> None:
    router = await rig(options=("--max-body-bytes", "1000"))
    head = PREDICT + b"Transfer-Encoding: chunked\r\n\r\n"
    assert statuses(await exchange(router, head, *[b"200\r\n" + b"a" * 512 + b"\r\n"] * 3)) == [413]
    assert statuses(await exchange(router, PREDICT + b"Content-Length: 1001\r\n\r\n")) == [413]
    assert statuses(await exchange(router, PREDICT + b"Content-Length: 1000\r\n\r\n" + b"a" * 1000)) == [200]
    assert len(router.stable[0].requests) == 1


async def test_a_body_that_does_not_come_ends_in_408(rig: Start) -> None:
    router = await rig(limit=0.2)
    received = await exchange(router, PREDICT + b"Content-Length: 10\r\n\r\n12345")
    assert statuses(received) == [408]
    assert b"connection: close" in received


async def test_many_bodies_at_once_do_not_cost_the_routers_memory() -> None:
    intake = Intake(seconds=5, body_limit=100, held_limit=150)
    async with taken(intake, 100) as first:
        async with taken(intake, 51) as second:
            assert (first, second) == (None, 503)
        async with taken(intake, 50) as second:
            assert second is None
    for _ in range(5):
        async with taken(intake, 100) as first, taken(intake, 50) as second:
            assert (first, second) == (None, None), "what was held is given back"


@contextlib.asynccontextmanager
async def taken(intake: Intake, size: int) -> AsyncIterator[int | None]:
    """Hold a body of that size; gives the status of the refusal, None when it was taken."""
    refused: list[int] = []
    pieces = [{"type": "http.request", "body": b"a" * (size - size // 2), "more_body": True}]
    pieces.append({"type": "http.request", "body": b"a" * (size // 2), "more_body": False})

    async def receive() -> Any:
        return pieces.pop(0)

    async def send(message: Any) -> None:
        if "status" in message:
            refused.append(message["status"])

    scope: dict[str, Any] = {"method": "POST", "raw_path": b"/", "query_string": b"", "headers": [], "client": None}
    async with intake.request(scope, receive, send) as request:
        assert (request is None) == bool(refused)
        yield refused[0] if refused else None


async def test_a_client_that_leaves_in_mid_body_leaves_nothing_behind(rig: Start) -> None:
    router = await rig()
    before = len(asyncio.all_tasks())
    for _ in range(30):
        _, writer = await asyncio.open_connection("127.0.0.1", router.port)
        writer.write(PREDICT + b"Content-Length: 1000\r\n\r\nabc")
        await writer.drain()
        writer.transport.abort()
    await eventually(partial(_no_more_tasks_than, before))
    assert router.stable[0].requests == []
    assert await router.attempts() == 0


async def _no_more_tasks_than(count: int) -> bool:
    return len(asyncio.all_tasks()) <= count


async def test_continue_is_said_before_the_body_is_asked_for(rig: Start) -> None:
    router = await rig()
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    writer.write(PREDICT + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"{}")
    assert statuses(await _until_silent(reader)) == [200]
    assert "expect" not in router.stable[0].requests[0][1]
    too_much = PREDICT + b"Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n"
    assert statuses(await exchange(router, too_much)) == [413], "without asking for it"
    writer.close()


# -- several requests on one connection -----------------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_order(rig: Start) -> None:
    router = await rig()
    one = b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%d"
    assert statuses(await exchange(router, b"".join(one % (n, n) for n in range(8)), silence=2)) == [200] * 8
    assert [(line, body) for line, _, body in router.stable[0].requests] == [(f"POST /{n}", b"%d" % n) for n in range(8)]


async def test_an_offer_to_upgrade_is_passed_over(rig: Start) -> None:
    """As Java's HttpClient makes one with its first request."""
    router = await rig()
    upgrade = PREDICT + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
    assert statuses(await exchange(router, upgrade + b"Content-Length: 2\r\n\r\n{}")) == [200]
    _, headers, body = router.stable[0].requests[0]
    assert body == b"{}"
    assert not {"upgrade", "http2-settings"} & headers.keys()


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (5 + len(SMUGGLED)),
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED),
        b"Content-Length: %d\r\nContent-Length: 0\r\n\r\n" % len(SMUGGLED),
        b"Content-Length: 0, %d\r\n\r\n" % len(SMUGGLED),
        b"Content-Length: +0\r\n\r\n",
        b"Content-Length: 0x0\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 99999999999999999999999999\r\n\r\n",
        b"Content-Length:\r\n\r\n",
        b"Content-Length : 0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        b" Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\naX\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0\n\n",
    ],
    ids=lambda head: head[:60].decode("latin-1").encode("unicode_escape").decode(),
)
async def test_a_head_with_two_meanings_is_refused(rig: Start, head: bytes) -> None:
    router = await rig()
    received = await exchange(router, PREDICT + head + SMUGGLED)
    assert statuses(received)[-1:] in ([400], []), received
    assert not [line for line, _, _ in router.stable[0].requests if "smuggled" in line]


# -- pods -----------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def raw_pod(router: Rig, *answers: bytes, close: bool = True) -> AsyncIterator[list[bytes]]:
    """Put a pod in stable's place that says exactly these bytes."""
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            asked.append(head)
            writer.write(answers[(len(asked) - 1) % len(answers)])
            await writer.drain()
            if close:
                break

    async with listening(handle) as port:
        router.api.put_pods("fraud-stable", ("127.0.0.1", port))
        await eventually(partial(_asked, router, asked))
        yield asked


async def _asked(router: Rig, asked: list[bytes]) -> bool:
    await exchange(router, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    return bool(asked)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200),
        (b"HTTP/1.1 299 Odd\r\nContent-Length: 0\r\n\r\n", 299),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"HTTP/1.1 200 OK\r\nX-Odd: a\x01b\r\nContent-Length: 0\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nX Odd: a\r\nContent-Length: 0\r\n\r\n", 502),
        (b"HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n", 502),
        (b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", 502),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 502),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 503),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", 503),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 200),
        (b"SSH-2.0-OpenSSH\r\n", 502),
        (b"\x16\x03\x01", 503),
        (b"", 503),
        (b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 2**17 + b"\r\n\r\n", 502),
    ],
    ids=lambda value: value[:70].decode("latin-1").encode("unicode_escape").decode() if isinstance(value, bytes) else str(value),
)
async def test_whatever_a_pod_says_the_client_gets_http(rig: Start, answer: bytes, status: int, caplog: pytest.LogCaptureFixture) -> None:
    router = await rig()
    async with raw_pod(router, answer):
        received = await exchange(router, PREDICT + b"Connection: close\r\nContent-Length: 0\r\n\r\n")
        assert statuses(received) == [status] or (status >= 500 and statuses(received) in ([502], [503])), received
        assert b"x-kanarya-track" in received.lower()
    assert "Exception in ASGI" not in caplog.text


async def test_a_pod_that_closes_idle_connections_costs_no_request(rig: Start) -> None:
    router = await rig()
    async with raw_pod(router, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as asked:
        received = [statuses(await exchange(router, PREDICT + b"Connection: close\r\nContent-Length: 0\r\n\r\n")) for _ in range(20)]
        assert received == [[200]] * 20
        assert len(asked) >= 20
    assert await router.attempts(outcome="unreachable") == 0


async def test_a_new_connection_that_breaks_is_the_pods_fault_and_tried_once(rig: Start) -> None:
    router = await rig()
    async with raw_pod(router, b"") as asked:
        before, counted = len(asked), await router.attempts(outcome="unreachable") or 0
        assert statuses(await exchange(router, PREDICT + b"Content-Length: 0\r\n\r\n")) == [503]
        assert len(asked) == before + 1
    assert await router.attempts(outcome="unreachable") == counted + 1


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "HEAD"])
async def test_every_method_is_passed_on(rig: Start, method: str) -> None:
    router = await rig()
    assert statuses(await exchange(router, f"{method} /ml/x HTTP/1.1\r\nHost: x\r\n\r\n".encode())) == [200]
    assert router.stable[0].requests[0][0] == f"{method} /ml/x"


@pytest.mark.parametrize(
    "line", [b"CONNECT x:80 HTTP/1.1", b"GET http://other/a HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET /a b HTTP/1.1", b"GET"]
)
async def test_targets_that_are_no_paths_are_refused_or_made_one(rig: Start, line: bytes) -> None:
    router = await rig()
    assert set(statuses(await exchange(router, line + b"\r\nHost: x\r\n\r\n"))) <= {200, 400}
    assert all(asked.partition(" ")[2].startswith("/") for asked, _, _ in router.stable[0].requests)
