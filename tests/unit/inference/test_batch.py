"""Batch scoring of real files: the same scores as serving, bad rows with reasons, and runs that are killed."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pyarrow import csv, parquet

from kanarya_inference import cli
from kanarya_inference.batch.run import Job, run
from kanarya_inference.features import RequestReader
from kanarya_inference.features.tables import TableError
from kanarya_inference.registry import IntegrityError, onnx_scorer, read_artefact

SLOW = """
import sys
from kanarya_inference import cli
from kanarya_inference.batch import run, source
run.CHECKPOINT_SECONDS, run.CHUNK_ROWS, source.READ_BYTES = 0.0, 700, 64 << 10
sys.exit(cli.main(["batch", "--quiet", *sys.argv[1:]]))
"""


def batch(model: Path, data: Path, out: Path, *keep: str) -> Path:
    run(Job(model, data, out, out.with_name(out.name + ".bad"), keep))
    return out


def bad_rows(out: Path) -> list[tuple[int, str]]:
    lines = out.with_name(out.name + ".bad").read_text().splitlines()
    return [(one["row"], one["reason"]) for one in map(json.loads, lines)]


def test_scores_are_those_of_serving(demo_tables: Path, tabular: Path, tmp_path: Path) -> None:
    out = csv.read_csv(batch(tabular, demo_tables / "golden.csv", tmp_path / "out.csv", "id", "spread_bp"))
    assert out.column_names == ["row", "id", "spread_bp", "score", "label"]
    artefact = read_artefact(tabular)
    reader, score = RequestReader(artefact.schema, artefact.reference), onnx_scorer(artefact)
    rows = csv.read_csv(demo_tables / "golden.csv").to_pylist()
    assert [row["id"] for row in rows] == out.column("id").to_pylist()
    for number, row in enumerate(rows[:300]):
        vector, _ = reader.read(json.dumps({"snapshot": row}).encode())
        # ONNX Runtime adds up many rows in another order than one.
        assert out.column("score")[number].as_py() == pytest.approx(float(score(vector)[0]), abs=1e-6)
    assert bad_rows(tmp_path / "out.csv") == []


def test_parquet_and_csv_give_the_same_rows(demo_tables: Path, tabular: Path, tmp_path: Path) -> None:
    parquet.write_table(csv.read_csv(demo_tables / "golden.csv"), tmp_path / "golden.parquet", row_group_size=300)
    wanted = csv.read_csv(batch(tabular, demo_tables / "golden.csv", tmp_path / "a.csv")).to_pydict()
    for source in (demo_tables / "golden.csv", tmp_path / "golden.parquet"):
        found = parquet.read_table(batch(tabular, source, tmp_path / "b.parquet")).to_pydict()
        assert found["row"] == wanted["row"]
        assert found["label"] == wanted["label"]
        np.testing.assert_allclose(found["score"], wanted["score"], rtol=1e-6)


def test_bad_rows_are_named_and_the_others_scored(demo_tables: Path, tabular: Path, tmp_path: Path) -> None:
    lines = (demo_tables / "golden.csv").read_bytes().splitlines(keepends=True)[:12]
    names = lines[0].decode().replace('"', "").strip().split(",")

    def with_cell(line: bytes, name: str, cell: bytes) -> bytes:
        cells = line.rstrip(b"\n").split(b",")
        cells[names.index(name)] = cell
        return b",".join(cells) + b"\n"

    lines[2] = with_cell(lines[2], "spread_bp", b"wide")
    lines[4] = with_cell(lines[4], "ts", b"")
    lines[5] = lines[5].replace(b",", b"", 1)
    lines[7] = with_cell(lines[7], "rsi14_z", b"1e39")
    lines[8] = with_cell(lines[8], "venue", b"\xff\xfe")
    lines[9] = b"\n"
    lines[10] = with_cell(lines[10], "rsi14_z", b" 0.5 ")
    (tmp_path / "in.csv").write_bytes(b"".join(lines))
    out = batch(tabular, tmp_path / "in.csv", tmp_path / "out.csv", "id", "rsi14_z")
    table = csv.read_csv(out).to_pydict()
    assert table["row"] == [1, 3, 6, 8, 10, 11]
    assert table["rsi14_z"][4] == 0.5
    assert bad_rows(out) == [
        (2, "spread_bp is not a number: 'wide'"),
        (4, "ts is missing"),
        (5, "the line has 9 cells, the header 10"),
        (7, "rsi14_z is too large: give a number within ±3.4e+38"),
        (9, "the line is empty"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_killed_runs_give_the_bytes_of_one_run(demo_tables: Path, tabular: Path, tmp_path: Path, form: str, kind: str) -> None:
    head, *lines = (demo_tables / "train.csv").read_bytes().splitlines(keepends=True)
    lines[77] = b"broken\n"
    source = tmp_path / f"in.{form}"
    (tmp_path / "in.csv").write_bytes(head + b"".join(lines) * 3)
    if form == "parquet":
        whole = csv.read_csv(tmp_path / "in.csv", parse_options=csv.ParseOptions(invalid_row_handler=lambda _: "skip"))
        parquet.write_table(whole, source, row_group_size=9999)
    command = [sys.executable, "-c", SLOW, "--model", str(tabular), "--data", str(source), "--keep", "id"]

    def start(name: str) -> "subprocess.Popen[bytes]":
        out = ["--out", str(tmp_path / f"{name}.{kind}"), "--bad", str(tmp_path / f"{name}.bad")]
        return subprocess.Popen([*command, *out], stdout=subprocess.DEVNULL)

    assert start("one").wait(120) == 0
    rng, kills, positions = random.Random(form + kind), 0, [0]
    checkpoint = tmp_path / f".many.{kind}.checkpoint"
    while kills < 2:
        process = start("many")
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            # Only after this run has come further than the one before, so that the kills meet different places.
            if checkpoint.exists() and json.loads(checkpoint.read_bytes())["position"] > positions[-1]:
                time.sleep(rng.uniform(0, 0.02))
                process.send_signal(signal.SIGKILL)
                break
        if process.wait(60) == 0:
            break
        kills += 1
        positions.append(json.loads(checkpoint.read_bytes())["position"] if checkpoint.exists() else positions[-1])
    if not (tmp_path / f"many.{kind}").exists() or checkpoint.exists():
        assert start("many").wait(120) == 0
    assert kills >= 1
    for ending in (kind, "bad"):
        assert (tmp_path / f"many.{ending}").read_bytes() == (tmp_path / f"one.{ending}").read_bytes()
    assert not list(tmp_path.glob(".many*"))


def test_what_was_written_after_the_checkpoint_is_cut_off(
    demo_tables: Path, tabular: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kanarya_inference.batch import run as module  # noqa: PLC0415
    from kanarya_inference.batch import source  # noqa: PLC0415

    monkeypatch.setattr(source, "READ_BYTES", 32 << 10)
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)

    def stop(state: module.Checkpoint, _: source.Source) -> None:
        if state.rows > 1000:
            raise InterruptedError

    job = Job(tabular, demo_tables / "train.csv", tmp_path / "out.csv", tmp_path / "out.csv.bad")
    with pytest.raises(InterruptedError):
        run(job, stop)
    for name in (".out.csv.partial", ".out.csv.bad.partial"):
        with (tmp_path / name).open("ab") as file:
            file.write(b"half a row")
    run(job)
    batch(tabular, demo_tables / "train.csv", tmp_path / "one.csv")
    for ending in ("", ".bad"):
        assert (tmp_path / f"out.csv{ending}").read_bytes() == (tmp_path / f"one.csv{ending}").read_bytes()


@pytest.mark.parametrize("gone", ["partial", "renamed"])
def test_a_run_killed_while_it_finished_is_finished(demo_tables: Path, tabular: Path, tmp_path: Path, gone: str) -> None:
    from kanarya_inference.batch import run as module  # noqa: PLC0415

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_finish", lambda _: None)
        batch(tabular, demo_tables / "golden.csv", tmp_path / "out.csv")
    if gone == "renamed":
        (tmp_path / ".out.csv.partial").replace(tmp_path / "out.csv")
    batch(tabular, demo_tables / "golden.csv", tmp_path / "out.csv")
    batch(tabular, demo_tables / "golden.csv", tmp_path / "again.csv")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()


def test_a_checkpoint_of_other_input_is_refused(demo_tables: Path, tabular: Path, tmp_path: Path) -> None:
    (tmp_path / ".out.csv.checkpoint").write_text('{"schemaVersion": 1, "identity": "0", "position": 5}')
    with pytest.raises(TableError, match="another input, model or setting: delete it"):
        batch(tabular, demo_tables / "golden.csv", tmp_path / "out.csv")


def test_an_empty_table_gives_an_empty_one(demo_tables: Path, tabular: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes((demo_tables / "golden.csv").read_bytes().splitlines(keepends=True)[0])
    assert csv.read_csv(batch(tabular, tmp_path / "in.csv", tmp_path / "out.csv")).column_names == ["row", "score", "label"]
    assert parquet.read_table(batch(tabular, tmp_path / "in.csv", tmp_path / "out.parquet")).num_rows == 0


def test_a_changed_model_scores_nothing(demo_tables: Path, tabular: Path, tmp_path: Path) -> None:
    import shutil  # noqa: PLC0415

    model = shutil.copytree(tabular, tmp_path / "model")
    (model / "model.onnx").write_bytes(b"x")
    with pytest.raises(IntegrityError):
        batch(model, demo_tables / "golden.csv", tmp_path / "out.csv")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("id,ts\n1,2\n", "has no column mid_logret_1m; its columns are id, ts"),
        ("", "no line of column names"),
        ("a,a\n", "two columns of one name"),
    ],
)
def test_a_table_that_cannot_be_scored_says_why(
    tabular: Path, tmp_path: Path, content: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text(content)
    assert cli.main(["batch", "--model", str(tabular), "--data", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv")]) == 1
    assert sentence in capsys.readouterr().err
