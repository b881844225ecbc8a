"""Evaluation: measures against scikit-learn's, the rules against cases with a known answer, and the command on real artefacts."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from kanarya_inference import cli
from kanarya_inference.features import read_schema_file
from kanarya_inference.training.errors import TrainingError
from kanarya_inference.training.evaluation import Gates, bootstrap, compare, judge, mcnemar_test
from kanarya_inference.training.scores import auc, calibration, measures, quality
from kanarya_inference.training.tabular import read_labelled
from kanarya_inference.training.walk_forward import DAY, Walk, walk_forward
from tests.unit.inference.tables import trained

pytestmark = pytest.mark.slow


def drawn(rows: int, prevalence: float, strength: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < prevalence).astype(np.int64)
    return labels, np.round(1 / (1 + np.exp(-(strength * (labels - 0.5) + rng.normal(size=rows)))), 2)


def test_measures_are_scikit_learns() -> None:
    labels, scores = drawn(700, 0.3, 1.5)
    found = quality(labels, scores)
    assert found["auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert found["brier"] == pytest.approx(brier_score_loss(labels, scores), abs=1e-12)
    assert found["logLoss"] == pytest.approx(log_loss(labels, np.clip(scores, 1e-12, 1 - 1e-12)), abs=1e-9)
    assert np.isnan(auc(np.ones(5), np.arange(5.0)))


def test_top_20_percent_by_hand() -> None:
    labels, scores = np.array([1, 0, 1, 0, 0, 1, 0, 0, 0, 1]), np.array([0.9, 0.8, 0.8, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    found = measures(labels, scores)
    assert (float(found["precisionAt20"]), float(found["recallAt20"])) == (0.5, 0.25)  # of the two 0.8 the earlier counts


def test_calibration_of_true_probabilities_is_near_zero_error() -> None:
    rng = np.random.default_rng(2)
    probability = rng.random(100_000)
    labels = (rng.random(100_000) < probability).astype(np.int64)
    assert calibration(labels, probability)["expectedCalibrationError"] < 0.01
    assert calibration(labels, probability**3)["expectedCalibrationError"] > 0.2


def test_a_recall_that_no_model_can_reach_is_explained() -> None:
    labels = np.repeat([1, 0], [600, 400])
    judged = judge(labels, labels.astype(float), Gates(), seed=1)
    (reason,) = judged.reasons
    assert reason.startswith(
        "recall at 20 % is 0.3333, has to be at least 0.4; no model can reach that here: 600 of 1000 rows are positive"
    )
    assert "only 200 are in the top 20 %, so that 0.3333 is the most; lower the gate" in reason
    rare = judge(np.repeat([1, 0], [50, 950]), np.repeat([1.0, 0.0], [50, 950]), Gates(), seed=1)
    assert "only 50 of 1000 rows are positive, and 200 are in the top 20 %, so that 0.2500 is the most" in rare.reasons[0]


def test_each_gate_fails_by_itself() -> None:
    labels, scores = drawn(1000, 0.3, 2.0)
    assert judge(labels, scores, Gates(), seed=1).passed
    for gates, name in ((Gates(auc=0.999), "AUC"), (Gates(precision_at_20=1.0), "precision"), (Gates(recall_at_20=0.66), "recall")):
        (reason,) = judge(labels, scores, gates, seed=1).reasons
        assert name in reason
    (reason,) = judge(labels, scores, Gates(brier=0.01), seed=1).reasons
    assert re.match(r"Brier score is 0\.\d+, has to be below 0.01", reason)


def test_mcnemar_is_exact_and_two_sided() -> None:
    labels = np.ones(30, dtype=np.int64)
    candidate, baseline = np.r_[np.ones(2), np.zeros(8), np.ones(20)], np.r_[np.zeros(2), np.ones(8), np.ones(20)]
    found = mcnemar_test(labels, candidate, baseline)
    assert found == {"onlyCandidateRight": 2, "onlyBaselineRight": 8, "pValue": pytest.approx(2 * (1 + 10 + 45) / 1024)}
    assert mcnemar_test(labels, candidate, candidate)["pValue"] == 1.0


def test_bootstrap_intervals_are_seeded_and_cover() -> None:
    covered = 0
    for seed in range(20):
        labels, scores = drawn(400, 0.3, 1.0, seed)
        low, high = bootstrap(labels, [scores], seed)[0]["auc"]
        covered += low < 0.760 < high  # Phi(1 / sqrt 2)
    assert covered >= 16
    assert bootstrap(labels, [scores], 3) == bootstrap(labels, [scores], 3)


def test_a_worse_candidate_is_named_and_an_equal_one_is_not() -> None:
    labels, good = drawn(1000, 0.3, 2.0)
    bad = np.where(np.random.default_rng(3).random(1000) < 0.4, 1 - good, good)
    reasons = compare(labels, bad, good, (0.5, 0.5), 1).reasons
    assert [reason.split()[0] for reason in reasons] == ["AUC", "labels"]
    assert compare(labels, good, good, (0.5, 0.5), 1).passed
    assert compare(labels, good, bad, (0.5, 0.5), 1).passed


def test_walking_forward_tests_only_what_comes_after(demo_tables: Path) -> None:
    schema = read_schema_file(demo_tables / "schema.json")
    history = read_labelled(demo_tables / "train.csv", schema, "label", "ts")
    assert history.times is not None
    steps = walk_forward(history, Walk(2, 365, 30), family="logistic", seed=1, parameters={})
    assert [one["from"] for one in steps] == [int(history.times.max() + 1 - back * 30 * DAY) for back in (2, 1)]
    assert all(0.6 < one["auc"] < 1 for one in steps)
    with pytest.raises(TrainingError, match=r"36 steps of 30 days after 365 days of training need 1445: at most 25 steps fit"):
        walk_forward(history, Walk(), family="logistic", seed=1, parameters={})
    # Labels of the last window turned around: earlier steps do not see it.
    turned = history.labels.copy()
    late = history.times >= steps[-1]["from"]
    turned[late] = 1 - turned[late]
    again = walk_forward(type(history)(schema, history.values, turned, history.times), Walk(2), family="logistic", seed=1, parameters={})
    assert again[0] == steps[0]
    assert again[1]["auc"] == pytest.approx(1 - steps[1]["auc"], abs=1e-5)


# -- the command ----------------------------------------------------------------------------------------------------------------


def evaluate(artefact: Path, tables: Path, out: Path, *more: str) -> int:
    return cli.main(["evaluate", "--artefact", str(artefact), "--golden", str(tables / "golden.csv"), "--out", str(out), *more])


def test_a_good_model_passes_and_leaves_three_reports(demo_tables: Path, tabular: Path, tmp_path: Path) -> None:
    assert evaluate(tabular, demo_tables, tmp_path, "--baseline", str(tabular)) == 0
    assert (tmp_path / "eval_result.txt").read_text() == "PASS\n"
    report = json.loads((tmp_path / "offline_report.json").read_text())
    assert (report["verdict"], report["version"], report["golden"]["rows"]) == ("PASS", "v1", 1000)
    best = json.loads((demo_tables / "best.json").read_text())
    assert report["golden"]["sha256"] == best["goldenSha256"]
    assert abs(report["measures"]["auc"] - best["golden"]["auc"]) < 0.03
    assert report["skopsDifference"] < 1e-5
    assert report["baseline"]["mcnemar"] == {"onlyCandidateRight": 0, "onlyBaselineRight": 0, "pValue": 1.0}
    page = (tmp_path / "offline_report.html").read_text()
    assert page.count("<svg") == 3
    assert not re.findall(r'(?:src|href)="(?!#)', page)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert evaluate(tabular, demo_tables, tmp_path, "--baseline", str(tabular)) == 0
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}


def test_a_gate_that_does_not_hold_is_a_failure_with_its_reason(demo_tables: Path, tabular: Path, tmp_path: Path) -> None:
    assert evaluate(tabular, demo_tables, tmp_path, "--min-auc", "0.99") == 1
    first, second = (tmp_path / "eval_result.txt").read_text().splitlines()
    assert first == "FAIL"
    assert second.startswith("AUC is 0.8")


@pytest.mark.parametrize(
    ("spoil", "arguments", "sentence"),
    [
        ("golden", [], "it is not the golden set that was agreed on"),
        ("sum", [], "make the golden set with `kanarya-ml golden`"),
        ("", ["--golden-sha256", "0" * 64], "expected is 0000"),
        ("", ["--min-rows", "2000"], "has 1000 rows, 2000 are needed"),
        ("model", [], "model.onnx has sha256"),
    ],
)
def test_what_cannot_be_evaluated_is_neither_pass_nor_fail(
    demo_tables: Path, tabular: Path, tmp_path: Path, spoil: str, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tables, model = shutil.copytree(demo_tables, tmp_path / "tables"), shutil.copytree(tabular, tmp_path / "model")
    if spoil == "golden":
        (tables / "golden.csv").write_text((tables / "golden.csv").read_text() + "\n")
    if spoil == "sum":
        (tables / "golden.csv.sha256").unlink()
    if spoil == "model":
        (model / "model.onnx").write_bytes(b"x")
    assert evaluate(model, tables, tmp_path / "out", *arguments) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_trained_on_the_golden_set_is_refused(demo_tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = shutil.copytree(demo_tables, tmp_path / "tables")
    shutil.copy(tables / "golden.csv", tables / "train.csv")
    assert evaluate(trained(tables, tmp_path / "model"), tables, tmp_path / "out") == 2
    assert "was trained on this very golden set" in capsys.readouterr().err
