"""10,000 seeded requests that are wrong in some way, on real connections: the router answers or closes, and nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
from pathlib import Path
from random import Random
from typing import Any, ClassVar, cast

import httptools
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tests.unit.router.conftest import Rig, Start, eventually, rig

pytestmark = pytest.mark.slow

__all__ = ["rig"]

CORPUS = sorted((Path(__file__).parent / "requests").glob("*.http"))
SEEDED = int(os.environ.get("KANARYA_HOSTILE_REQUESTS", "10000"))
CONNECTIONS = 8
OURS = frozenset({200, 400, 405, 408, 413, 431})
"""The pods answer everything with 200, so no other status is the pods' or the client's fault."""

METHODS = (b"POST", b"GET", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE", b"post", b"", b"P" * 300, b"\x00")
TARGETS = (
    *(b"/ml/predict", b"/", b"//", b"/../..", b"/%00", b"/%zz", b"/a?b=%ff", b"/\xc3\xa9", b"*", b"", b"http://x/y", b"x:80", b"/#a"),
    *(b"/" + b"a" * 9000, b"/?" + b"a=1&" * 2000, b"/a\tb", b"/{}", b"?", b"/predict-with-shadow", b"/shadow/metrics"),
)
VERSIONS = (b"HTTP/1.1",) * 8 + (b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/9.9", b"http/1.1", b"", b"HTTP/1.1 x")
HEADERS = (
    *(b"Host: x", b"Host:", b"Host: a\r\nHost: b", b"Connection: close", b"Connection: keep-alive, x", b"Connection: upgrade"),
    *(
        b"Upgrade: h2c",
        b"Upgrade: websocket",
        b"Expect: 100-continue",
        b"Expect: 200-ok",
        b"Content-Type: application/json",
        b"TE: trailers",
    ),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    *(b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 99999999999", b"Content-Length: -1", b"Content-Length: 1e3"),
    *(b"X: " + bytes(range(128, 256)), b"X: a\x00b", b"X:" + b" " * 500, b": empty", b"no colon", b" folded", b"X\xff: a", b"X: a\nY: b"),
    *(b"X-Forwarded-For: " + b"1.1.1.1, " * 100, b"x-kanarya-mirror: true", b"x-kanarya-track: candidate", b"x-kanarya-unprocessed: 1"),
    *(b"traceparent: 00-x", b"X-Long: " + b"a" * 70_000, b"Content-Encoding: gzip", b"Range: bytes=0-1", b"Accept-Encoding: gzip"),
)
BODIES = (
    *(b"", b"{}", b'{"snapshot": {}}', b"[" * 500, b'{"a":' * 300, b"NaN", b'{"score": 1e999}', b"\xff\xfe{}", b"\x00" * 50, b"null", b'"'),
    *(b'{"inputs": [{"name": "x", "shape": [-1], "datatype": "FP32", "data": []}]}', "{'ü': '\u202e'}".encode("utf-16"), b"x" * 20_000),
)


class StrictPod(asyncio.Protocol):
    """A model server that answers 200 to whatever is HTTP, and keeps what is not."""

    refused: ClassVar[list[bytes]] = []
    targets: ClassVar[set[bytes]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.refused.append(data)
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self.targets.add(url)

    def on_message_complete(self) -> None:
        body = b"" if self._parser.get_method() == b"HEAD" else b'{"score": 0.5}'
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n" + body)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def request(random: Random) -> bytes:
    """Make one request: a good one in which some parts are wrong, cut, doubled or of random bytes."""
    method = random.choice(METHODS) if random.random() < 0.2 else b"POST"
    target = random.choice(TARGETS) if random.random() < 0.3 else b"/ml/predict"
    version = random.choice(VERSIONS)
    body = random.choice(BODIES)
    lines = [b"%s %s %s" % (method, target, version), b"Host: x", *random.choices(HEADERS, k=random.choice((0, 0, 1, 1, 2, 5)))]
    shape = random.random()
    if shape < 0.6:
        lines.append(b"Content-Length: %d" % (len(body) + random.choice((0, 0, 0, 0, 0, 0, -1, 1, 1000))))
    elif shape < 0.8:
        lines.append(b"Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%s\r\n" % (len(body[i : i + 7]), body[i : i + 7]) for i in range(0, min(len(body), 70), 7)) + b"0\r\n\r\n"
    ending = b"\r\n" if random.random() < 0.95 else random.choice((b"\n", b"\r", b"\r\n "))
    made = bytearray(ending.join(lines) + 2 * ending + body)
    for _ in range(random.choice((0, 0, 0, 1, 3))):
        made[random.randrange(len(made))] = random.randrange(256)
    if random.random() < 0.1:
        del made[random.randrange(len(made)) :]
    if random.random() < 0.05:
        made *= 2
    return bytes(made)


async def statuses(port: int, sent: bytes, random: Random) -> list[int]:
    """Send it on a connection of its own, in pieces, and give the statuses that come back. Some clients do not wait for them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    with contextlib.suppress(ConnectionError):
        for piece in (sent[:40], sent[40:]) if random.random() < 0.3 else (sent,):
            writer.write(piece)
            await writer.drain()
        if random.random() < 0.5:
            writer.write_eof()
        patience = 0.0 if random.random() < 0.1 else 0.03
        with contextlib.suppress(TimeoutError):
            while chunk := await asyncio.wait_for(reader.read(2**16), patience):
                received += chunk
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:] if part[:3] != b"100"]


async def test_seeded_hostile_requests_leave_nothing_behind(rig: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    router = await rig(stable=50, candidate=50, mirrorPercent=100, limit=1.0)
    pod = await asyncio.get_running_loop().create_server(StrictPod, "127.0.0.1", 0)
    for service in ("fraud-stable", "fraud-candidate"):
        router.api.put_pods(service, pod.sockets[0].getsockname()[:2])
    await _round(router, [request(Random(seed)) for seed in range(200)])  # imports, caches and pools come first
    await eventually(lambda: _settled(router))
    tasks, files = len(asyncio.all_tasks()), open_files()
    seen = await _round(router, [request(Random(seed)) for seed in range(SEEDED)])
    assert set(seen) <= OURS, {status: seen.get(status) for status in seen if status not in OURS}
    assert seen[200] > 0
    assert seen[400] > 0
    assert (await router.predict())[0] == 200
    await eventually(lambda: _settled(router))
    assert len(asyncio.all_tasks()) <= tasks + 5
    assert open_files() <= files + 20, "connections are closed, or kept by the pools"
    gc.collect()
    assert sum(isinstance(known, RequestResponseCycle) for known in gc.get_objects()) < 100, "of 10,000"
    assert not [record.getMessage() for record in caplog.records], "an error of ours"
    assert StrictPod.refused == [], "what reaches a pod is HTTP"
    assert all(target.startswith(b"/") for target in StrictPod.targets)
    pod.close()


@pytest.mark.parametrize(
    ("sent", "note"),
    [pytest.param(path.read_bytes(), json.loads(path.with_suffix(".json").read_text(encoding="utf-8")), id=path.stem) for path in CORPUS],
)
async def test_requests_that_once_did_harm(rig: Start, caplog: pytest.LogCaptureFixture, sent: bytes, note: Any) -> None:
    caplog.set_level(logging.ERROR)
    router = await rig(mirrorPercent=100, limit=0.3)
    assert await _read_all(router.port, sent) == note["statuses"], note["why"]
    assert not caplog.records
    assert (await router.predict())[0] == 200


async def _read_all(port: int, sent: bytes) -> list[int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    received = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while chunk := await asyncio.wait_for(reader.read(2**16), 1):
            received += chunk
    writer.transport.abort()
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


async def _round(router: Rig, requests: list[bytes]) -> dict[int, int]:
    """Send all of them, some at a time; gives how often each status came."""
    seen: dict[int, int] = {}
    todo = iter(list(enumerate(requests)))

    async def client() -> None:
        for number, sent in todo:
            for status in await statuses(router.port, sent, Random(-number)):
                seen[status] = seen.get(status, 0) + 1

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return seen


async def _settled(router: Rig) -> bool:
    """No attempt is under way any more."""
    before = await router.sample("kanarya_request_duration_seconds_count")
    await asyncio.sleep(0.3)
    return before == await router.sample("kanarya_request_duration_seconds_count")
