"""The serving benchmark's client counts what a real server answered."""

import asyncio

from benchmarks.serving_client import Load, closed_loop, open_loop, request_bytes
from kanarya_inference.serving import Drain, Listener, Receive, Scope, Send, answer, serve


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await answer(send, 200 if scope["path"] == "/good" else 503, b"{}")


async def measured(path: str, *, rate: float | None = None) -> Load:
    drain = Drain()
    ports: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve([Listener(app, 0, "127.0.0.1")], drain=drain, drain_seconds=0, on_started=ports.set_result))
    try:
        [port] = await asyncio.wait_for(ports, 5)
        request = request_bytes(path, b'{"a": 1}')
        if rate is None:
            return await closed_loop(port, request, connections=2, seconds=0.2)
        return await open_loop(port, request, rate=rate, seconds=0.5, connections=16)
    finally:
        drain.begin()
        await asyncio.wait_for(serving, 10)


async def test_a_steady_rate() -> None:
    load = await measured("/good", rate=100)
    assert (load.answered, load.errors, len(load.latencies)) == (50, 0, 50)
    assert 0 < load.quantile(0.5) <= load.quantile(0.95) < 5000


async def test_answers_that_are_no_200_are_errors() -> None:
    load = await measured("/bad", rate=100)
    assert (load.answered, load.errors) == (0, 50)


async def test_every_connection_is_kept_busy() -> None:
    load = await measured("/good")
    assert load.answered > 10
    assert load.errors == 0
    assert load.seconds >= 0.2
