import asyncio
import dataclasses
import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from kanarya_inference.registry import parity as parity_module
from kanarya_inference.registry import read_artefact
from kanarya_inference.server.app import InferenceApp
from kanarya_inference.server.body import MAX_BODY_BYTES, BodyError, read_body
from kanarya_inference.server.bounds import rollout_bounds
from kanarya_inference.server.faults import Faults
from tests.unit.inference.support import SNAPSHOT, Running, pick, running

pytestmark = pytest.mark.slow

V = "v1.8.0"


async def requests(server: Running) -> dict[str, float]:
    series = await server.series()
    return {status: pick(series, "ml_predict_requests_total", model_version=V, status=status) for status in ("ok", "invalid", "error")}


async def test_predicts_what_the_model_says(baseline: Path) -> None:
    rows = np.array([[SNAPSHOT["ts"], 101.25, 3.2, 11, 48.5, 1]], dtype=np.float32)
    expected = onnxruntime.InferenceSession(baseline / "model.onnx").run(["probabilities"], {"features": rows})[0][0, 1]
    async with running(baseline) as server:
        status, answer, headers = await server.predict()
        assert (status, headers["content-type"], headers["x-model-version"]) == (200, "application/json", V)
        assert set(answer) == {"score", "label", "model_version", "latency_ms", "prediction_id"}
        assert answer["score"] == pytest.approx(float(expected), abs=1e-7)
        assert answer["label"] == int(answer["score"] >= 0.5)
        assert answer["model_version"] == V
        assert 0 < answer["latency_ms"] < 1000
        _, high, _ = await server.predict({"snapshot": {**SNAPSHOT, "spreadBp": 0.5, "rsi14": 90}})
        assert high["label"] == 1


async def test_null_is_scored_with_the_reference_median(baseline: Path) -> None:
    median = json.loads((baseline / "reference.json").read_text())["features"]["rsi14"]["median"]
    async with running(baseline) as server:
        _, missing, _ = await server.predict({"snapshot": {**SNAPSHOT, "rsi14": None}})
        _, known, _ = await server.predict({"snapshot": {**SNAPSHOT, "rsi14": median}})
        assert missing["score"] == known["score"]
        series = await server.series()
        assert pick(series, "ml_feature_bin_total", model_version=V, feature="rsi14", bin="missing") == 1


async def test_every_series_is_there_at_zero(baseline: Path) -> None:
    reference = json.loads((baseline / "reference.json").read_text())["features"]
    async with running(baseline) as server:
        series = await server.series()
        assert await requests(server) == {"ok": 0, "invalid": 0, "error": 0}
        for feature in ("mid", "spread_bp", "vol1m", "rsi14"):
            for index, label in enumerate([*map(str, range(10)), "missing"]):
                assert pick(series, "ml_feature_bin_total", model_version=V, feature=feature, bin=label) == 0
                trained = (reference[feature]["counts"] + [reference[feature]["missing"]])[index]
                assert pick(series, "ml_feature_reference_bin", model_version=V, feature=feature, bin=label) == trained
        assert len([name for name, _ in series if name == "ml_feature_bin_total"]) == 44  # neither ts nor bias
        for name in ("ml_predict_latency_ms", "ml_prediction_score"):
            assert pick(series, f"{name}_bucket", model_version=V, le="+Inf") == 0
            assert pick(series, f"{name}_count", model_version=V) == 0
        assert pick(series, "ml_model_integrity_error_total") == 0
        assert pick(series, "process_start_time_seconds") > 1e9
        info = [labels for name, labels in series if name == "ml_model_version_info"]
        sha256 = json.loads((baseline / "metadata.json").read_text())["sha256"]["model.onnx"]
        assert info == [frozenset({("model_version", V), ("sha256", sha256)})]
        assert not [name for name, _ in series if name.endswith("_created")]


async def test_each_request_is_counted_once(baseline: Path) -> None:
    async with running(baseline) as server:
        scores = [(await server.predict({"snapshot": {**SNAPSHOT, "mid": mid}}))[1]["score"] for mid in (1, 100, 1000)]
        await server.predict(raw=b"{")
        await server.predict({"snapshot": {}})
        series = await server.series()
        assert await requests(server) == {"ok": 3, "invalid": 2, "error": 0}
        assert pick(series, "ml_predict_latency_ms_count", model_version=V) == 5
        assert pick(series, "ml_prediction_score_count", model_version=V) == 3
        assert pick(series, "ml_prediction_score_sum", model_version=V) == pytest.approx(sum(scores))
        assert pick(series, "ml_feature_bin_total", model_version=V, feature="mid", bin="0") == 1
        assert pick(series, "ml_feature_bin_total", model_version=V, feature="mid", bin="9") == 1
        counted = [value for (name, labels), value in series.items() if name == "ml_feature_bin_total" and ("feature", "mid") in labels]
        assert sum(counted) == 3


def test_histogram_buckets_include_their_bound(baseline: Path) -> None:
    app = InferenceApp(baseline)
    app.load()
    for milliseconds in (80.0, 80.001, 6000.0):
        app.counts.of(V).request("ok", milliseconds)
    text = app.metrics.exposition().decode()
    for bound, count in (("40", 0), ("80", 1), ("120", 2), ("5000", 2), ("+Inf", 3)):
        assert f'ml_predict_latency_ms_bucket{{le="{bound}",model_version="{V}"}} {count}.0\n' in text


async def test_health_and_info(baseline: Path) -> None:
    async with running(baseline, load=False) as server:
        status, health = await server.get("/ml/health")
        assert (status, health["live"], health["ready"]) == (503, True, False)
        assert "being loaded" in health["reason"]
        assert await server.get("/ml/health/live") == (200, {"live": True})
        assert (await server.get("/ml/model/info"))[0] == 503
        status, answer, headers = await server.predict()
        assert (status, headers["x-kanarya-unprocessed"]) == (503, "not-ready")
        assert "not ready" in answer["error"]
        series = await server.series()
        assert {name for name, _ in series if name.startswith("ml_")} == {
            "ml_model_integrity_error_total",
            "ml_model_errors_total",
            "ml_queue_depth",
        }

        server.app.load()
        assert await server.get("/ml/health") == (200, {"live": True, "ready": True, "model_version": V})
        status, info = await server.get("/ml/model/info")
        metadata = json.loads((baseline / "metadata.json").read_text())
        assert status == 200
        assert info["model_version"] == V
        assert (info["sha256"], info["drift_reference_sha256"]) == tuple(metadata["sha256"][n] for n in ("model.onnx", "reference.json"))
        assert [column["name"] for column in info["features"]] == ["ts", "mid", "spread_bp", "vol1m", "rsi14", "bias"]
        assert info["libraries"] == metadata["libraries"]


async def test_while_draining_it_is_not_ready_and_still_answers(baseline: Path) -> None:
    async with running(baseline) as server:
        server.drain.begin()
        status, health = await server.get("/ml/health")
        assert (status, health["reason"]) == (503, "the server is draining")
        assert (await server.predict())[0] == 200


@pytest.mark.parametrize("name", ["model.onnx", "reference.json"])
async def test_a_changed_file_is_never_loaded(baseline: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(baseline, tmp_path / "copy")
    (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    async with running(folder) as server:
        status, health = await server.get("/ml/health")
        assert status == 503
        assert "not the one that was trained" in health["reason"]
        assert (await server.predict())[0] == 503
        assert pick(await server.series(), "ml_model_integrity_error_total") == 1


async def test_a_model_of_another_shape_is_not_ready(baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(baseline, tmp_path / "copy")
    artefact = read_artefact(folder)
    narrow = type(artefact)(**{**vars(artefact), "schema": type(artefact.schema)(artefact.schema.columns[:5]), "parity": None})
    monkeypatch.setattr(parity_module, "read_artefact", lambda _: narrow)
    async with running(folder) as server:
        status, health = await server.get("/ml/health")
        assert status == 503
        assert "does not work" in health["reason"]
        assert pick(await server.series(), "ml_model_integrity_error_total") == 0


async def test_an_unforeseen_failure_to_load_has_a_reason(baseline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise MemoryError

    monkeypatch.setattr(parity_module, "read_artefact", fail)
    async with running(baseline) as server:
        assert (await server.get("/ml/health"))[1]["reason"].startswith("the model could not be loaded: MemoryError")


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 400, "not JSON"),
        (b"snapshot=1", 400, "not JSON"),
        (b"[" * 50_000, 400, "not JSON"),
        (b"\x00\xff", 400, "not JSON"),
        (b"[]", 422, "send"),
        (b'{"snapshot": {"ts": 1}}', 422, "snapshot.mid is missing"),
        (json.dumps({"snapshot": {**SNAPSHOT, "mid": "1"}}).encode(), 422, "snapshot.mid is a string"),
        (b" " * (MAX_BODY_BYTES + 1), 413, "more than 1048576 bytes"),
        (b" " * (3 << 20), 413, "more than 1048576 bytes"),
    ],
)
async def test_hostile_bodies_get_an_answer_and_the_server_stays(baseline: Path, body: bytes, status: int, sentence: str) -> None:
    async with running(baseline) as server:
        found, answer, headers = await server.predict(raw=body)
        assert found == status
        assert set(answer) == {"error"}
        assert sentence in answer["error"]
        assert headers["x-model-version"] == V
        assert (await server.predict())[0] == 200
        assert await requests(server) == {"ok": 1, "invalid": 1, "error": 0}


async def test_unknown_paths_and_methods(baseline: Path) -> None:
    async with running(baseline) as server:
        status, answer = await server.get("/nowhere")
        assert status == 404
        assert "/ml/predict" in answer["error"]
        assert (await server.get("/ml/predict"))[0] == 405
        async with server.client.delete(f"{server.url}/ml/health") as response:
            assert (response.status, response.headers["allow"]) == (405, "GET")
            assert "answers GET" in (await response.json())["error"]
        assert await requests(server) == {"ok": 0, "invalid": 0, "error": 0}


class Messages:
    def __init__(self, *messages: dict[str, Any]) -> None:
        self._messages = list(messages)

    async def __call__(self) -> dict[str, Any]:
        if not self._messages:
            await asyncio.sleep(60)
        return self._messages.pop(0)


def chunk(size: int, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": b" " * size, "more_body": more}


async def test_a_body_in_parts_is_joined() -> None:
    assert await read_body(Messages(chunk(2, more=True), chunk(0, more=True), chunk(3, more=False))) == b" " * 5


async def test_a_body_of_exactly_the_limit_is_read() -> None:
    assert len(await read_body(Messages(chunk(MAX_BODY_BYTES, more=False)))) == MAX_BODY_BYTES


@pytest.mark.parametrize(
    ("messages", "status", "close"),
    [
        ((chunk(MAX_BODY_BYTES, more=True), chunk(1, more=False)), 413, False),
        ([chunk(1 << 20, more=True)] * 50, 413, True),
        ((chunk(1, more=True),), 408, True),
        ((chunk(1, more=True), {"type": "http.disconnect"}), None, False),
    ],
)
async def test_bodies_that_do_not_come_whole(messages: list[dict[str, Any]], status: int | None, close: bool) -> None:
    receive = Messages(*messages)
    with pytest.raises(BodyError) as caught:
        await read_body(receive, seconds=0.05)
    assert (caught.value.status, caught.value.close) == (status, close)
    assert len(receive._messages) == (44 if len(messages) == 50 else 0)


async def test_a_client_that_goes_away_is_counted_and_gets_no_answer(baseline: Path) -> None:
    app = InferenceApp(baseline)
    app.load()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "path": "/ml/predict", "method": "POST", "headers": []}, Messages({"type": "http.disconnect"}), send)
    assert not sent
    assert f'ml_predict_requests_total{{model_version="{V}",status="invalid"}} 1.0' in app.metrics.exposition().decode()


async def test_a_failing_inference_is_a_500_without_its_inner_reason(baseline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(baseline) as server:
        model = server.app.store.active
        assert model is not None
        monkeypatch.setattr(type(model), "scores", lambda *_: 1 / 0)
        status, answer, _ = await server.predict()
        assert status == 500
        assert "division" not in answer["error"]
        assert await requests(server) == {"ok": 0, "invalid": 0, "error": 1}


async def test_a_score_that_is_no_number_is_an_error(baseline: Path) -> None:
    class Session:
        def run(self, *_: object) -> list[np.ndarray]:
            return [np.array([[0.5, np.nan]])]

    async with running(baseline) as server:
        model = server.app.store.active
        assert model is not None
        server.app.store.active = dataclasses.replace(model, session=Session())
        assert (await server.predict())[0] == 500


async def test_fault_latency_shows_in_answer_and_metrics(baseline: Path) -> None:
    async with running(baseline, faults=Faults(latency_milliseconds=60)) as server:
        _, answer, _ = await server.predict()
        assert answer["latency_ms"] >= 60
        series = await server.series()
        assert pick(series, "ml_predict_latency_ms_bucket", model_version=V, le="40") == 0
        assert (await server.predict(raw=b"{"))[0] == 400


async def test_fault_errors_come_at_their_rate_and_repeat_with_the_seed(baseline: Path) -> None:
    async def statuses(seed: int) -> list[int]:
        async with running(baseline, faults=Faults(error_rate=0.2, rng=random.Random(seed))) as server:
            answers = [await server.predict() for _ in range(150)]
            failed = [answer for answer in answers if answer[0] == 500]
            assert all(answer[1] == {"error": "injected fault"} and answer[2]["x-model-version"] == V for answer in failed)
            assert await requests(server) == {"ok": 150 - len(failed), "invalid": 0, "error": len(failed)}
            return [answer[0] for answer in answers]

    first = await statuses(5)
    assert 15 <= first.count(500) <= 45
    assert await statuses(5) == first
    assert await statuses(6) != first


async def test_faults_are_switched_in_a_running_server(baseline: Path) -> None:
    async with running(baseline, fault_control=True) as server:
        faults = f"{server.url}/ml/faults"
        assert (await server.predict())[0] == 200
        async with server.client.post(faults, json={"errorRate": 1}) as response:
            assert response.status == 200
            assert (await response.json())["since"] <= time.time()
        assert (await server.predict())[0] == 500
        senseless: tuple[object, ...] = ({"errorRate": 2}, {"errorRates": 1}, [], {"latencyMilliseconds": "much"})
        for body in senseless:
            async with server.client.post(faults, json=body) as response:
                assert response.status == 422
        assert (await server.predict())[0] == 500
        async with server.client.post(faults, json={"latencyMilliseconds": 60}) as response:
            assert response.status == 200
        status, answer, _ = await server.predict()
        assert (status, answer["latency_ms"] >= 60) == (200, True)


async def test_faults_cannot_be_switched_unless_the_server_was_started_for_it(baseline: Path) -> None:
    async with running(baseline) as server:
        async with server.client.post(f"{server.url}/ml/faults", json={"errorRate": 1}) as response:
            assert response.status == 404
        assert (await server.predict())[0] == 200


async def test_a_body_that_comes_late_is_waited_for(baseline: Path) -> None:
    body = json.dumps({"snapshot": SNAPSHOT}).encode()
    async with running(baseline) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /ml/predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
        await asyncio.sleep(0.05)
        for part in (body[:10], body[10:]):
            writer.write(part)
            await asyncio.sleep(0.05)
        assert (await reader.readline()).split()[1] == b"200"
        writer.close()


async def test_a_body_that_never_comes_is_given_up(baseline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_body, "__defaults__", (0.1,))
    async with running(baseline) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /ml/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"408"
        writer.close()
        assert server.app.counts.queue_depth == 0


@pytest.mark.parametrize("arguments", [(-1.0, 0.0), (1e6, 0.0), (0.0, 1.1), (0.0, -0.1), (float("nan"), 0.0), (0.0, float("nan"))])
def test_senseless_faults_are_refused(arguments: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="the fault"):
        Faults(*arguments)


async def test_the_rollouts_latency_limits_are_edges_of_the_servers_histogram(baseline: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text('{"schemaVersion": 1, "latencyBucketsMilliseconds": [1, 33, 80, 333]}')
    async with running(baseline, latency_bounds=rollout_bounds(settings)) as server:
        await server.predict()
        series = await server.series()
        for edge in ("33", "80", "333", "5000"):
            assert pick(series, "ml_predict_latency_ms_bucket", model_version=V, le=edge) == 1


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"latencyBucketsMilliseconds": [0]}', '{"latencyBucketsMilliseconds": [1e999]}', "[" * 100_000]
)
def test_settings_that_cannot_be_used_leave_the_default_edges(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    assert rollout_bounds(tmp_path / "settings.json") == rollout_bounds(tmp_path / "none.json") == rollout_bounds(None) == ()
