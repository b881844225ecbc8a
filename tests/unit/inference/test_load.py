import asyncio
import json
import math
import random
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import numpy as np
import pytest
from aiohttp import web

from kanarya_inference import load
from kanarya_inference.load import LoadGenerator, LoadStats, bodies, control_app, parse_shift
from kanarya_inference.load_rows import row_bodies
from kanarya_inference.registry import read_artefact
from kanarya_inference.server.faults import Faults
from kanarya_inference.training.data import FEATURES
from tests.unit.inference.support import free_port, pick, running
from tests.unit.listening import listening

pytestmark = pytest.mark.slow

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 22\r\nx-kanarya-track: stable\r\n\r\n"
BODY = b'{"model_version":"v1"}'


def generator(url: str, stats: LoadStats | None = None, **changes: Any) -> LoadGenerator:
    settings: dict[str, Any] = {"rate": 100.0, "duration": 0.5, "new_connections": 0.5, "seed": 1, "shift": {}, **changes}
    return LoadGenerator(url, stats=stats or LoadStats(), **settings)


@asynccontextmanager
async def raw_server(
    answers_per_connection: int, answer: bytes = ANSWER + BODY, *, after: float = 0.0
) -> AsyncIterator[tuple[str, list[int]]]:
    """Answer so many requests on each connection, each `after` some seconds, then close it; yields the URL and requests per connection."""
    connections: list[int] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        index = len(connections)
        connections.append(0)
        while connections[index] < answers_per_connection:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(length)
            connections[index] += 1
            await asyncio.sleep(after)
            writer.write(answer)
        if answers_per_connection < 10:  # take the next request and close without an answer
            await reader.read(1)

    async with listening(handle) as port:
        yield f"http://127.0.0.1:{port}/ml/predict", connections


async def test_every_request_reaches_the_server_once(baseline: Path) -> None:
    async with running(baseline) as server:
        run = generator(f"{server.url}/ml/predict")
        await run.run()
        stats = run.stats.to_json(run.in_flight)
        assert (stats["sent"], stats["answered"], stats["in_flight"], stats["error_count"]) == (50, 50, 0, 0)
        assert stats["by_status"] == {"200": 50}
        version = stats["by_version"]["v1.8.0"]
        assert version["count"] == 50
        assert stats["started_at"] <= version["first_at"] < version["last_at"] <= stats["now"]
        latency = stats["latency_ms"]
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
        assert pick(await server.series(), "ml_predict_requests_total", model_version="v1.8.0", status="ok") == 50


async def test_connections_are_new_or_kept_as_asked() -> None:
    choice = random.Random(1)
    new = sum(choice.random() < 0.5 for _ in range(50))
    # A pool holds one connection, or as many as requests overlap when the machine stalls.
    for share, low, high in ((1.0, 50, 50), (0.0, 1, 40), (0.5, new + 1, 49)):
        async with raw_server(1000) as (url, connections):
            await generator(url, new_connections=share).run()
            assert sum(connections) == 50
            assert low <= len(connections) <= high


async def test_a_connection_closed_under_a_request_is_an_error_and_never_retried() -> None:
    async with raw_server(1) as (url, connections):
        run = generator(url, new_connections=0.0)
        await run.run()
        assert run.stats.error_count > 10
        assert run.stats.answered + run.stats.error_count == run.stats.sent == 50
        assert sum(connections) == run.stats.answered
        assert run.stats.errors[-1]["kind"] in {"ServerDisconnectedError", "ClientOSError"}


async def test_server_errors_count_by_status_and_version(baseline: Path) -> None:
    async with running(baseline, faults=Faults(error_rate=1)) as server:
        run = generator(f"{server.url}/ml/predict", duration=0.2)
        await run.run()
        stats = run.stats.to_json(0)
        assert (stats["answered"], stats["error_count"], stats["by_status"]) == (20, 20, {"500": 20})
        assert stats["errors"][0]["kind"] == "status_500"
        assert stats["errors"][0]["message"] == "injected fault"
        assert stats["by_version"]["v1.8.0"]["count"] == 20


async def test_nobody_listening_is_an_error_each_time() -> None:
    run = generator(f"http://127.0.0.1:{free_port()}/ml/predict", duration=0.1)
    await run.run()
    assert (run.stats.sent, run.stats.answered, run.stats.error_count) == (10, 0, 10)
    assert run.stats.errors[0]["kind"] == "ClientConnectorError"


async def test_a_silent_server_is_a_timeout_and_requests_leave_on_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "TIMEOUT_SECONDS", 0.3)
    async with raw_server(1000, answer=b"") as (url, _):
        run = generator(url, duration=0.2)
        sending = asyncio.create_task(run.run())
        most = 0
        while not sending.done():
            await asyncio.wait([sending], timeout=0.01)
            most = max(most, run.in_flight)
        assert most >= 15  # although none was answered
    assert {error["kind"] for error in run.stats.errors} == {"timeout"}
    assert run.stats.error_count == 20


async def test_a_load_that_gets_no_core_blames_nobody_and_says_how_late_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "TIMEOUT_SECONDS", 0.4)
    async with raw_server(1000, after=0.1) as (url, _):
        run = generator(url)
        asyncio.get_running_loop().call_later(0.2, time.sleep, 1.0)
        await run.run()
    stats = run.stats.to_json(0)
    assert (stats["answered"], stats["error_count"]) == (50, 0), stats["errors"]
    assert 700 < stats["late_ms"] < 30_000


async def test_requests_in_flight_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(load, "MAX_IN_FLIGHT", 5)
    async with raw_server(1000, answer=b"") as (url, _):
        run = generator(url, duration=0.2)
        await run.run()
    kinds = [error["kind"] for error in run.stats.errors]
    assert (kinds.count("timeout"), kinds.count("not_sent"), run.stats.sent) == (5, 15, 5)


async def test_tracks_are_counted_from_the_header() -> None:
    async with raw_server(1000) as (url, _):
        run = generator(url, duration=0.1)
        await run.run()
    assert run.stats.by_track == {"stable": 10}
    assert run.stats.by_version["v1"]["count"] == 10


async def test_a_200_that_is_no_prediction_is_an_error() -> None:
    async with raw_server(1000, answer=ANSWER.replace(b"22", b"4") + b"null") as (url, _):
        run = generator(url, duration=0.1)
        await run.run()
    assert {error["kind"] for error in run.stats.errors} == {"bad_answer"}


async def test_control_server_reports_and_resets(baseline: Path) -> None:
    async with running(baseline) as server:
        run = generator(f"{server.url}/ml/predict", duration=30)
        runner = web.AppRunner(control_app(run), access_log=None)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        control = f"http://127.0.0.1:{port}"
        sending = asyncio.create_task(run.run())
        try:
            await asyncio.sleep(0.15)
            async with server.client.get(f"{control}/stats") as response:
                stats = await response.json()
            assert stats["answered"] > 5
            async with server.client.get(f"{control}/answers", params={"since": stats["started_at"]}) as response:
                answers = await response.json()
            assert len(answers) >= stats["answered"]
            assert answers[0][1:4] == ["v1.8.0", None, 200]
            assert 0 < answers[0][4] < 10_000
            async with server.client.get(f"{control}/answers", params={"since": stats["now"] + 60}) as response:
                assert await response.json() == []
            async with server.client.get(f"{control}/answers", params={"since": "now"}) as response:
                assert response.status == 422
            async with server.client.post(f"{control}/reset") as response:
                fresh = await response.json()
            assert (fresh["sent"], fresh["answered"], fresh["by_version"]) == (0, 0, {})
            assert fresh["started_at"] > stats["started_at"]
            assert fresh["late_ms"] == 0 < stats["late_ms"]
            run.stop()
            await asyncio.wait_for(sending, 1)
        finally:
            run.stop()
            await sending
            await runner.cleanup()


@pytest.mark.parametrize("status", [204, 302, 408, 429, 500])
def test_an_answer_that_is_no_200_is_an_error(status: int) -> None:
    stats = LoadStats()
    stats.answer(status, {}, b'{"error": "try later"}', 1.0)
    assert (stats.answered, stats.error_count, stats.by_status) == (1, 1, {str(status): 1})
    assert (stats.errors[0]["kind"], stats.errors[0]["message"]) == (f"status_{status}", "try later")


def test_only_the_last_errors_and_answers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "KEPT_ANSWERS", 10)
    stats = LoadStats(clock=lambda: 5.0)
    for number in range(60):
        stats.answer(503, {}, b"", float(number))
    assert stats.error_count == 60
    assert (len(stats.errors), len(stats.answers)) == (50, 10)
    assert stats.errors[0] == {"time": 5.0, "kind": "status_503", "message": ""}


def test_quantiles_are_within_a_per_cent() -> None:
    stats = LoadStats()
    assert stats.to_json(0)["latency_ms"] == {"p50": None, "p95": None, "p99": None, "p99.9": None, "max": 0.0}
    for milliseconds in range(1, 1001):
        stats.answer(200, {}, BODY, float(milliseconds))
    latency = stats.to_json(0)["latency_ms"]
    assert latency["p50"] == pytest.approx(500, rel=0.011)
    assert latency["p95"] == pytest.approx(950, rel=0.011)
    assert latency["max"] == 1000


def test_snapshots_come_from_the_training_population(baseline: Path) -> None:
    source = bodies(3, {}, clock=lambda: 7.0)
    snapshots = [msgspec.json.decode(next(source))["snapshot"] for _ in range(3000)]
    assert snapshots[0]["ts"] == 7.0
    for name, reference in read_artefact(baseline).reference.features.items():
        field = "spreadBp" if name == "spread_bp" else name
        counts = np.bincount([reference.bin_of(snapshot[field]) for snapshot in snapshots], minlength=11)
        assert counts[:10].min() > 220  # 300 expected, give or take 17
        assert counts[:10].max() < 380


def test_shifted_snapshots_and_seeds() -> None:
    plain, same, moved = bodies(3, {}), bodies(3, {}), bodies(3, {"spread_bp": 2.0})
    for _ in range(20):
        one, other, shifted = (json.loads(next(source))["snapshot"] for source in (plain, same, moved))
        assert {**one, "ts": 0} == {**other, "ts": 0}
        assert shifted["spreadBp"] - one["spreadBp"] == pytest.approx(2 * FEATURES["spread_bp"].sd, abs=1e-5)


@pytest.mark.parametrize(
    "changes", [{"rate": 0}, {"rate": 2001}, {"rate": math.nan}, {"duration": 0}, {"new_connections": 1.5}, {"shift": {"volume": 1}}]
)
async def test_senseless_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"rate|duration|share|unknown feature"):
        generator("http://127.0.0.1:1/", **changes)


def test_shift_arguments() -> None:
    assert parse_shift("spread_bp=-1.5") == ("spread_bp", -1.5)
    for text in ("spread_bp", "=1", "mid=x", "mid=nan", ""):
        with pytest.raises(ArgumentTypeError, match="FEATURE=SD"):
            parse_shift(text)


def test_the_command_prints_its_statistics(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser()
    load.add_arguments(parser)
    url = f"http://127.0.0.1:{free_port()}/"
    args = parser.parse_args(["--url", url, "--rate", "50", "--duration", "0.1", "--port", str(free_port()), "--shift", "mid=1"])
    assert load.main(args) == 1
    assert json.loads(capsys.readouterr().out)["error_count"] == 5
    args.rate = 0
    assert load.main(args) == 2
    assert "the rate is above 0" in capsys.readouterr().err


async def test_the_client_library_does_not_repeat_posts() -> None:
    assert "POST" not in aiohttp.client.IDEMPOTENT_METHODS


def test_rows_of_a_file_are_sent_over_and_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('ts,"spread_bp",venue,id\n1,2.5,alpha,"7"\n2,,"",nan\n')
    sent = row_bodies(path)
    first, second, third = (json.loads(next(sent)) for _ in range(3))
    assert first == {"snapshot": {"ts": 1.0, "spread_bp": 2.5, "venue": "alpha", "id": 7.0}}
    assert second == {"snapshot": {"ts": 2.0, "spread_bp": None, "venue": None, "id": None}}
    assert third == first


@pytest.mark.parametrize("content", [b"", b"a,b\n", b"\xff\xfe\n1\n", b'a\n"1\n'])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"rows\.csv (has no rows|cannot be read)"):
        row_bodies(tmp_path / "rows.csv")
    with pytest.raises(ValueError, match="cannot be read"):
        row_bodies(tmp_path / "absent.csv")


async def test_a_model_of_a_table_is_loaded_with_rows_of_that_table(tabular: Path, demo_tables: Path) -> None:
    async with running(tabular) as server:
        run = generator(f"{server.url}/ml/predict", data=demo_tables / "golden.csv")
        await run.run()
        assert run.stats.to_json(0)["by_status"] == {"200": 50}
        assert not run.stats.errors
