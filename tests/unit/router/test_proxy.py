"""The live path, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from io import BytesIO
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from kanarya.cluster.port import CONFIGMAPS, HTTPROUTES
from kanarya_inference.router import intake
from tests.unit.listening import listening
from tests.unit.router.cluster import Pod, configmap, no_candidate, route
from tests.unit.router.conftest import Rig, Start, eventually

pytestmark = pytest.mark.slow


async def test_request_and_answer_cross_whole(rig: Start) -> None:
    router = await rig()
    router.stable[0].handler = lambda _: _answer(web.Response(status=201, text="hi", headers={"x-model-version": "v1"}))
    headers = {"x-forwarded-for": "9.9.9.9", "x-kanarya-mirror": "true", "connection": "keep-alive, x-hop", "x-hop": "1", "x-mine": "é"}
    url = URL(f"http://127.0.0.1:{router.port}/ml/pre%20dict?a=1&b=%2F", encoded=True)
    async with router.client.put(url, data=b"body", headers=headers) as response:
        assert (response.status, await response.text()) == (201, "hi")
        assert response.headers["x-model-version"] == "v1"
        assert response.headers["x-kanarya-track"] == "stable"
    line, seen, body = router.stable[0].requests[0]
    assert (line, body) == ("PUT /ml/pre%20dict?a=1&b=%2F", b"body")
    assert seen["x-forwarded-for"] == "9.9.9.9, 127.0.0.1"
    assert seen["host"] == f"127.0.0.1:{router.port}"
    assert seen["x-mine"] == "é"
    assert not {"x-hop", "x-kanarya-mirror", "accept-encoding"} & seen.keys()


async def test_methods_without_a_body(rig: Start) -> None:
    router = await rig()
    router.stable[0].handler = lambda _: _answer(web.Response(status=204))
    async with router.client.delete(router.url) as response:
        assert response.status == 204
    router.stable[0].handler = None
    async with router.client.head(router.url) as response:
        assert (response.status, int(response.headers["content-length"]) > 0, await response.read()) == (200, True, b"")


async def test_weights_are_kept(rig: Start) -> None:
    router = await rig(stable=75, candidate=25)
    tracks = [(await router.predict())[1] for _ in range(400)]
    assert 70 <= tracks.count("candidate") <= 130  # 100 ± 3.5 standard deviations
    assert await router.attempts(track="candidate", exposure="live", outcome="success") == tracks.count("candidate")


async def test_weight_zero_is_never_served_live(rig: Start) -> None:
    router = await rig(stable=100, candidate=0)
    for _ in range(50):
        assert (await router.predict())[1] == "stable"
    router.api.put_pods("fraud-stable")
    await eventually(lambda: _status_is(router, 503))
    status, track, body = await router.predict()
    assert (status, track) == (503, "stable")
    assert body == {"error": "stable: no ready endpoint"}
    router.stable[0].status = 500
    router.api.put_pods("fraud-stable", router.stable[0].address)
    await eventually(lambda: _status_is(router, 500))
    assert router.candidate[0].requests == []


async def test_stable_of_weight_zero_is_never_served_live(rig: Start) -> None:
    router = await rig(stable=0, candidate=100)
    for _ in range(20):
        assert (await router.predict())[1] == "candidate"
    assert router.stable[0].requests == []


async def test_candidate_without_a_revision_gets_nothing_live(rig: Start) -> None:
    router = await rig(stable=10, candidate=90, **no_candidate())
    for _ in range(20):
        assert (await router.predict())[1] == "stable"
    assert await router.attempts(track="candidate") is None
    assert await router.sample("kanarya_router_weight", track="candidate") == 0


async def test_weight_follows_the_route_within_a_second(rig: Start) -> None:
    router = await rig(stable=0, candidate=100)
    assert (await router.predict())[1] == "candidate"
    router.api.put(HTTPROUTES, route(100, 0, generation=2))
    await eventually(lambda: _served_by(router, "stable"), seconds=1)
    assert await router.sample("kanarya_router_route_generation") == 2


async def test_failures_keep_their_outcomes(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, fallback="None", limit=0.3)
    pod = router.candidate[0]
    for status, outcome in ((503, "server_error"), (404, "client_error"), (302, "success")):
        pod.status = status
        assert (await router.predict(allow_redirects=False))[0] == status
        assert await router.attempts(track="candidate", outcome=outcome) == 1
    pod.delay = 2
    status, track, body = await router.predict()
    assert (status, track, body) == (504, "candidate", {"error": "candidate: no answer in time"})
    assert await router.attempts(track="candidate", outcome="timeout") == 1
    assert await router.sample("kanarya_request_duration_seconds_bucket", track="candidate", outcome="timeout", le="5.0") == 0
    await pod.stop()
    assert (await router.predict())[0] == 503
    assert await router.attempts(track="candidate", outcome="unreachable") == 1
    assert await router.sample("kanarya_fallbacks_total") == 0


async def test_fallback_answers_from_stable_and_counts_against_the_candidate(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, fallback="Unavailable")
    router.candidate[0].status = 500
    assert (await router.predict())[:2] == (500, "candidate")
    await router.candidate[0].stop()
    assert (await router.predict())[:2] == (200, "stable")
    assert await router.attempts(track="candidate", exposure="live", outcome="unreachable") == 1
    assert await router.attempts(track="stable", exposure="live", outcome="success") == 1
    assert await router.sample("kanarya_fallbacks_total", track="candidate", reason="unreachable") == 1


async def test_fallback_for_any_error(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, fallback="AnyError")
    router.candidate[0].status = 500
    assert (await router.predict())[:2] == (200, "stable")
    assert await router.sample("kanarya_fallbacks_total", reason="server_error") == 1


async def test_fallback_ends_with_its_budget(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, fallback="AnyError")
    router.candidate[0].status = 500
    statuses = [(await router.predict())[0] for _ in range(40)]
    assert statuses == [200] * 30 + [500] * 10
    assert await router.sample("kanarya_fallbacks_total") == 30


async def test_requests_that_were_never_sent_fall_back_without_end(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, fallback="Unavailable")
    await router.candidate[0].stop()
    assert [(await router.predict())[:2] for _ in range(60)] == [(200, "stable")] * 60
    assert await router.attempts(track="candidate", exposure="live", outcome="unreachable") == 60


async def test_a_pod_that_says_it_has_not_begun_is_like_one_that_cannot_be_reached(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, pods=2, fallback="Unavailable")
    for pod in (*router.candidate, router.stable[0]):
        pod.handler = lambda _: _answer(web.Response(status=503, headers={"x-kanarya-unprocessed": "not-ready"}))
    assert [(await router.predict())[:2] for _ in range(60)] == [(200, "stable")] * 60
    assert await router.attempts(track="candidate", exposure="live", outcome="unreachable") == 60
    router.stable[1].handler = router.stable[0].handler
    assert await router.predict() == (503, "stable", {"error": "stable: the pod is not ready"})


async def test_any_other_503_is_the_candidates_answer(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, fallback="Unavailable")
    router.candidate[0].status = 503
    assert (await router.predict())[:2] == (503, "candidate")


async def test_stable_that_refuses_is_tried_again_on_another_pod(rig: Start) -> None:
    router = await rig(pods=2)
    await router.stable[0].stop()
    for _ in range(30):
        assert (await router.predict())[0] == 200
    assert await router.attempts(track="stable", outcome="unreachable") == 1  # once refused, the pod is passed over
    assert router.candidate[0].requests == []


async def test_pods_are_replaced_under_load_without_an_error(rig: Start) -> None:
    """What a promotion does to stable: new pods come, old ones leave the slices and close their connections."""
    router = await rig(pods=2, mirrorPercent=100)
    new = Pod()
    await new.start()
    statuses: list[int] = []

    async def client() -> None:
        while not stop.is_set():
            statuses.append((await router.predict())[0])

    stop = asyncio.Event()
    clients = [asyncio.create_task(client()) for _ in range(6)]
    await asyncio.sleep(0.1)
    router.api.put_pods("fraud-stable", new.address, *(pod.address for pod in router.stable))
    await asyncio.sleep(0.05)
    await router.stable[0].stop()  # gone before the slices say so
    await asyncio.sleep(0.05)
    router.api.put_pods("fraud-stable", new.address)
    await asyncio.sleep(0.05)
    await router.stable[1].stop()
    await asyncio.sleep(0.1)
    stop.set()
    await asyncio.gather(*clients)
    await new.stop()
    assert len(statuses) > 10
    assert set(statuses) == {200}


async def test_closed_kept_alive_connection_is_nobodys_fault(rig: Start) -> None:
    """A pod that closes each connection when the second request comes in on it, as one does whose idle time is over."""
    router = await rig(fallback="None")
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        await reader.readexactly(13)
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"score": 0.5}')
        seen.append(await reader.read(1))

    async with listening(serve) as port:
        router.api.put_pods("fraud-stable", ("127.0.0.1", port))
        await eventually(lambda: _status_is(router, 200, data=b'{"amount": 1}'))
        before = len(seen)
        for _ in range(5):
            async with router.client.post(router.url, data=b'{"amount": 1}') as response:
                assert response.status == 200
        assert seen[before - 1 :].count(b"P") >= 3  # requests that met a connection about to be closed
    assert await router.attempts(track="stable", outcome="unreachable") == 0


async def test_connection_that_breaks_in_the_answer_is_unreachable(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, fallback="None")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"sco')
        await writer.drain()

    async with listening(serve) as port:
        router.api.put_pods("fraud-candidate", ("127.0.0.1", port))
        await eventually(lambda: _status_is(router, 503))
    assert await router.attempts(track="candidate", outcome="unreachable") == 1


async def test_answer_that_is_not_http_is_a_server_error(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, fallback="None")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    async with listening(serve) as port:
        router.api.put_pods("fraud-candidate", ("127.0.0.1", port))
        await eventually(lambda: _status_is(router, 502))
    assert await router.attempts(track="candidate", outcome="server_error") == 1


async def test_body_above_the_limit(rig: Start) -> None:
    router = await rig()
    large = b"x" * (intake.BODY_LIMIT + 1)
    async with router.client.post(router.url, data=BytesIO(large)) as response:
        assert response.status == 413
    async with router.client.post(router.url, data=_chunks(large)) as response:
        assert response.status == 413
    assert router.stable[0].requests == []
    async with router.client.post(router.url, data=BytesIO(large[:-1])) as response:
        assert response.status == 200
    assert len(router.stable[0].requests[0][2]) == intake.BODY_LIMIT


async def test_client_that_leaves_cancels_the_attempt(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, mirrorPercent=100, mirrorTimeoutMilliseconds=1000)
    router.candidate[0].delay = 5
    await _leave(router.port, after=0.1)
    await eventually(lambda: _is(router.attempts(track="candidate", exposure="live", outcome="cancelled"), 1))
    assert router.stable[0].requests == []
    assert await router.sample("kanarya_comparisons_total") == 0


async def test_client_that_leaves_late_saw_a_timeout(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, mirrorTimeoutMilliseconds=60)
    router.candidate[0].delay = 5
    await _leave(router.port, after=0.15)
    await eventually(lambda: _is(router.attempts(track="candidate", exposure="live", outcome="timeout"), 1))


async def test_least_busy_pod_gets_the_next_request(rig: Start) -> None:
    router = await rig(pods=2, limit=30)
    released = asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        await released.wait()
        return web.json_response({"score": 0.5})

    router.stable[0].handler = slow
    stuck = [asyncio.create_task(router.predict()) for _ in range(4)]
    await eventually(lambda: _any_request(router.stable[0]))
    before = len(router.stable[0].requests)
    for _ in range(10):
        await router.predict()
    assert len(router.stable[0].requests) - before <= 3, "the first four, and no more"
    released.set()
    await asyncio.gather(*stuck)


async def test_settings_change_in_place(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, fallback="None")
    router.candidate[0].status = 500
    assert (await router.predict())[0] == 500
    router.api.put(CONFIGMAPS, configmap(fallback="AnyError"))
    await eventually(lambda: _served_by(router, "stable"), seconds=1)


def _answer(response: web.Response) -> asyncio.Future[web.StreamResponse]:
    future: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
    future.set_result(response)
    return future


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 2**20):
        yield body[start : start + 2**20]


async def _is(value: Awaitable[object], expected: object) -> bool:
    return bool(await value == expected)


async def _status_is(router: Rig, status: int, **options: Any) -> bool:
    async with router.client.post(router.url, **(options or {"json": {"amount": 1}})) as response:
        return response.status == status


async def _served_by(router: Rig, track: str) -> bool:
    return (await router.predict())[1] == track


async def _leave(port: int, after: float) -> None:
    body = json.dumps({"amount": 1}).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /ml/predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    await asyncio.sleep(after)
    writer.close()
    await writer.wait_closed()


async def _any_request(pod: Pod) -> bool:
    return bool(pod.requests)
