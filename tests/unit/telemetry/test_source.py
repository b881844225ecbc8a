"""The HTTP client, against a server on loopback that does everything a server should not."""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from pydantic import ValidationError

from kanarya.telemetry import source as module
from kanarya.telemetry.source import PrometheusSource, Series, SourceConfig, SourceError
from tests.unit.listening import Handler, listening

SECRET = "hunter2-in-a-body"

CAPTURED = Path(__file__).parent / "captured"
"""Answers of a real Prometheus 3.15."""


def matrix(*result: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "matrix", "result": list(result)}, **more}


def reply(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n".encode() + body


async def _request(reader: asyncio.StreamReader) -> tuple[str, dict[str, list[str]]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length"))
    return head, parse_qs((await reader.readexactly(length)).decode())


@asynccontextmanager
async def serving(handler: Handler, *, limit: float = 2.0, path: str = "", **options: Any) -> AsyncIterator[PrometheusSource]:
    async with listening(handler) as port:
        source = PrometheusSource(
            SourceConfig(url=f"http://127.0.0.1:{port}{path}", scrape_interval_seconds=5, timeout_seconds=limit), **options
        )
        try:
            yield source
        finally:
            await source.close()


def answering(answer: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        writer.write(answer)
        await writer.drain()

    return handler


async def failure(handler: Handler, **options: Any) -> SourceError:
    async with serving(handler, **options) as source:
        with pytest.raises(SourceError) as caught:
            await source.query("up[20s]", 1000.0)
    assert SECRET not in str(caught.value)
    assert str(caught.value).endswith(".")
    return caught.value


async def test_a_matrix_is_read() -> None:
    seen: list[tuple[str, dict[str, list[str]]]] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await _request(reader))
        answer = matrix({"metric": {"__name__": "up", "pod": "a"}, "values": [[995, "1"], [1000.125, "+Inf"]]}, warnings=["odd"])
        writer.write(reply(json.dumps(answer).encode()))

    async with serving(handler, path="/prom/") as source:
        assert await source.query('up{pod="a"}[20s]', 1000.5) == [
            Series({"__name__": "up", "pod": "a"}, ((995.0, 1.0), (1000.125, float("inf"))))
        ]
    head, form = seen[0]
    assert head.startswith("POST /prom/api/v1/query HTTP/1.1")
    assert "accept-encoding: identity" in head.lower()
    whole = {"partial_response": ["false"], "deny_partial_response": ["1"]}  # else errors that one store knows would be passed over
    assert form == {"query": ['up{pod="a"}[20s]'], "time": ["1000.500"], "timeout": ["2000ms"], **whole}


async def test_no_series() -> None:
    async with serving(answering(reply(json.dumps(matrix()).encode()))) as source:
        assert await source.query("up[20s]", 1000.0) == []


@pytest.mark.parametrize("kept", ["native-custom-buckets", "native-exponential"])
async def test_native_histograms_as_prometheus_writes_them(kept: str) -> None:
    body = (CAPTURED / f"{kept}.json").read_bytes()
    async with serving(answering(reply(body))) as source:
        (series,) = await source.query("x[3s]", 1000.0)
    assert [one.count for _, one in series.histograms] == [value for _, value in series.samples]
    assert len(series.histograms) >= 2
    for _, one in series.histograms:
        assert one.within(math.inf) == one.count > 0
        assert one.within(0.0) == 0


@pytest.mark.parametrize("sample", [{}, {"count": "1", "buckets": [[0, "0.1", "3"]]}, {"count": None}, {"count": "1", "buckets": 3}])
async def test_a_native_histogram_that_is_none(sample: object) -> None:
    body = json.dumps(matrix({"metric": {}, "histograms": [[1, sample]]})).encode()
    assert (await failure(answering(reply(body)))).failure == "bad_answer"


async def test_how_far_an_instant_selector_looks_back_is_sent() -> None:
    seen: list[dict[str, list[str]]] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await _request(reader))[1])
        writer.write(reply(json.dumps(matrix()).encode()))

    async with serving(handler) as source:
        await source.query("(up)[1s:1s]", 1000.0, lookback_seconds=17.0)
    assert seen[0]["lookback_delta"] == ["17000ms"]


async def test_a_server_that_hangs_is_given_up() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    began = time.monotonic()
    assert (await failure(handler, limit=0.15)).failure == "timeout"
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"])
async def test_a_server_that_trickles_does_not_outlive_the_deadline(head: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        writer.write(head or b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for _ in range(500):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    began = time.monotonic()
    assert (await failure(handler, limit=0.15)).failure == "timeout"
    assert time.monotonic() - began < 2


async def test_a_closed_port_is_unreachable() -> None:
    async with serving(answering(b"")) as source:
        url = source.config.url
    source = PrometheusSource(SourceConfig(url=url, scrape_interval_seconds=5))
    with pytest.raises(SourceError, match="cannot be reached") as caught:
        await source.query("up[20s]", 1000.0)
    assert caught.value.failure == "unreachable"
    await source.close()
    with pytest.raises(SourceError, match="cannot be reached"):
        await source.query("up[20s]", 1000.0)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", "unreachable"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "unreachable"),
        (reply(b"x" * 10)[:-5], "unreachable"),
        (reply(SECRET.encode(), "500 " + SECRET), "5xx"),
        (reply(SECRET.encode(), "503 Service Unavailable"), "5xx"),
        (reply(SECRET.encode(), "400 Bad Request"), "4xx"),
        (reply(SECRET.encode(), "422 Unprocessable Entity"), "4xx"),
        (reply(b"", "302 Found", f"Location: http://169.254.169.254/{SECRET}\r\n"), "redirect"),
        (reply(b"", "204 No Content"), "bad_answer"),
        (reply(b"", headers="Content-Encoding: gzip\r\n"), "bad_answer"),
        (reply(SECRET.encode()), "bad_answer"),
        (reply(b"[" * 200_000), "bad_answer"),
        (reply(b"\xff\xfe"), "bad_answer"),
        (reply(b"null"), "bad_answer"),
        (reply(json.dumps({"status": "error", "errorType": "x", "error": SECRET}).encode()), "bad_answer"),
        (reply(json.dumps({"status": "success", "data": [SECRET]}).encode()), "bad_answer"),
        (reply(json.dumps({"status": "success", "data": {"resultType": "vector", "result": []}}).encode()), "bad_answer"),
        (reply(json.dumps({"status": "success", "data": {"resultType": "matrix", "result": {}}}).encode()), "bad_answer"),
        (reply(json.dumps(matrix({"values": []})).encode()), "bad_answer"),
        (reply(json.dumps(matrix({"metric": {"a": 1}, "values": []})).encode()), "bad_answer"),
        (reply(json.dumps(matrix({"metric": {}, "values": [[1, 2]]})).encode()), "bad_answer"),
        (reply(json.dumps(matrix({"metric": {}, "values": [[1, SECRET]]})).encode()), "bad_answer"),
        (reply(json.dumps(matrix({"metric": {}, "values": [["1", "2"]]})).encode()), "bad_answer"),
        (reply(json.dumps(matrix({"metric": {}, "values": [[1, "2", 3]]})).encode()), "bad_answer"),
        (reply(json.dumps(matrix({"metric": {}, "values": [[2, "2"], [1, "3"]]})).encode()), "bad_answer"),
        (reply(json.dumps(matrix({"metric": {}, "values": None})).encode()), "bad_answer"),
        (reply(b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[NaN,"1"]]}]}}'), "bad_answer"),
        (
            reply(b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1' + b"0" * 400 + b',"1"]]}]}}'),
            "bad_answer",
        ),
    ],
)
async def test_answers_that_cannot_be_used(answer: bytes, expected: str) -> None:
    assert (await failure(answering(answer))).failure == expected


async def test_a_huge_body_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100_000)
    sent = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await _request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(1000):
            writer.write(b"[" * 65536)
            await writer.drain()
            sent += 65536

    assert (await failure(handler)).failure == "too_large"
    assert sent < 60_000_000


async def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with serving(answering(reply(json.dumps(matrix()).encode()))) as source:
        assert await source.query("up[20s]", 1000.0) == []


async def test_a_given_client_is_not_closed() -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=matrix()))) as client:
        source = PrometheusSource(SourceConfig(url="http://prometheus.test", scrape_interval_seconds=5), client)
        assert await source.query("up[20s]", 1000.0) == []
        await source.close()
        assert not client.is_closed


@pytest.mark.parametrize(
    ("apart", "ahead", "behind"),
    [(0.0, 0.0, 0.0), (0.5, 0.0, 0.0), (5.0, 4.0, 0.0), (-0.5, 0.0, 1.5), (-5.0, 0.0, 6.0), (-9.5, 0.0, 10.5), (11.0, 10.0, 0.0)],
)
async def test_how_far_the_clocks_are_apart(apart: float, ahead: float, behind: float) -> None:
    date = email.utils.formatdate(1_000_000, usegmt=True)
    answer = reply(json.dumps(matrix()).encode(), headers=f"Date: {date}\r\n")
    async with serving(answering(answer), wall=lambda: 1_000_000 + apart) as source:
        await source.query("up[20s]", 1000.0)
        assert (source.clock_ahead, source.clock_behind) == (ahead, behind)


@pytest.mark.parametrize("apart", [-11.0, 12.0, 86400.0])
async def test_clocks_that_are_far_apart(apart: float) -> None:
    date = email.utils.formatdate(1_000_000, usegmt=True)
    answer = reply(json.dumps(matrix()).encode(), headers=f"Date: {date}\r\n")
    caught = await failure(answering(answer), wall=lambda: 1_000_000 + apart)
    assert caught.failure == "clock"


async def test_a_clock_that_was_set_back_has_to_catch_up_first() -> None:
    now = 1_000_000.0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        writer.write(reply(json.dumps(matrix()).encode(), headers=f"Date: {email.utils.formatdate(now, usegmt=True)}\r\n"))
        await writer.drain()

    async with serving(handler, wall=lambda: now) as source:
        await source.query("up[20s]", 1000.0)
        now -= 1  # the header's own grain
        await source.query("up[20s]", 1000.0)
        now -= 39
        with pytest.raises(SourceError, match=r"set back: .* in 57 s") as caught:
            await source.query("up[20s]", 1000.0)
        assert caught.value.failure == "clock"
        now += 56
        with pytest.raises(SourceError, match="in 1 s"):
            await source.query("up[20s]", 1000.0)
        now += 1
        await source.query("up[20s]", 1000.0)


@pytest.mark.parametrize("date", ["yesterday", "Thu, 99 Jan 1970 00:00:00 GMT", ""])
async def test_a_date_that_cannot_be_read_says_nothing(date: str) -> None:
    async with serving(answering(reply(json.dumps(matrix()).encode(), headers=f"Date: {date}\r\n"))) as source:
        assert await source.query("up[20s]", 1000.0) == []
        assert source.clock_ahead == 0.0


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "ftp://prometheus"},
        {"url": "prometheus:9090"},
        {"url": "http://"},
        {"url": "http://me:secret@prometheus"},
        {"url": "http://prometheus/?x=1"},
        {"url": "http://prometheus/#x"},
        {"scrapeIntervalSeconds": 0},
        {"scrapeIntervalSeconds": float("nan")},
        {"timeoutSeconds": 0},
        {"timeoutSeconds": float("inf")},
        {"tokenFile": "/etc/passwd"},
    ],
)
def test_configurations_that_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SourceConfig.model_validate({"url": "http://prometheus", "scrapeIntervalSeconds": 5, **changes})


def test_a_configuration() -> None:
    config = SourceConfig.model_validate({"url": "https://prometheus:9090/prom/", "scrapeIntervalSeconds": 5})
    assert (config.url, config.scrape_interval_seconds, config.timeout_seconds) == ("https://prometheus:9090/prom", 5.0, 5.0)
