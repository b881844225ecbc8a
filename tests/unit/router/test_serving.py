"""Graceful serving: nothing fails because of a drain."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from kanarya_inference.serving import Drain, Listener, Receive, Scope, Send, answer, serve

pytestmark = pytest.mark.slow


async def slow_app(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(0.15 if scope["path"] == "/slow" else 0)
    await answer(send, 200, b"{}")


@asynccontextmanager
async def serving(drain: Drain, *, seconds: float, **options: Any) -> AsyncIterator[tuple[list[int], asyncio.Task[None]]]:
    ports: list[int] = []
    started = asyncio.Event()

    def on_started(bound: list[int]) -> None:
        ports.extend(bound)
        started.set()

    listeners = [Listener(slow_app, 0, **options), Listener(slow_app, 0, last=True)]
    task = asyncio.create_task(serve(listeners, drain=drain, drain_seconds=seconds, on_started=on_started))
    await asyncio.wait_for(started.wait(), 5)
    try:
        yield ports, task
    finally:
        drain.begin()
        await asyncio.wait_for(task, 5)


async def test_drain_under_keep_alive_load_without_an_error() -> None:
    """Two servers behind clients that, like a Service's, go to the one that is ready and keep their connections."""
    drains = [Drain(), Drain()]
    async with serving(drains[0], seconds=0.2) as (first, leaving), serving(drains[1], seconds=0) as (second, _):
        statuses: list[int] = []
        stop = asyncio.Event()

        async def client(path: str, *, keep: bool) -> None:
            connector = aiohttp.TCPConnector(limit=1, force_close=not keep)
            async with aiohttp.ClientSession(connector=connector) as session:
                port = first[0]
                while not stop.is_set():
                    async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                        statuses.append(response.status)
                    # A kept connection is used until the server says otherwise; only then is the Service asked again.
                    if not keep or response.headers.get("connection", "").lower() == "close":
                        port = second[0] if drains[0].draining else first[0]

        clients = [asyncio.create_task(client("/slow" if n % 3 == 0 else "/", keep=n % 2 == 0)) for n in range(6)]
        await asyncio.sleep(0.1)
        drains[0].begin()
        await asyncio.wait_for(leaving, 5)
        await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*clients)
    assert len(statuses) > 50
    assert set(statuses) == {200}


async def test_requests_in_flight_are_finished() -> None:
    drain = Drain()
    async with serving(drain, seconds=0) as (ports, task), aiohttp.ClientSession() as session:
        request = asyncio.create_task(_get(session, ports[0], "/slow"))
        await asyncio.sleep(0.05)
        drain.begin()
        assert await request == (200, "close")
        await asyncio.wait_for(task, 5)


async def test_draining_answers_close_their_connection() -> None:
    drain = Drain()
    async with serving(drain, seconds=0.1) as (ports, _), aiohttp.ClientSession() as session:
        assert await _get(session, ports[0], "/") == (200, "")
        drain.begin()
        assert await _get(session, ports[0], "/") == (200, "close")
        assert await _get(session, ports[1], "/") == (200, "close")


async def test_sigterm_begins_the_drain() -> None:
    drain = Drain()
    async with serving(drain, seconds=0.05) as (_, task):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 5)
        assert drain.draining


async def test_port_that_is_taken_is_an_error() -> None:
    async with serving(Drain(), seconds=0, host="127.0.0.1") as (ports, _):
        with pytest.raises(OSError, match="in use"):
            await serve([Listener(slow_app, ports[0], host="127.0.0.1")], drain=Drain(), drain_seconds=0)


async def test_both_families_are_served() -> None:
    async with serving(Drain(), seconds=0) as (ports, _), aiohttp.ClientSession() as session:
        assert (await _get(session, ports[0], "/"))[0] == 200


async def _get(session: aiohttp.ClientSession, port: int, path: str) -> tuple[int, str]:
    async with session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, response.headers.get("connection", "").lower()
