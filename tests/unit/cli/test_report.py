"""`kanarya evidence report` tells a run so that somebody who was not there can follow it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kanarya.cli.main import main
from kanarya.decision.evidence import digest
from tests.unit.decision.play import B, Play, Traffic, spec
from tests.unit.decision.test_offline import PASSED, both, releasing


def told(play: Play, path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    file = path / "evidence.json"
    file.write_text(json.dumps(play.entries), encoding="utf-8")
    assert main(["evidence", "report", str(file)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def played(mode: str = "Live", errors_at_step_3: float = 0.0) -> Play:
    play = Play(spec=spec(mode=mode)).adopted()
    play.release(B)
    play.until(lambda play: play.state.run is not None and play.run.step == 2)
    play.traffic = Traffic(errors=errors_at_step_3)
    play.ended()
    return play


def lines(text: str, pattern: str) -> list[str]:
    return [found.group(1) for found in re.finditer(rf"\+\d+ s  ({pattern}.*)", text)]


def test_a_promotion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(played(), tmp_path, capsys)
    assert text.startswith("run bbb-1   candidate v2 (bbb)   stable v1 (aaa)   mode Live\nplan 5 10 25 50 100 of 100   replicas 2\n")
    assert lines(text, "advance") == [f"advance to step {i}, weight {w}" for i, w in enumerate((5, 10, 25, 50, 100), 1)]
    assert lines(text, "promote|Succeeded") == ["promote", "Succeeded: Promoted: stable is now v2"]
    assert "would" not in text
    assert re.search(r"errors +0\.00 %  Good +ErrorsWithinSlo +\d+ requests\n", text)


def test_a_run_that_rests_on_an_offline_report_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    play = releasing(both(PASSED))
    play.ended()
    text = told(play, tmp_path, capsys)
    assert f"\noffline report PASS of model v2 (sha256 {'a' * 12}, report {'b' * 12})\n" in text


def test_a_rollback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(played(errors_at_step_3=0.5), tmp_path, capsys)
    assert lines(text, "roll") == ["roll back: ErrorsAboveAbort"]
    assert lines(text, "RolledBack")[0].startswith("RolledBack: ErrorsAboveAbort: errors: ")


def test_an_observed_run_says_what_it_would_have_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(played("Observe"), tmp_path, capsys)
    assert lines(text, "would advance") == [f"would advance to step {i}, weight {w}" for i, w in enumerate((5, 10, 25, 50, 100), 1)]
    assert lines(text, "would promote") == ["would promote"]
    assert lines(text, "Observed")[0].startswith("Observed: WouldPromote: would have been promoted after ")


def test_an_observed_breach(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(played("Observe", 0.5), tmp_path, capsys)
    assert lines(text, "would roll") == ["would roll back: ErrorsAboveAbort"]
    assert lines(text, "Observed")[0].startswith(
        "Observed: ErrorsAboveAbort: would have been rolled back at step 3 of 5, weight 25: errors"
    )


def test_a_run_that_is_not_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    play = played()
    play.entries.pop()
    assert "the run goes on\n" in told(play, tmp_path, capsys)


def test_tampered_evidence_is_not_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    play = played()
    play.entries[3]["at"] = 0.0
    file = tmp_path / "evidence.json"
    file.write_text(json.dumps(play.entries), encoding="utf-8")
    assert main(["evidence", "report", str(file)]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "kanarya evidence: entry 4 was changed after it was written\n")


def test_a_well_chained_stranger_is_refused_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = {"sequence": 1, "at": 1.0, "kind": "StepEntered", "previous": "0" * 64}
    file = tmp_path / "evidence.json"
    file.write_text(json.dumps([{**entry, "hash": digest(entry)}]), encoding="utf-8")
    assert main(["evidence", "report", str(file)]) == 1
    assert capsys.readouterr().err.startswith("kanarya evidence: this is no evidence: ")
