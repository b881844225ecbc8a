"""Serving one or more ASGI apps with uvicorn, and leaving without failing a request.

On SIGTERM nothing is refused. Readiness turns false, every answer carries `Connection: close` so that kept-alive clients move
to another pod with their next request, and only after the drain time the ports close, in-flight requests finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Generator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import uvicorn

from kanarya_inference.http_protocol import GuardedProtocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

UNPROCESSED_HEADER = b"x-kanarya-unprocessed"
"""On a 503: nobody has begun to work on the request, so whoever sent it may send it elsewhere."""

KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep an idle connection, so that the client closes it and never meets a close of ours on the way."""

logger = logging.getLogger(__name__)


class Drain:
    """Whether this process is on its way out. Shared by the servers, the readiness probe and the apps."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()

    @property
    def draining(self) -> bool:
        """True from the first SIGTERM (or SIGINT) on."""
        return self._begun.is_set()

    def begin(self) -> None:
        """Start leaving; saying it twice is fine."""
        if not self.draining:
            logger.info("draining")
        self._begun.set()

    async def wait(self) -> None:
        """Return when leaving has begun."""
        await self._begun.wait()


@dataclass(frozen=True)
class Listener:
    """An app and where it listens.

    `host` None means every address of both IP families. `last` marks a port (metrics, probes) that stays open until all
    others have finished. `port` 0 lets the kernel choose.
    """

    app: AsgiApp
    port: int
    host: str | None = None
    last: bool = False


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: SIGTERM begins a drain instead of closing the port at once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve(
    listeners: Sequence[Listener],
    *,
    drain: Drain,
    drain_seconds: float,
    finish_seconds: float = 30.0,
    on_started: Callable[[list[int]], None] | None = None,
) -> None:
    """Serve until SIGTERM or `drain.begin()`, then drain and return.

    Parameters
    ----------
    drain_seconds
        How long requests are still taken after the drain began: the time clients and kube-proxy need to look elsewhere.
    finish_seconds
        How long in-flight requests may then take before they are cut.
    on_started
        Called once with the ports in use, in the order of `listeners`, when all of them listen.

    Raises
    ------
    OSError
        A port cannot be bound.
    RuntimeError
        A server ended without being asked to.
    """
    sockets = [_bind(listener.host, listener.port) for listener in listeners]
    servers = [_server(listener, drain, finish_seconds) for listener in listeners]
    tasks = [asyncio.create_task(server.serve(sockets=[bound])) for server, bound in zip(servers, sockets, strict=True)]
    loop = asyncio.get_running_loop()
    with _signals(loop, drain):
        try:
            await _until_started(servers, tasks)
            if on_started is not None:
                on_started([bound.getsockname()[1] for bound in sockets])
            await _until_drain(drain, tasks)
            for server in servers:
                for connection in server.server_state.connections:
                    cast("GuardedProtocol", connection).leave()
            await asyncio.sleep(drain_seconds)
        finally:
            drain.begin()
            for last in (False, True):
                chosen = [i for i, listener in enumerate(listeners) if listener.last is last]
                for i in chosen:
                    servers[i].should_exit = True
                await asyncio.gather(*(tasks[i] for i in chosen), return_exceptions=True)


async def answer(
    send: Send,
    status: int,
    body: bytes,
    *,
    content_type: bytes = b"application/json",
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Send one whole answer."""
    described = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": described})
    await send({"type": "http.response.body", "body": body})


def _server(listener: Listener, drain: Drain, finish_seconds: float) -> _Server:
    config = uvicorn.Config(
        listener.app,
        http=type("_Connection", (GuardedProtocol,), {"drain": drain}),
        ws="none",
        lifespan="off",
        loop="none",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(finish_seconds)),
    )
    return _Server(config)


def _bind(host: str | None, port: int) -> socket.socket:
    bound = _listening(host, port)
    # Accepted connections inherit it. asyncio would set it only on sockets made with an explicit protocol number, and without it
    # an answer whose head and body are two writes waits 40 ms for the client's delayed acknowledgement.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


def _listening(host: str | None, port: int) -> socket.socket:
    if host is None and socket.has_dualstack_ipv6():
        # A node with IPv6 switched off still reports dual-stack support, and then refuses the address.
        with contextlib.suppress(OSError):
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=2048)
    family = socket.AF_INET6 if host is not None and ":" in host else socket.AF_INET
    return socket.create_server((host or "", port), family=family, backlog=2048)


def on_signal(loop: asyncio.AbstractEventLoop, number: signal.Signals, handle: Callable[[], object]) -> bool:
    """Handle a signal, and tell whether it can be: signals reach the main thread only; elsewhere the caller does what they would begin."""
    try:
        loop.add_signal_handler(number, handle)
    except (NotImplementedError, RuntimeError, ValueError):
        return False
    return True


@contextlib.contextmanager
def _signals(loop: asyncio.AbstractEventLoop, drain: Drain) -> Generator[None, None, None]:
    handled = [number for number in (signal.SIGTERM, signal.SIGINT) if on_signal(loop, number, drain.begin)]
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


async def _until_started(servers: Sequence[_Server], tasks: Sequence[asyncio.Task[None]]) -> None:
    while not all(server.started for server in servers):
        _raise_if_ended(tasks)
        await asyncio.sleep(0.005)


async def _until_drain(drain: Drain, tasks: Sequence[asyncio.Task[None]]) -> None:
    begun = asyncio.create_task(drain.wait())
    try:
        await asyncio.wait({begun, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        _raise_if_ended(tasks)
    finally:
        begun.cancel()


def _raise_if_ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            raise RuntimeError("a server ended without being asked to") from task.exception()
