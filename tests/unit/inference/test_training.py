import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from kanarya_inference.features import reference_of, snapshot_schema
from kanarya_inference.registry import Artefact, ArtefactError, read_artefact
from kanarya_inference.training import train as training
from kanarya_inference.training.convert import to_onnx
from kanarya_inference.training.data import FEATURES, Values, draw
from kanarya_inference.training.errors import TrainingError
from kanarya_inference.training.train import fit, matrix, train

LIVE_ROWS = 5000
LIVE_TS = 1_795_000_000  # months after the training window
TOLERANCE = 0.05


@pytest.fixture(scope="module")
def live() -> Values:
    return draw(np.random.default_rng(99), LIVE_ROWS)[0]


def scores(artefact: Artefact, live: Values) -> NDArray[np.float32]:
    rows = matrix(artefact.schema, artefact.reference, live, np.random.default_rng(0))
    rows[:, 0] = LIVE_TS
    result: NDArray[np.float32] = onnxruntime.InferenceSession(artefact.model).run(["probabilities"], {"features": rows})[0][:, 1]
    return result


def match_rate(one: Path, other: Path, live: Values) -> float:
    return float(np.mean(np.abs(scores(read_artefact(one), live) - scores(read_artefact(other), live)) <= TOLERANCE))


def psi(artefact: Artefact, live: Values) -> dict[str, float]:
    result = {}
    for name, reference in artefact.reference.features.items():
        counts = np.zeros(len(reference.counts))
        for value in live[name]:
            counts[reference.bin_of(None if math.isnan(value) else float(value))] += 1
        p, q = counts + 0.5, np.array(reference.counts) + 0.5
        p, q = p / p.sum(), q / q.sum()
        result[name] = float(((p - q) * np.log(p / q)).sum())
    return result


def test_the_same_inputs_give_the_same_bytes(baseline: Path, tmp_path: Path) -> None:
    train(tmp_path, version="v1.8.0", rows=8000, seed=7)
    for name in ("model.onnx", "reference.json", "metadata.json"):
        assert (tmp_path / name).read_bytes() == (baseline / name).read_bytes()


def test_another_seed_gives_another_model(artefacts: Path) -> None:
    assert (artefacts / "baseline" / "model.onnx").read_bytes() != (artefacts / "candidate" / "model.onnx").read_bytes()


def test_artefacts_fit_into_a_configmap(artefacts: Path) -> None:
    for folder in artefacts.iterdir():
        assert sum(file.stat().st_size for file in folder.iterdir()) < 100 * 1024


def test_onnx_gives_the_trained_models_scores() -> None:
    schema = snapshot_schema()
    values, probability = draw(np.random.default_rng(3), 3000)
    rows = matrix(schema, reference_of(schema, values), values, np.random.default_rng(4))
    pipeline = fit(schema, rows, (np.random.default_rng(5).random(3000) < probability).astype(np.int64))
    session = onnxruntime.InferenceSession(to_onnx(pipeline, len(schema.columns)))
    found = session.run(["probabilities"], {"features": rows})[0]
    assert np.abs(found - pipeline.predict_proba(rows)).max() < 1e-5


def test_a_conversion_that_changes_scores_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = to_onnx

    def convert(pipeline: object, columns: int) -> bytes:
        pipeline.steps[-1][1].intercept_ += 0.01  # type: ignore[attr-defined]
        model = other(pipeline, columns)
        pipeline.steps[-1][1].intercept_ -= 0.01  # type: ignore[attr-defined]
        return model

    monkeypatch.setattr(training, "to_onnx", convert)
    with pytest.raises(TrainingError, match="differs from the trained one"):
        train(tmp_path, version="v1", rows=500)
    assert not list(tmp_path.iterdir())


def test_a_good_candidate_agrees_and_does_not_drift(artefacts: Path, live: Values) -> None:
    assert match_rate(artefacts / "baseline", artefacts / "candidate", live) > 0.99
    for name in ("baseline", "candidate"):
        assert max(psi(read_artefact(artefacts / name), live).values()) < 0.02


def test_a_disagreeing_model_disagrees_and_does_not_drift(artefacts: Path, live: Values) -> None:
    assert match_rate(artefacts / "baseline", artefacts / "disagreeing", live) < 0.7
    assert max(psi(read_artefact(artefacts / "disagreeing"), live).values()) < 0.02


def test_a_drifted_model_agrees_and_its_reference_is_elsewhere(artefacts: Path, live: Values) -> None:
    assert match_rate(artefacts / "baseline", artefacts / "drifted", live) > 0.99
    drift = psi(read_artefact(artefacts / "drifted"), live)
    assert drift["spread_bp"] > 0.3
    assert drift["vol1m"] > 0.3
    assert max(drift["mid"], drift["rsi14"]) < 0.02
    assert sum(drift.values()) / len(drift) > 0.2


def test_the_model_is_near_the_best_possible(artefacts: Path) -> None:
    for name in ("baseline", "candidate", "drifted"):
        quality = read_artefact(artefacts / name).metadata["quality"]
        assert 0 <= quality["logLoss"] - quality["bestLogLoss"] < 0.005
    quality = read_artefact(artefacts / "disagreeing").metadata["quality"]
    assert quality["logLoss"] - quality["bestLogLoss"] > 0.02


def test_time_has_no_weight(baseline: Path, live: Values) -> None:
    artefact = read_artefact(baseline)
    rows = matrix(artefact.schema, artefact.reference, live, np.random.default_rng(0))
    session = onnxruntime.InferenceSession(artefact.model)
    first = session.run(["probabilities"], {"features": rows})[0]
    rows[:, 0] += 1e9
    assert (session.run(["probabilities"], {"features": rows})[0] == first).all()


def test_reference_counts_every_row_in_equal_bins(baseline: Path) -> None:
    for name, reference in read_artefact(baseline).reference.features.items():
        assert sum(reference.counts) == 8000
        assert max(reference.counts[:10]) - min(reference.counts[:10]) <= 2
        assert (reference.counts[10] > 0) == (name == "rsi14")


def test_the_population_has_the_moments_it_states() -> None:
    values, probability = draw(np.random.default_rng(1), 200_000)
    for name, feature in FEATURES.items():
        assert np.nanmean(values[name]) == pytest.approx(feature.mean, abs=0.02 * feature.sd)
        assert np.nanstd(values[name]) == pytest.approx(feature.sd, rel=0.03)
    assert 0.3 < probability.mean() < 0.7


def test_a_shift_moves_by_standard_deviations_and_unknown_features_are_refused() -> None:
    values, _ = draw(np.random.default_rng(1), 50_000, {"mid": -0.5})
    assert np.mean(values["mid"]) == pytest.approx(FEATURES["mid"].mean - 0.5 * FEATURES["mid"].sd, abs=0.02 * FEATURES["mid"].sd)
    with pytest.raises(ValueError, match="unknown feature spread"):
        draw(np.random.default_rng(1), 1, {"spread": 1})


@pytest.mark.parametrize("rows", [0, 499, 2_000_001])
def test_rows_are_bounded(tmp_path: Path, rows: int) -> None:
    with pytest.raises(TrainingError, match="give between"):
        train(tmp_path, version="v1", rows=rows)


def test_a_version_that_cannot_be_a_label_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError):
        train(tmp_path, version="v 1")
