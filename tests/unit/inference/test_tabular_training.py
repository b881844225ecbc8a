"""Training on tables: real files, real models, every family that converts."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
import skops.io
from pyarrow import csv, parquet

from kanarya_inference import cli
from kanarya_inference.features import FeatureSchema, RequestReader, read_schema_file
from kanarya_inference.features.market import market_features
from kanarya_inference.features.tables import TableError
from kanarya_inference.registry import load_verified, onnx_scorer, read_artefact
from kanarya_inference.training.convert import onnx_scores, read_skops
from kanarya_inference.training.errors import TrainingError
from kanarya_inference.training.golden import checked_sum
from kanarya_inference.training.scores import quality
from kanarya_inference.training.tabular import Recipe, read_labelled, train_table
from tests.unit.inference.tables import trained


def golden_quality(folder: Path, tables: Path) -> dict[str, float]:
    artefact = load_verified(folder)
    golden = read_labelled(tables / "golden.csv", artefact.schema, "label")
    return quality(golden.labels, onnx_scorer(artefact)(golden.matrix(artefact.reference)))


def test_the_artefact_is_whole_and_near_the_best_possible(demo_tables: Path, tabular: Path) -> None:
    assert {file.name for file in tabular.iterdir()} == {"model.onnx", "model.skops", "reference.json", "parity.json", "metadata.json"}
    metadata = read_artefact(tabular).metadata
    assert set(metadata["sha256"]) == {"model.onnx", "model.skops", "reference.json", "parity.json"}
    assert metadata["rows"] == 3000
    assert set(metadata["libraries"]) >= {"scikit-learn", "skl2onnx", "onnx", "numpy"}
    best = json.loads((demo_tables / "best.json").read_text())["golden"]
    found = golden_quality(tabular, demo_tables)
    assert best["auc"] - 0.03 < found["auc"] < best["auc"] + 0.01
    assert metadata["quality"]["crossValidation"]["mean"]["auc"] == pytest.approx(found["auc"], abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["logistic", "boosting", "forest", "extra-trees"])
def test_the_same_inputs_give_the_same_onnx_bytes_in_another_process(demo_tables: Path, tmp_path: Path, family: str) -> None:
    settings: dict[str, Any] = {} if family == "logistic" else {"parameters": {"n_estimators": 8}}
    here = trained(demo_tables, tmp_path / "here", family=family, **settings)
    command = [sys.executable, "-m", "kanarya_inference.cli", "train", "--data", str(demo_tables / "train.csv")]
    command += ["--schema", str(demo_tables / "schema.json"), "--out", str(tmp_path / "there"), "--version", "v1", "--model", family]
    command += ["--folds", "2", *(["--set", "n_estimators=8"] if settings else [])]
    subprocess.run(command, check=True, timeout=120, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "5"})
    domains = [one.domain for one in onnx.load(here / "model.onnx").opset_import]
    assert domains == sorted(domains)
    assert len(domains) == 2
    for name in ("model.onnx", "reference.json", "parity.json"):
        assert (here / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
    pipeline = read_skops(here / "model.skops")
    batch = np.array(json.loads((here / "parity.json").read_text())["inputs"], dtype=np.float32)
    difference = np.abs(pipeline.predict_proba(batch)[:, 1] - onnx_scores((here / "model.onnx").read_bytes(), batch))
    assert difference.max() < 1e-5


def test_a_family_that_does_not_convert_is_one_sentence(demo_tables: Path, tmp_path: Path) -> None:
    try:
        trained(demo_tables, tmp_path / "out", family="hist-boosting", parameters={"max_iter": 3})
    except TrainingError as error:
        assert "HistGradientBoostingClassifier cannot be converted" in str(error)  # noqa: PT017 -- other library versions convert it
        assert not (tmp_path / "out").exists()


def test_a_parquet_table_gives_the_same_model(demo_tables: Path, tabular: Path, tmp_path: Path) -> None:
    parquet.write_table(csv.read_csv(demo_tables / "train.csv"), tmp_path / "train.parquet")
    recipe = Recipe(version="v1", label="label", folds=2)
    train_table(tmp_path / "train.parquet", read_schema_file(demo_tables / "schema.json"), tmp_path / "out", recipe)
    assert (tmp_path / "out" / "model.onnx").read_bytes() == (tabular / "model.onnx").read_bytes()


def test_a_client_s_row_gets_the_score_of_the_table_s_row(demo_tables: Path, tabular: Path) -> None:
    artefact = read_artefact(tabular)
    golden = read_labelled(demo_tables / "golden.csv", artefact.schema, "label")
    matrix = golden.matrix(artefact.reference)
    reader = RequestReader(artefact.schema, artefact.reference)
    for index, row in enumerate(csv.read_csv(demo_tables / "golden.csv").slice(0, 200).to_pylist()):
        vector, _ = reader.read(json.dumps({"snapshot": row}).encode())
        assert vector[0].tobytes() == matrix[index].tobytes()


def test_the_score_reference_is_that_of_the_training_scores(tabular: Path) -> None:
    score = read_artefact(tabular).reference.score
    assert score is not None
    assert sum(score.counts) == 3000
    assert len(score.counts) == 11


def test_time_ordered_folds_never_look_ahead(demo_tables: Path, tmp_path: Path) -> None:
    folder = trained(demo_tables, tmp_path / "out", time_column="ts")
    assert read_artefact(folder).metadata["quality"]["crossValidation"]["by"] == "time"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"label": "outcome"}, "has no column outcome; its columns are id, ts"),
        ({"label": "venue"}, "is a column of the schema"),
        ({"label": "id"}, "row 2: id is neither 0 nor 1"),
        ({"folds": 1}, "give at least 2"),
        ({"threshold": 1.0}, "between 0 and 1"),
        ({"parameters": {"depth": 3}}, "no such setting; there are C"),
        ({"parameters": {"C": -1}}, "could not be fitted"),
    ],
)
def test_a_recipe_that_cannot_work_says_why(demo_tables: Path, tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    with pytest.raises((TrainingError, TableError), match=sentence):
        train_table(
            demo_tables / "train.csv",
            read_schema_file(demo_tables / "schema.json"),
            tmp_path / "out",
            Recipe(**{"version": "v1", "label": "label", **change}),  # type: ignore[arg-type]
        )
    assert not (tmp_path / "out").exists()


def test_rows_that_serving_would_refuse_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("ts,x,label\n" + "".join(f"{i},{i % 7},{i % 2}\n" for i in range(200)) + ",1,0\n")
    schema = FeatureSchema.from_json(
        {"schemaVersion": 1, "columns": [{"name": "ts", "field": "ts", "drift": False}, {"name": "x", "field": "x", "drift": True}]}
    )
    with pytest.raises(TrainingError, match="1 rows cannot be used: row 201: ts is missing"):
        train_table(tmp_path / "t.csv", schema, tmp_path / "out", Recipe(version="v1", label="label"))


def test_a_skops_file_with_another_type_is_not_loaded(tabular: Path, tmp_path: Path) -> None:
    (tmp_path / "model.skops").write_bytes(skops.io.dumps(subprocess.Popen))
    with pytest.raises(TrainingError, match=r"subprocess.Popen, which is not trusted"):
        read_skops(tmp_path / "model.skops")
    shutil.copy(tabular / "model.skops", tmp_path)
    read_skops(tmp_path / "model.skops")


def test_golden_rows_are_set_aside_and_their_sum_checked(demo_tables: Path, tmp_path: Path) -> None:
    arguments = ["golden", "--data", str(demo_tables / "train.csv"), "--golden", str(tmp_path / "g.csv"), "--rest", str(tmp_path / "r.csv")]
    assert cli.main([*arguments, "--rows", "500", "--seed", "3"]) == 0
    whole, golden, rest = (
        set(path.read_text().splitlines()) for path in (demo_tables / "train.csv", tmp_path / "g.csv", tmp_path / "r.csv")
    )
    assert (len(golden), len(rest)) == (501, 2501)
    unquote = str.maketrans("", "", '"')
    assert {row.translate(unquote) for row in golden | rest} == {row.translate(unquote) for row in whole}
    found = checked_sum(tmp_path / "g.csv")
    with (tmp_path / "g.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(TrainingError, match=f"expected is {found}"):
        checked_sum(tmp_path / "g.csv")


def test_market_features_are_added_to_a_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    ts = np.linspace(1.75e9, 1.75e9 + 2990, 300)
    mid = 100 + np.cumsum(rng.normal(0, 0.01, 300))
    csv.write_csv(pa.table({"ts": ts, "bid": mid - 0.01, "ask": mid + 0.01}), tmp_path / "quotes.csv")
    assert cli.main(["features", "--data", str(tmp_path / "quotes.csv"), "--out", str(tmp_path / "out.parquet")]) == 0
    table = parquet.read_table(tmp_path / "out.parquet")
    for name, wanted in market_features(ts, mid - 0.01, mid + 0.01).items():
        np.testing.assert_allclose(table.column(name).to_numpy(), wanted, rtol=1e-9)
