"""`kanarya judge` as a filter: what it refuses, by line and field, and how it reads and writes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from kanarya.api.rollout import parse_spec
from kanarya.cli.judge import judged
from kanarya.cli.main import main
from tests.unit.cli.lines import judge, line, rollout, write_rollout


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("{", "line 2: is not JSON"),
        ("[]", "line 2: is a list: an object is expected"),
        ('{"step": 0}', "line 2: t: is missing"),
        ('{"t": 1}', "line 2: step: is missing"),
        ('{"t": "1", "step": 0}', "line 2: t: is text: a number is expected"),
        ('{"t": -1, "step": 0}', "line 2: t: is -1: a number of at least 0"),
        ('{"t": 1e999, "step": 0}', "line 2: t: is inf: a number of at least 0"),
        ('{"t": NaN, "step": 0}', "line 2: is not JSON: NaN is no number there"),
        ('{"t": 9, "step": 0}', "line 2: t: is 9, before the 10 of the line before"),
        ('{"t": 20, "step": 1}', "line 2: step: is 1, but the run is at step 0: a step begins only after an Advance"),
        ('{"t": 20, "step": 0.5}', "line 2: step: is 0.5, but the run is at step 0"),
        ('{"t": 20, "step": true}', "line 2: step: is true or false"),
        ('{"t": 20, "step": 0, "candidate": []}', "line 2: candidate: is a list: an object is expected"),
        ('{"t": 20, "step": 0, "candidates": {}}', "line 2: candidates: is no field of a line"),
        ('{"t": 20, "step": 0, "t": 21}', "line 2: t: stands twice"),
        ('{"t": 20, "step": 0, "candidate": {"live": {"requests": null}}}', "line 2: candidate.live.requests: is null"),
        ('{"t": 20, "step": 0, "candidate": {"live": {"requests": 1}}}', "line 2: candidate.live.requests: fell from 200 to 1"),
        (
            '{"t": 20, "step": 0, "candidate": {"live": {"requests": 300, "errors": 301}}}',
            "line 2: candidate.live.errors: is 301, more than",
        ),
        ('{"t": 20, "step": 0, "stable": {"slower": {"fast": 1}}}', "line 2: stable.slower.fast: is no threshold"),
        ('{"t": 20, "step": 0, "stable": {"requests": 2000, "slower": {"80": 1, "120": 2}}}', "line 2: stable.slower.120: is 2, more than"),
        ('{"t": 20, "step": 0, "stable": {"slower": {"80": 1, "80.0": 1}}}', "line 2: stable.slower: has a threshold twice"),
        ('{"t": 20, "step": 0, "candidate": {"compared": 9000, "attempted": 8000}}', "line 2: candidate.compared: is 9000, more than"),
        ('{"t": 20, "step": 0, "drift": {"x": {"current": [1, 2]}}}', "line 2: drift.x.reference: is missing"),
        ('{"t": 20, "step": 0, "drift": {"x": {"current": [1, 2], "reference": [1, 2, 3]}}}', "line 2: drift.x.current: has 2 bins"),
        ('{"t": 20, "step": 0, "drift": {"x": {"current": [1, -2], "reference": [1, 2]}}}', "line 2: drift.x.current[1]: is -2"),
        ('{"t": 20, "step": 0, "drift": {"x": {"current": [1], "reference": [1]}}}', "line 2: drift.x.reference: needs at least two"),
        ("[" * 100_000, "line 2: is not JSON"),
        ('{"t": ' + "1" * 5000 + "}", "line 2: is not JSON"),
    ],
)
def test_a_malformed_line_is_an_error_that_names_line_and_field(
    given: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Input:
        buffer = io.BytesIO(f"{json.dumps(line(10))}\n{given}\n".encode())

    monkeypatch.setattr("sys.stdin", Input)
    assert main(["judge", "--rollout", str(write_rollout(tmp_path))]) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"kanarya judge: {error}")
    assert len(err) < 400
    assert len(out.splitlines()) == 1


def test_counts_of_the_last_step_are_refused_after_an_advance_and_any_line_after_promotion() -> None:
    with pytest.raises(ValueError, match=r"line 2: step: is 0, but the run is at step 1: after an Advance"):
        judge([line(60), line(65)])
    with pytest.raises(ValueError, match=r"line 3: step: the run is over: line 2 was answered with Advance"):
        judge([line(60), line(60, 1), line(65, 1)])


def test_bins_that_fall_are_named() -> None:
    lower = line(20)
    lower["drift"]["spread_bp"]["current"][3] = 5
    with pytest.raises(ValueError, match=r"line 2: drift.spread_bp.current\[3\]: fell from 200 to 5"):
        judge([line(10), lower])


def test_bytes_that_are_no_text_are_an_error() -> None:
    with pytest.raises(ValueError, match="line 1: is not text"):
        list(judged(parse_spec(rollout()["spec"]), io.BytesIO(b"\xff\xfe\n")))


def test_a_line_is_answered_before_the_next_is_read(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kanarya.cli.main", "judge", "--rollout", str(write_rollout(tmp_path))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for step, t in ((0, 30), (0, 60), (1, 30), (1, 60)):
            process.stdin.write(json.dumps(line(t, step)) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            assert (answer["t"], answer["decision"]) == (t, "Advance" if t == 60 else "Hold")
        process.stdin.close()
        assert process.wait(60) == 0


def test_a_reader_that_has_enough_ends_it_without_a_traceback(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text("".join(json.dumps(line(t / 100)) + "\n" for t in range(2000)), encoding="utf-8")
    command = [sys.executable, "-m", "kanarya.cli.main", "judge", "--rollout", str(write_rollout(tmp_path))]
    with file.open() as lines, subprocess.Popen(command, stdin=lines, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "has no MLModelRollout: one is expected"),
        ("{", "is neither YAML nor JSON"),
        ("kind: Deployment", "has no MLModelRollout"),
        ("{kind: MLModelRollout, spec: {}}", "apiVersion is None"),
        ("{apiVersion: kanarya.dev/v1alpha1, kind: MLModelRollout, spec: {targetRef: {name: f}}}", "spec.serviceRef: Field required"),
        ("{apiVersion: kanarya.dev/v1alpha1, kind: MLModelRollout}", "spec: "),
        ("--- {kind: MLModelRollout}\n--- {kind: MLModelRollout}", "has 2 MLModelRollouts"),
    ],
)
def test_a_rollout_that_cannot_be_used_is_an_error(text: str, error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rollout.yaml"
    file.write_text(text, encoding="utf-8")
    assert main(["judge", "--rollout", str(file)]) == 1
    assert error in capsys.readouterr().err


def test_a_rollout_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", "--rollout", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith(f"kanarya judge: {tmp_path / 'none'}: No such file")
