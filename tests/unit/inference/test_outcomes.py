"""Labels that come back."""

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import brier_score_loss, f1_score

from kanarya_inference.server.feature_log import FeatureLog, FeatureLogSettings
from kanarya_inference.server.outcomes import Outcome, Outcomes, Rolling
from kanarya_inference.server.settings import ServerSettings
from tests.unit.inference.support import SNAPSHOT, Running, pick, running

pytestmark = pytest.mark.slow

V = "v1.8.0"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def made(clock: Clock | None = None, **changes: Any) -> tuple[Outcomes, int]:
    outcomes = Outcomes(**{"ids": 10, "seconds": 100.0, "window": 50, "clock": clock or Clock(), **changes})
    return outcomes, outcomes.know("v1", 0.5)


def figures(outcomes: Outcomes, version: str = "v1") -> tuple[float, float, int]:
    return dict(outcomes.rolling())[version].figures()


async def predictions(server: Running, count: int) -> list[tuple[str, float]]:
    snapshots = [{**SNAPSHOT, "spreadBp": 0.5 + step / 4, "rsi14": 95 - step} for step in range(count)]
    answers = [(await server.predict({"snapshot": snapshot}))[1] for snapshot in snapshots]
    return [(answer["prediction_id"], answer["score"]) for answer in answers]


async def test_rolling_figures_are_those_of_scikit_learn(baseline: Path) -> None:
    async with running(baseline) as server:
        made_of = await predictions(server, 60)
        labels = [int(number % 3 == 0) for number in range(60)]
        outcomes = [{"prediction_id": id_, "label": label} for (id_, _), label in zip(made_of, labels, strict=True)]
        assert await server.post("/ml/outcomes", {"outcomes": outcomes}) == (200, {"accepted": 60, "unknown": 0, "duplicate": 0})
        assert await server.post("/ml/outcomes", {"outcomes": outcomes[:2]}) == (200, {"accepted": 0, "unknown": 0, "duplicate": 2})
        scores = [score for _, score in made_of]
        predicted = [int(score >= 0.5) for score in scores]
        series = await server.series()
        assert 0 < sum(predicted) < 60
        assert pick(series, "ml_rolling_f1", model_version=V) == pytest.approx(f1_score(labels, predicted))
        assert pick(series, "ml_rolling_brier", model_version=V) == pytest.approx(brier_score_loss(labels, scores))
        assert pick(series, "ml_rolling_outcomes", model_version=V) == 60
        hits = sum(p and y for p, y in zip(predicted, labels, strict=True))
        assert pick(series, "ml_outcomes_total", model_version=V, predicted="1", label="1") == hits
        assert sum(value for (name, _), value in series.items() if name == "ml_outcomes_total") == 60
        squared = pick(series, "ml_outcome_squared_error_total", model_version=V)
        assert squared / 60 == pytest.approx(brier_score_loss(labels, scores))
        assert pick(series, "ml_outcomes_refused_total", reason="duplicate") == 2


async def test_another_pod_counts_what_is_sent_back_whole(baseline: Path) -> None:
    async with running(baseline) as one, running(baseline) as other:
        [(id_, score)] = await predictions(one, 1)
        bare = {"prediction_id": id_, "label": 1}
        whole = {**bare, "score": score, "model_version": V}
        assert (await other.post("/ml/outcomes", {"outcomes": [bare]}))[1] == {"accepted": 0, "unknown": 1, "duplicate": 0}
        assert (await other.post("/ml/outcomes", {"outcomes": [whole, whole]}))[1] == {"accepted": 1, "unknown": 0, "duplicate": 1}
        strange = {**whole, "prediction_id": "x", "model_version": "v9"}
        assert (await other.post("/ml/outcomes", {"outcomes": [strange]}))[1] == {"accepted": 0, "unknown": 1, "duplicate": 0}


async def test_batches_and_tensors_have_ids_too(baseline: Path) -> None:
    async with running(baseline) as server:
        _, batch = await server.post("/ml/predict/batch", {"snapshots": [SNAPSHOT] * 3})
        row = [SNAPSHOT["ts"], 101.25, 3.2, 11, 48.5, 1]
        body = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [2, 6], "data": [row, row]}]}
        _, tensors = await server.post("/v2/models/model/infer", body)
        ids = [one["prediction_id"] for one in batch["predictions"]] + tensors["parameters"]["prediction_ids"]
        assert len(set(ids)) == 5
        _, result = await server.post("/ml/outcomes", {"outcomes": [{"prediction_id": id_, "label": 0} for id_ in ids]})
        assert result["accepted"] == 5


async def test_bad_outcomes_have_a_sentence(baseline: Path) -> None:
    async with running(baseline, settings=ServerSettings(client_rate=0, outcome_window=10)) as server:
        bodies: list[Any] = [[], {}, {"outcomes": [{"prediction_id": "a"}]}, {"outcomes": [{"prediction_id": "a", "label": 2}]}]
        for body in bodies:
            status, answer = await server.post("/ml/outcomes", body)
            assert (status, set(answer)) == (422, {"error"})
        assert (await server.post("/ml/outcomes", {"outcomes": [{"prediction_id": "a", "label": 1}] * 10_001}))[0] == 422
        strange = {"prediction_id": "é-\ud800"[:2], "label": 1, "score": 7.0, "model_version": V}
        assert (await server.post("/ml/outcomes", {"outcomes": [strange]}))[1]["unknown"] == 1


def test_an_id_is_good_once_and_while_it_is_remembered() -> None:
    clock = Clock()
    outcomes, number = made(clock)
    ids = [outcomes.id_of(outcomes.register(number, [0.7])) for _ in range(12)]
    assert [outcomes.take(Outcome(id_, 1)) for id_ in ids] == ["unknown"] * 2 + ["accepted"] * 10
    assert outcomes.take(Outcome(ids[-1], 1)) == "duplicate"
    late = outcomes.id_of(outcomes.register(number, [0.7]))
    clock.now += 101
    assert outcomes.take(Outcome(late, 1)) == "unknown"
    prefix = late.partition("-")[0]
    for never_given in (f"{prefix}-ffff", f"{prefix}--1", f"{prefix}-", f"{prefix}-zz", "", "-", "other-1"):
        assert outcomes.take(Outcome(never_given, 1)) == "unknown"


def test_old_outcomes_leave_the_figures_and_stay_in_the_counts() -> None:
    clock = Clock()
    outcomes, number = made(clock)
    outcomes.take(Outcome(outcomes.id_of(outcomes.register(number, [0.9])), 1))
    assert tuple(figures(outcomes)) == pytest.approx((1.0, 0.01, 1))
    clock.now += 101
    assert math.isnan(figures(outcomes)[0])
    assert dict(outcomes.rolling())["v1"].confusion[1, 1] == 1


def test_f1_is_not_defined_without_a_positive() -> None:
    rolling = Rolling(10, 100.0, Clock())
    rolling.add(0.1, 0, 0)
    assert math.isnan(rolling.figures().f1)
    rolling.add(0.1, 0, 1)
    assert rolling.figures().f1 == 0


def test_versions_of_long_ago_are_forgotten() -> None:
    outcomes, first = made()
    old = outcomes.id_of(outcomes.register(first, [0.7]))
    for number in range(8):
        outcomes.know(f"w{number}", 0.5)
    assert "v1" not in dict(outcomes.rolling())
    assert outcomes.take(Outcome(old, 1)) == "unknown"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def test_the_feature_log_has_what_retraining_needs(baseline: Path, tmp_path: Path) -> None:
    log = FeatureLog(FeatureLogSettings(str(tmp_path / "features.jsonl"), share=1.0, redact=frozenset({"mid"})))
    async with running(baseline, feature_log=log) as server:
        _, answer, _ = await server.predict({"snapshot": {**SNAPSHOT, "rsi14": None, "secret": "never"}})
        await server.post("/ml/outcomes", {"outcomes": [{"prediction_id": answer["prediction_id"], "label": 1}]})
        async with asyncio.timeout(5):
            while len(lines(tmp_path / "features.jsonl")) < 2:
                await asyncio.sleep(0.01)
        assert pick(await server.series(), "ml_feature_log_lines_total", result="written") == 2
    log.close()
    prediction, outcome = lines(tmp_path / "features.jsonl")
    assert prediction["features"] == {
        "ts": pytest.approx(SNAPSHOT["ts"], rel=1e-6), "mid": "[redacted]", "spread_bp": pytest.approx(3.2), "vol1m": 11.0,
        "rsi14": None, "bias": 1.0,
    }  # fmt: skip
    assert (prediction["kind"], prediction["id"], prediction["model_version"]) == ("prediction", answer["prediction_id"], V)
    assert prediction["score"] == answer["score"]
    assert (outcome["kind"], outcome["id"], outcome["label"]) == ("outcome", prediction["id"], 1)
    assert "secret" not in (tmp_path / "features.jsonl").read_text()


def test_the_share_of_the_feature_log_follows_from_the_id(tmp_path: Path) -> None:
    log, other = (FeatureLog(FeatureLogSettings(str(tmp_path / "f"), share=0.1)) for _ in range(2))
    chosen = [number for number in range(20_000) if log.wants(f"ab12-{number:x}")]
    assert 1800 < len(chosen) < 2200
    assert all(other.wants(f"ab12-{number:x}") for number in chosen)
    for each in (log, other):
        each.close()


def test_a_log_file_that_is_full_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "f"
    for _ in range(3):
        log = FeatureLog(FeatureLogSettings(str(path), share=1.0, max_bytes=100))
        for _ in range(5):
            log.outcome("a-1", 1)
        log.close()
    assert len(lines(path)) == 5
    assert len(lines(tmp_path / "f.1")) == 5


def test_a_log_that_cannot_be_written_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    log = FeatureLog(FeatureLogSettings(str(tmp_path / "no/such/folder"), share=1.0))
    log.outcome("a-1", 1)
    log.close()
    assert (log.written, log.dropped) == (0, 1)
