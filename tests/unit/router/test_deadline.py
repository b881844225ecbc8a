"""Deadlines of a process that gets no core for a while: what others have sent meanwhile is not late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from kanarya_inference.deadline import PIECES, Deadline
from kanarya_inference.router import client
from tests.unit.router.conftest import Rig, Start, eventually

pytestmark = pytest.mark.slow


async def test_what_takes_too_long_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with Deadline(0.2):
            await asyncio.sleep(5)
    assert 0.19 < time.monotonic() - began < 2


async def test_what_ends_in_time_is_not_ended_later() -> None:
    async with Deadline(0.1):
        await asyncio.sleep(0)
    await asyncio.sleep(0.2)


@pytest.mark.parametrize("stalls", [1, PIECES - 1])
async def test_a_stall_costs_a_piece_however_long_it_is(stalls: int) -> None:
    """Several turns of the loop, as a connection takes them, still pass after the last stall."""
    loop = asyncio.get_running_loop()
    async with Deadline(0.2):
        for _ in range(stalls):
            await asyncio.sleep(0)
            loop.call_soon(time.sleep, 0.4)
        for _ in range(5):
            await asyncio.sleep(0)


async def test_without_end_the_loop_stalls_and_the_wait_ends_nevertheless() -> None:
    async def stalling() -> None:
        async with Deadline(0.1):
            while True:
                time.sleep(0.2)  # noqa: ASYNC251 -- the stall
                await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stalling(), 10)


async def test_a_moved_deadline_is_the_only_one() -> None:
    loop = asyncio.get_running_loop()
    async with Deadline(0.1) as deadline:
        deadline.reschedule(loop.time() + 5)
        await asyncio.sleep(0.3)
    deadline = Deadline(5)
    with pytest.raises(TimeoutError):
        await _ended_at_once(deadline)
    assert deadline.expired()


async def _ended_at_once(deadline: Deadline) -> None:
    async with deadline:
        deadline.reschedule(asyncio.get_running_loop().time())
        assert not deadline.expired()
        await asyncio.sleep(1)


def _before_connecting(router: Rig, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    connect = loop.sock_connect

    async def acting(sock: Any, address: Any) -> None:
        if address == router.stable[0].address:
            await act()
        await connect(sock, address)

    monkeypatch.setattr(loop, "sock_connect", acting)


async def test_a_router_without_a_core_still_takes_the_connection_that_the_pod_has_accepted(
    rig: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an overcommitted machine every request that made a connection just then was answered 503, as was its second attempt."""
    monkeypatch.setattr(client, "CONNECT_SECONDS", 0.2)
    router = await rig()

    async def stall() -> None:
        asyncio.get_running_loop().call_soon(time.sleep, 0.4)

    _before_connecting(router, monkeypatch, stall)
    statuses = [status for status, _, _ in await asyncio.gather(*(router.predict() for _ in range(3)))]
    assert statuses == [200] * 3
    assert await router.attempts(track="stable", outcome="unreachable") == 0


async def test_a_pod_that_accepts_no_connection_is_given_up(rig: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONNECT_SECONDS", 0.2)
    router = await rig()
    _before_connecting(router, monkeypatch, lambda: asyncio.sleep(5))
    status, _, body = await router.predict()
    assert (status, body["error"]) == (503, "stable: no connection in time")


async def test_a_router_without_a_core_does_not_count_its_own_stall_against_a_copy(rig: Start) -> None:
    """A copy may take twice the latency that aborts: some tens of milliseconds for a fast model."""
    router = await rig(mirrorPercent=100, mirrorTimeoutMilliseconds=200)

    async def stalls(_: web.Request) -> web.StreamResponse:
        time.sleep(0.4)  # noqa: ASYNC251 -- the router's loop is this one
        return web.json_response({"score": 0.5, "label": 1})

    router.candidate[0].handler = stalls
    assert (await router.predict())[0] == 200
    await eventually(lambda: router.attempts(track="candidate", exposure="mirror"))
    assert await router.attempts(track="candidate", exposure="mirror", outcome="success") == 1
