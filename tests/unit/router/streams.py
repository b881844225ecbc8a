"""Pods that stream, and what is asked of a router while bodies pass through."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from tests.unit.router.cluster import StreamingPod
from tests.unit.router.conftest import Rig

MIB = 2**20
SMALL = ("--max-body-bytes", str(300 * MIB), "--mirror-body-bytes", "1000")
"""Bodies above 1000 bytes are not held to be copied, those above 1 MiB not at all."""


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


async def status(router: Rig, **options: Any) -> int:
    async with router.client.post(router.url, **options) as response:
        await response.read()
        return response.status


async def chunks(size: int, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for start in range(0, size, 2**16):
        await response.write(b"x" * min(2**16, size - start))
    return response


async def pieces(size: int, piece: int) -> AsyncIterator[bytes]:
    for start in range(0, size, piece):
        yield b"x" * min(piece, size - start)


async def slowly(size: int) -> AsyncIterator[bytes]:
    yield b"x" * (size - 1)
    await asyncio.sleep(0.8)
    yield b"x"


async def attempts(router: Rig, count: int, **labels: str) -> bool:
    return await router.attempts(**labels) == count


async def comparisons(router: Rig, outcome: str, count: int) -> bool:
    return await router.comparisons(outcome) == count


async def received(router: Rig, count: int) -> bool:
    return pod(router).received == count


async def was_broken_off(router: Rig) -> bool:
    return pod(router).broken == 1


async def stands_still(value: Callable[[], int]) -> bool:
    before = value()
    await asyncio.sleep(0.5)
    return before > 0 and value() == before


async def no_more_tasks_than(count: int) -> bool:
    return len(asyncio.all_tasks()) <= count


async def half_sent(router: Rig) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Declare a body of 2 MiB, and send its first 1000 bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (2 * MIB) + b"x" * 1000)
    return reader, writer
