"""Batches, and the series that follow from rows and scores."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from kanarya.decision.statistics.psi import psi as operators_psi
from kanarya_inference.features import DriftReference, FeatureReference
from kanarya_inference.registry import Artefact, read_artefact
from kanarya_inference.server import model as model_module
from kanarya_inference.server.metrics import psi
from kanarya_inference.server.settings import ServerSettings
from tests.unit.inference.support import SNAPSHOT, pick, running

V = "v1.8.0"
BATCH = "/ml/predict/batch"


async def test_a_batch_has_the_scores_of_its_rows(baseline: Path) -> None:
    snapshots = [{**SNAPSHOT, "mid": 90 + step, "rsi14": None if step % 3 else 50} for step in range(20)]
    async with running(baseline) as server:
        expected = [(await server.predict({"snapshot": snapshot}))[1] for snapshot in snapshots]
        status, answer = await server.post(BATCH, {"snapshots": snapshots})
        assert status == 200
        assert [row["score"] for row in answer["predictions"]] == pytest.approx([row["score"] for row in expected], abs=1e-7)
        assert [row["label"] for row in answer["predictions"]] == [row["label"] for row in expected]
        assert answer["model_version"] == V
        series = await server.series()
        assert pick(series, "ml_predict_requests_total", model_version=V, status="ok") == 21
        assert pick(series, "ml_feature_extractions_total", model_version=V) == 40
        assert pick(series, "ml_prediction_score_count", model_version=V) == 40
        assert pick(series, "ml_feature_bin_total", model_version=V, feature="rsi14", bin="missing") == 26


async def test_a_batch_is_scored_whole_or_not_at_all(baseline: Path) -> None:
    cases = [
        ([SNAPSHOT, {**SNAPSHOT, "mid": "1"}], 422, "snapshots[1]: snapshot.mid is a string"),
        ([SNAPSHOT, 7], 422, "snapshots[1]: send"),
        ([], 422, "there are 0 snapshots: send 1 to 3"),
        ([SNAPSHOT] * 4, 422, "there are 4 snapshots: send 1 to 3"),
        ({}, 422, "send"),
    ]
    async with running(baseline, settings=ServerSettings(client_rate=0, batch_rows=3)) as server:
        for snapshots, status, sentence in cases:
            found, answer = await server.post(BATCH, {"snapshots": snapshots})
            assert (found, set(answer)) == (status, {"error"})
            assert sentence in answer["error"]
        async with server.client.post(server.url + BATCH, data=b'{"snapshots": [{"ts": NaN}]}') as response:
            assert response.status == 400
        assert (await server.get(BATCH))[0] == 405
        assert pick(await server.series(), "ml_feature_extractions_total", model_version=V) == 0


async def test_psi_is_that_of_the_operator(baseline: Path) -> None:
    reference = json.loads((baseline / "reference.json").read_text())["features"]["mid"]
    trained = [*reference["counts"], reference["missing"]]
    async with running(baseline) as server:
        series = await server.series()
        assert str(pick(series, "ml_psi_score", model_version=V)) == "nan"
        await server.post(BATCH, {"snapshots": [{**SNAPSHOT, "mid": 60 + step} for step in range(80)]})
        series = await server.series()
        counted = [
            pick(series, "ml_feature_bin_total", model_version=V, feature="mid", bin=label) for label in (*map(str, range(10)), "missing")
        ]
        value = pick(series, "ml_feature_drift_score", model_version=V, feature="mid")
        assert value == pytest.approx(operators_psi(trained, counted))
        assert value > 0.3
        each = [pick(series, "ml_feature_drift_score", model_version=V, feature=name) for name in ("mid", "spread_bp", "vol1m", "rsi14")]
        assert pick(series, "ml_psi_score", model_version=V) == pytest.approx(sum(each) / 4)


def test_psi_of_the_same_distribution_is_nothing() -> None:
    assert psi([100] * 11, [100] * 11) == 0


async def test_the_score_drifts_like_a_feature(baseline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artefact = read_artefact(baseline)
    score = FeatureReference(edges=tuple(step / 10 for step in range(1, 10)), counts=(*range(1, 11), 0), median=0.5)
    reference = DriftReference(artefact.reference.features, score)
    changed = dataclasses.replace(artefact, reference=reference)

    def load(folder: Path, scorer: Any) -> Artefact:
        scorer(changed)
        return changed

    monkeypatch.setattr(model_module, "load_verified", load)
    async with running(baseline) as server:
        _, answer, _ = await server.predict()
        series = await server.series()
        labels = {"model_version": V, "feature": "prediction_score"}
        counted = [pick(series, "ml_feature_bin_total", **labels, bin=str(index)) for index in range(10)]
        assert counted.index(1) == int(answer["score"] * 10)
        assert [pick(series, "ml_feature_reference_bin", **labels, bin=str(index)) for index in range(10)] == list(range(1, 11))
        assert pick(series, "ml_feature_drift_score", **labels) > 0
        assert pick(series, "ml_feature_bin_total", **labels, bin="missing") == 0
