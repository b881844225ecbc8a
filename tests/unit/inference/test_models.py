"""Models that come, go and are exchanged while requests are served."""

import asyncio
import json
import logging
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kanarya_inference.server.model import Model
from kanarya_inference.server.settings import ServerSettings
from tests.unit.inference.making import rewritten, slow_model
from tests.unit.inference.support import SNAPSHOT, Running, pick, running

pytestmark = pytest.mark.slow

V = "v1.8.0"


def settings(**changes: object) -> ServerSettings:
    return ServerSettings(client_rate=0, model_control=True, **changes)  # type: ignore[arg-type]


def audited(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str | None]]:
    fields = [record.__dict__["fields"] for record in caplog.records if record.name == "kanarya_inference.audit"]
    return [(line["action"], line["version"]) for line in fields]


async def infer(server: Running, version: str) -> int:
    row = [SNAPSHOT["ts"], 101.25, 3.2, 11, 48.5, 1]
    body = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 6], "data": row}]}
    return (await server.post(f"/v2/models/model/versions/{version}/infer", body))[0]


async def test_the_least_recently_used_version_leaves(baseline: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for name in ("a", "b", "c"):
        rewritten(baseline, tmp_path / name, version=name)
    async with running(baseline, settings=settings(repository=tmp_path)) as server:
        assert [await infer(server, name) for name in ("a", "b", "a", "c")] == [200] * 4
        _, models = await server.get("/ml/models")
        assert {model["version"] for model in models["models"] if model["loaded"]} == {V, "a", "c"}
        assert (models["name"], models["active"]) == ("model", V)
        series = await server.series()
        assert {dict(labels)["model_version"] for name, labels in series if name == "ml_model_loaded"} == {V, "a", "c"}
        assert pick(series, "ml_predict_requests_total", model_version="b", status="ok") == 1
    assert audited(caplog) == [("activate", V), ("load", "a"), ("load", "b"), ("evict", "b"), ("load", "c")]


async def test_a_reload_under_load_loses_no_request(baseline: Path, candidate: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(baseline, tmp_path / "model")
    async with running(folder, settings=settings()) as server:
        stop = asyncio.Event()
        versions: list[str] = []

        async def client() -> None:
            while not stop.is_set():
                status, answer, _ = await server.predict()
                assert status == 200
                versions.append(answer["model_version"])

        clients = [asyncio.create_task(client()) for _ in range(4)]
        await asyncio.sleep(0.1)
        shutil.rmtree(folder)
        shutil.copytree(candidate, folder)
        status, answer = await server.post("/ml/reload")
        assert (status, answer) == (200, {"model_version": "v1.8.1", "previous_version": V})
        await asyncio.sleep(0.1)
        stop.set()
        await asyncio.gather(*clients)
        assert (versions[0], versions[-1]) == (V, "v1.8.1")
        assert versions == sorted(versions)
        series = await server.series()
        counted = sum(pick(series, "ml_predict_requests_total", model_version=name, status="ok") for name in (V, "v1.8.1"))
        assert counted == len(versions)
        assert [dict(labels)["model_version"] for name, labels in series if name == "ml_model_version_info"] == ["v1.8.1"]


async def test_a_broken_model_is_not_exchanged_for_a_good_one(baseline: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(baseline, tmp_path / "model")
    async with running(folder, settings=settings()) as server:
        (folder / "model.onnx").write_bytes(b"other")
        status, answer = await server.post("/ml/reload")
        assert (status, "not the one that was trained" in answer["error"]) == (503, True)
        status, health = await server.get("/ml/health")
        assert (status, health["model_version"]) == (200, V)
        assert "not the one that was trained" in health["last_refusal"]
        assert (await server.predict())[0] == 200
        series = await server.series()
        assert pick(series, "ml_model_integrity_error_total") == 1
        assert pick(series, "ml_model_errors_total", error_type="integrity") == 1


async def test_a_broken_version_is_refused_without_being_read_each_time(baseline: Path, tmp_path: Path) -> None:
    rewritten(baseline, tmp_path / "v2", version="v2")
    (tmp_path / "v2/reference.json").write_text("{}")
    rewritten(baseline, tmp_path / "v3", version="v4")
    async with running(baseline, settings=settings(repository=tmp_path)) as server:
        assert [await infer(server, "v2") for _ in range(3)] == [503] * 3
        assert pick(await server.series(), "ml_model_integrity_error_total") == 1
        status, answer = await server.post("/ml/reload", {"version": "v3"})
        assert (status, answer["error"]) == (503, "the folder v3 holds version v4")
        assert (await server.post("/ml/reload", {"version": "../../etc"}))[0] == 404
        assert (await server.post("/ml/reload", {"versions": "v3"}))[0] == 422
        assert (await server.predict())[0] == 200


async def test_models_are_not_changed_by_clients_unless_the_server_was_started_for_it(baseline: Path) -> None:
    async with running(baseline) as server:
        assert (await server.post("/ml/reload"))[0] == 403


async def test_a_model_that_gives_other_scores_is_never_loaded(baseline: Path, tmp_path: Path) -> None:
    parity = json.loads((baseline / "parity.json").read_text())
    parity["scores"][7] += 1e-3
    async with running(rewritten(baseline, tmp_path / "m", parity=parity)) as server:
        status, health = await server.get("/ml/health")
        assert status == 503
        assert "differ from training's by up to 0.001" in health["reason"]
        assert (await server.predict())[0] == 503
        assert pick(await server.series(), "ml_model_integrity_error_total") == 1


@pytest.mark.parametrize(
    ("change", "sentence", "broken"),
    [
        ({"scores": [0.5]}, "has to hold rows of 6 numbers and a score for each", 0),
        ({"inputs": [[1.0]]}, "has to hold rows of 6 numbers", 0),
        ({"scores": "many"}, "is an object with `inputs`", 0),
        ("changed after training", "parity.json has sha256", 1),
        ("removed", "parity.json cannot be read", 0),
    ],
)
async def test_a_parity_batch_that_is_none(
    baseline: Path, tmp_path: Path, change: dict[str, object] | str, sentence: str, broken: int
) -> None:
    parity = json.loads((baseline / "parity.json").read_text())
    folder = rewritten(baseline, tmp_path / "m", parity={**parity, **change} if isinstance(change, dict) else parity)
    if change == "removed":
        (folder / "parity.json").unlink()
    elif isinstance(change, str):
        (folder / "parity.json").write_text(json.dumps({**parity, "scores": []}))
    async with running(folder) as server:
        status, health = await server.get("/ml/health")
        assert status == 503
        assert sentence in health["reason"]
        assert pick(await server.series(), "ml_model_integrity_error_total") == broken


class TestBudget:
    """A model that takes some 100 ms, in a server that allows 10."""

    @pytest.fixture
    def slow(self, baseline: Path, tmp_path: Path) -> Path:
        return rewritten(baseline, tmp_path / "slow", version="slow", model=slow_model(6))

    async def test_an_error_by_default(self, slow: Path) -> None:
        async with running(slow, settings=settings(budget_milliseconds=10)) as server:
            status, answer, headers = await server.predict()
            assert (status, headers["x-model-version"]) == (503, "slow")
            assert "longer than its budget of 10 ms" in answer["error"]
            series = await server.series()
            assert pick(series, "ml_model_errors_total", error_type="budget") == 1
            assert pick(series, "ml_predict_requests_total", model_version="slow", status="error") == 1

    async def test_a_constant(self, slow: Path) -> None:
        async with running(slow, settings=settings(budget_milliseconds=10, fallback=0.9)) as server:
            status, answer, headers = await server.predict()
            assert (status, answer["score"], answer["label"], answer["fallback"]) == (200, 0.9, 1, "constant")
            assert headers["x-kanarya-fallback"] == "constant"
            assert "prediction_id" not in answer
            series = await server.series()
            assert pick(series, "ml_predict_requests_total", model_version="slow", status="fallback") == 1
            assert pick(series, "ml_prediction_score_count", model_version="slow") == 0

    async def test_the_previous_model(self, baseline: Path, slow: Path) -> None:
        async with running(baseline, settings=settings(budget_milliseconds=10, fallback="previous", repository=slow.parent)) as server:
            _, expected, _ = await server.predict()
            assert (await server.post("/ml/reload", {"version": "slow"}))[0] == 200
            status, answer, headers = await server.predict()
            assert (status, answer["score"], answer["fallback"], answer["model_version"]) == (200, expected["score"], "previous", V)
            assert (headers["x-model-version"], headers["x-kanarya-fallback"]) == (V, "previous")

    async def test_a_previous_model_that_reads_other_fields_cannot_answer(self, baseline: Path, slow: Path, tmp_path: Path) -> None:
        other = rewritten(baseline, tmp_path / "other", version="other")
        text = (other / "metadata.json").read_text()
        (other / "metadata.json").write_text(text.replace("spreadBp", "spread"))
        async with running(other, settings=settings(budget_milliseconds=10, fallback="previous", repository=slow.parent)) as server:
            assert (await server.post("/ml/reload", {"version": "slow"}))[0] == 200
            status, answer, _ = await server.predict()
            assert (status, "longer than its budget" in answer["error"]) == (503, True)

    async def test_without_a_budget_it_takes_its_time_and_others_do_not_wait(self, slow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        scores, held = Model.scores, threading.Event()

        def scored(model: Model, matrix: NDArray[np.float32]) -> list[float]:
            held.wait(20)  # on the model's thread: the queue is full for as long as the test looks at it
            return scores(model, matrix)

        async with running(slow, settings=settings(budget_milliseconds=0, queue=2)) as server:
            monkeypatch.setattr(Model, "scores", scored)
            answers = [asyncio.create_task(server.predict()) for _ in range(2)]
            async with asyncio.timeout(10):
                while server.app.counts.queue_depth < 2:
                    await asyncio.sleep(0.001)
            assert pick(await server.series(), "ml_queue_depth") == 2
            status, answer, headers = await server.predict()
            assert (status, headers["retry-after"], answer["error"]) == (429, "1", "the queue is full: try again after 1 s")
            held.set()
            assert [(await task)[0] for task in answers] == [200, 200]
            assert (await server.predict())[0] == 200
            series = await server.series()
            assert pick(series, "ml_predict_requests_total", model_version="slow", status="limited") == 1
            assert pick(series, "ml_queue_depth") == 0
