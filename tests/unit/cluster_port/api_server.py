"""An API server played by a test: real sockets on loopback, one prepared answer for each request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from kanarya.cluster.kubernetes import KubernetesApi
from kanarya.cluster.watching import WatchTiming

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

QUICK = WatchTiming(server_seconds=300, quiet_seconds=0.1, first_backoff_seconds=0.005, longest_backoff_seconds=0.02)
"""Times of a watch that a test can wait for."""


class ApiServer:
    """Answers requests in the order in which they come; after the last prepared answer everything is 503."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []
        self._answers: list[Answer] = []
        self._released = asyncio.Event()

    def will(self, *answers: Answer) -> None:
        """Prepare answers for the next requests."""
        self._answers += answers

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        raw = await request.read()
        self.bodies.append(json.loads(raw) if raw else None)
        answer = self._answers.pop(0) if self._answers else status(503)
        return await answer(request)

    def hanging(self, *lines: Any) -> Answer:
        """Answer these lines, then nothing, and keep the connection."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = await _begin(request)
            for line in lines:
                await response.write(_line(line))
            await self._released.wait()
            return response

        return answer

    def silent(self) -> Answer:
        """Do not answer at all."""

        async def answer(request: web.Request) -> web.StreamResponse:
            await self._released.wait()
            return web.Response()

        return answer

    def release(self) -> None:
        """Let go of those that hang."""
        self._released.set()


def document(body: Any) -> Answer:
    """Answer 200 with JSON."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(body)

    return answer


def status(code: int, reason: str = "", message: str = "", details: Any = None) -> Answer:
    """Answer with a Status object."""

    async def answer(request: web.Request) -> web.StreamResponse:
        body = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details or {}}
        return web.json_response(body, status=code)

    return answer


def raw(code: int, body: bytes) -> Answer:
    """Answer with these bytes."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, body=body)

    return answer


def stream(*lines: Any) -> Answer:
    """Answer with these lines and end in order."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await _begin(request)
        for line in lines:
            await response.write(_line(line))
        return response

    return answer


def broken_stream(*lines: Any) -> Answer:
    """Answer with these lines, then drop the connection in the middle of the next."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await _begin(request)
        for line in lines:
            await response.write(_line(line))
        await response.write(b'{"type": "MODI')
        assert request.transport is not None
        request.transport.abort()
        return response

    return answer


def dropped() -> Answer:
    """Drop the connection without a word."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return answer


def listing(version: int, *items: Any, more: str = "") -> Answer:
    """Answer with a list, as the API server does: without `apiVersion` and `kind` in its items."""
    metadata = {"resourceVersion": str(version), **({"continue": more} if more else {})}
    return document({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": list(items)})


def item(name: str, version: int, *, uid: str = "") -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata, "data": {"at": str(version)}}


def event(kind: str, name: str, version: int) -> dict[str, Any]:
    return {"type": kind, "object": {"apiVersion": "v1", "kind": "ConfigMap", **item(name, version)}}


def bookmark(version: int) -> dict[str, Any]:
    return {"type": "BOOKMARK", "object": {"kind": "ConfigMap", "metadata": {"resourceVersion": str(version)}}}


def error_event(code: int) -> dict[str, Any]:
    return {"type": "ERROR", "object": {"kind": "Status", "code": code, "reason": "Expired", "message": "too old"}}


@asynccontextmanager
async def serving(server: ApiServer) -> AsyncIterator[str]:
    """Serve on a free port of loopback; yields the URL."""
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.05)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        server.release()
        await runner.cleanup()


def client(url: str, *, timeout_seconds: float = 2.0, timing: WatchTiming = QUICK) -> KubernetesApi:
    """Return a client of this server."""
    configuration = Configuration()
    configuration.host = url
    configuration.api_key["BearerToken"] = "Bearer first\n"
    return KubernetesApi(configuration, timeout_seconds=timeout_seconds, watch_timing=timing)


async def _begin(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    return response


def _line(line: Any) -> bytes:
    return line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
