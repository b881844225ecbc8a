"""A lean HTTP client for one fixed request: it must cost less than the fastest server it measures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

TIMEOUT_SECONDS = 5.0


def request_bytes(path: str, body: bytes) -> bytes:
    """Return the bytes of a POST."""
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        path.encode(),
        len(body),
        body,
    )


class _Connection(asyncio.Protocol):
    """One kept-alive connection with at most one request on its way."""

    def __init__(self, answered: Callable[[_Connection, bool], None]) -> None:
        self._answered = answered
        self._buffer = b""
        self.transport: asyncio.Transport | None = None
        self.planned = 0.0
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are transports without saying so

    def data_received(self, data: bytes) -> None:
        if not self.busy:  # a server may say 408 before it closes a connection that nobody uses
            return
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        start = lower.index(b"content-length:") + 15
        length = int(lower[start:].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return
        self._buffer = b""
        self.busy = False
        self._answered(self, head[9:12] == b"200")

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None
        if self.busy:  # an idle one that the server closes has lost nothing
            self._answered(self, False)


@dataclass
class Load:
    """What one run saw; latencies in seconds from the planned moment of sending."""

    answered: int = 0
    errors: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """Return a latency in milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


async def closed_loop(port: int, request: bytes, *, connections: int, seconds: float) -> Load:
    """Keep every connection busy for some seconds."""
    load, end = Load(), time.perf_counter() + seconds

    def answered(connection: _Connection, good: bool) -> None:
        load.answered += good
        load.errors += not good
        if connection.transport is not None and time.perf_counter() < end:
            _write(connection, request)

    opened = await _open(port, connections, answered)
    began = time.perf_counter()
    for connection in opened:
        _write(connection, request)
    await asyncio.sleep(seconds + 0.2)
    load.seconds = time.perf_counter() - began - 0.2
    _close(opened)
    return load


async def open_loop(port: int, request: bytes, *, rate: float, seconds: float, connections: int = 256) -> Load:
    """Send at planned times whatever the answers do; an error is a request without an answer, or for which all connections are taken.

    A server closes connections that nobody has needed for a while; others are opened in their place.
    """
    load, free, opening = Load(), list[_Connection](), set[asyncio.Task[None]]()

    def answered(connection: _Connection, good: bool) -> None:
        load.answered += good
        load.errors += not good
        load.latencies.append(time.perf_counter() - connection.planned)
        if connection.transport is not None:
            free.append(connection)

    def send(connection: _Connection, planned: float) -> None:
        connection.planned = planned
        _write(connection, request)

    async def send_on_another(planned: float) -> None:
        try:
            opened.extend(await _open(port, 1, answered))
        except OSError:
            load.errors += 1
        else:
            send(opened[-1], planned)

    opened = await _open(port, connections, answered)
    free.extend(opened)
    began = time.perf_counter()
    total = round(rate * seconds)
    for number in range(total):
        planned = began + number / rate
        if (wait := planned - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        while free and free[-1].transport is None:
            free.pop()
        if free:
            send(free.pop(), planned)
        elif len(opening) + sum(one.transport is not None for one in opened) < connections:
            task = asyncio.create_task(send_on_another(planned))
            opening.add(task)
            task.add_done_callback(opening.discard)
        else:
            load.errors += 1
    deadline = time.perf_counter() + TIMEOUT_SECONDS
    while load.answered + load.errors < total and time.perf_counter() < deadline:  # noqa: ASYNC110 -- two counters, not one event
        await asyncio.sleep(0.01)
    load.errors += total - load.answered - load.errors
    load.seconds = time.perf_counter() - began
    _close(opened)
    return load


async def _open(port: int, count: int, answered: Callable[[_Connection, bool], None]) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: _Connection(answered), "127.0.0.1", port) for _ in range(count)]
    return [connection for _, connection in made]


def _write(connection: _Connection, request: bytes) -> None:
    if connection.transport is not None:
        connection.busy = True
        connection.transport.write(request)


def _close(connections: list[_Connection]) -> None:
    for connection in connections:
        connection._answered = lambda *_: None  # noqa: SLF001 -- its own module
        if connection.transport is not None:
            connection.transport.abort()
