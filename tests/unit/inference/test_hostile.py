"""Hostile bodies and the OpenAPI's own fuzzer: no crash, and no 5xx that is the server's fault."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from kanarya_inference.server.app import InferenceApp
from kanarya_inference.server.settings import ServerSettings
from tests.unit.inference.hostile import PATHS, bodies, corpus
from tests.unit.inference.support import SNAPSHOT, Running, running
from tests.unit.inference.test_process import Process

pytestmark = pytest.mark.slow

SETTINGS = ServerSettings(client_rate=0, model_control=True)
SEED = 2026
ANSWERS = {200, 400, 404, 413, 422}
GOOD = json.dumps({"snapshot": SNAPSHOT}).encode()


async def ask(app: InferenceApp, path: str, body: bytes, chance: random.Random) -> tuple[int, bytes]:
    """One request straight to the application, its body in one to three parts."""
    cuts = sorted(chance.randrange(len(body) + 1) for _ in range(chance.choice((0, 0, 1, 2))))
    parts = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    messages = [{"type": "http.request", "body": part, "more_body": number < len(parts) - 1} for number, part in enumerate(parts)]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "method": "POST", "headers": [], "client": ("127.0.0.1", 1)}
    await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


async def test_ten_thousand_hostile_bodies(baseline: Path) -> None:
    app = InferenceApp(baseline, SETTINGS)
    app.load()
    chance = random.Random(SEED)
    seen: Counter[int] = Counter()
    for number, (path, body) in enumerate(bodies(10_000, SEED)):
        status, answer = await ask(app, path, body, chance)
        assert status in ANSWERS, (number, path, body[:500], status, answer)
        document = json.loads(answer)
        if status != 200:
            assert set(document) == {"error"}
            assert len(document["error"]) < 2000
        seen[status] += 1
    assert all(seen[status] > 20 for status in (200, 400, 413, 422)), seen
    assert app.counts.errors["inference"] == 0
    assert app.counts.queue_depth == 0
    assert (await ask(app, "/ml/predict", GOOD, chance))[0] == 200
    assert app.metrics.exposition()


async def raw(server: Running, request: bytes, *, half_close: bool = False) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(request)
        if half_close:
            writer.write_eof()
        return await asyncio.wait_for(reader.readline(), 5)
    finally:
        writer.close()


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"POST " + path.encode() + b" HTTP/1.1", b"Host: x", *headers, b"", body])


async def test_a_sample_over_real_connections(baseline: Path) -> None:
    chosen = [case for number, case in enumerate(bodies(10_000, SEED)) if number % 100 == 0 or number < len(corpus()) * len(PATHS)]
    async with running(baseline, settings=SETTINGS) as server:
        for number, (path, body) in enumerate(chosen):
            if number % 2:
                request = post(path, body, b"Content-Length: %d" % len(body))
            else:
                request = post(path, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n", b"Transfer-Encoding: chunked")
            line = await raw(server, request)
            assert int(line.split()[1]) in ANSWERS, (path, body[:300], line)
        assert (await server.predict())[0] == 200


async def test_hostile_http(baseline: Path) -> None:
    requests = [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%00%ff%2e%2e/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET " + b"/a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2/models/" + b"m/" * 2000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        post("/ml/predict", GOOD, b"Content-Length: -1"),
        post("/ml/predict", GOOD, b"Content-Length: 5", b"Content-Length: 7"),
        post("/ml/predict", b"ffffffffffffffff\r\n", b"Transfer-Encoding: chunked"),
        post("/ml/predict", GOOD, b"Content-Length: %d" % len(GOOD), b"traceparent: \xff", b"X-Forwarded-For: \x80,,,"),
        post("/ml/predict", GOOD, b"Content-Length: %d" % len(GOOD), b"Expect: 100-continue"),
    ]
    async with running(baseline, settings=ServerSettings(client_rate=1000, client_header="x-forwarded-for")) as server:
        for request in requests:
            line = await raw(server, request, half_close=True)
            assert not line or int(line.split()[1]) < 500, (request[:80], line)
        for body in (GOOD[:20], b""):  # a body announced and never sent: the client gives up
            await raw(server, post("/ml/predict", body, b"Content-Length: 500"), half_close=True)
        assert (await server.predict())[0] == 200
        assert server.app.counts.queue_depth == 0


@pytest.fixture(scope="module")
def server_process(baseline: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    server = Process(baseline, tmp_path_factory.mktemp("process") / "log", "--client-rate", "0")
    try:
        server.until(lambda: server.call("GET", "/ml/health")[0] == 200)
        yield server
        assert server.process.poll() is None
    finally:
        server.process.kill()
        server.process.wait(5)


def test_the_server_keeps_to_its_openapi(server_process: Process) -> None:
    url = f"http://127.0.0.1:{server_process.port}"
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    checks = [
        status_code_conformance, content_type_conformance, response_schema_conformance, response_headers_conformance, unsupported_method,
    ]  # fmt: skip
    called = Counter[str]()
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        strategy = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
        wrong = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)

        @settings(
            max_examples=6, deadline=None, database=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
        )
        def call(case: Any) -> None:
            response = case.call(timeout=10)
            called[f"{case.operation.method} {case.operation.path}"] += 1
            assert response.status_code < 500, (case.body, response.text)
            case.validate_response(response, checks=checks)

        hypothesis.given(case=strategy)(call)()
        if operation.body:
            hypothesis.given(case=wrong)(call)()
    assert len(called) > 20, called
    assert server_process.call("POST", "/ml/predict", {"snapshot": SNAPSHOT})[0] == 200
