"""`kanarya evidence verify` says yes to what was written, and no to anything else."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kanarya.cli.main import main
from kanarya.decision.evidence import digest
from tests.unit.decision.play import B, Play, Traffic

Entries = list[dict[str, Any]]


@cache
def run_as_text(errors: float) -> str:
    """Play a whole run; gives what `evidence get` prints."""
    play = Play().adopted()
    play.release(B)
    play.until(lambda p: p.weight == 10)
    play.traffic = Traffic(errors=errors)
    play.ended()
    return json.dumps(play.entries, indent=1)


def verify(path: Path, entries: Any, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    file = path / "evidence.json"
    file.write_text(entries if isinstance(entries, str) else json.dumps(entries), encoding="utf-8")
    code = main(["evidence", "verify", str(file)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("errors", [0.0, 0.5], ids=["Succeeded", "RolledBack"])
def test_evidence_as_it_was_written_holds(errors: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = run_as_text(errors)
    code, out, err = verify(tmp_path, text, capsys)
    assert (code, err) == (0, "")
    assert (
        out
        == f"{len(json.loads(text))} entries, chain unbroken, every verdict the same when judged again; head {json.loads(text)[-1]['hash']}\n"
    )


def test_evidence_comes_from_standard_input_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(run_as_text(0.5)))
    assert main(["evidence", "verify", "-"]) == 0
    assert "chain unbroken" in capsys.readouterr().out


def decision(entries: Entries) -> dict[str, Any]:
    return next(entry for entry in entries if entry["kind"] == "Decision" and entry["decision"] == "Rollback")


def forged(entries: Entries) -> Entries:
    """Make every hash right again, as somebody who can write all of it would."""
    previous = entries[0]["previous"]
    for entry in entries:
        entry["previous"] = previous
        entry["hash"] = previous = digest({key: value for key, value in entry.items() if key != "hash"})
    return entries


def fewer_errors(entries: Entries) -> None:
    decision(entries)["counts"]["candidate"]["mirror"]["errors"] = 0.0
    decision(entries)["counts"]["candidate"]["live"]["errors"] = 0.0


def other_verdict(entries: Entries) -> None:
    decision(entries)["verdicts"]["errors"]["verdict"] = "Good"


def softer_limit(entries: Entries) -> None:
    entries[0]["spec"]["analysis"]["errors"]["abort"] = 0.9


def softer_limit_with_its_digest(entries: Entries) -> None:
    softer_limit(entries)
    entries[0]["specDigest"] = digest(entries[0]["spec"])


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (lambda entries: entries.pop(2), "entry 3 has sequence 4: an entry is missing or out of order"),
        (lambda entries: entries.insert(1, entries[0]), "entry 2 has sequence 1"),
        (lambda entries: entries.reverse(), "entry 1 has sequence"),
        (lambda entries: entries[1].update(at=0.0), "entry 2 was changed after it was written"),
        (lambda entries: entries[1].update(note="added"), "entry 2 was changed after it was written"),
        (lambda entries: entries[1].pop("hash"), "entry 2 was changed after it was written"),
        (fewer_errors, "was changed after it was written"),
        (lambda entries: (entries.pop(0), [entry.update(sequence=entry["sequence"] - 1) for entry in entries]), "entry 1 does not follow"),
    ],
)
def test_tampered_evidence_does_not_hold(
    tamper: Callable[[Entries], Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = json.loads(run_as_text(0.5))
    tamper(entries)
    code, out, err = verify(tmp_path, entries, capsys)
    assert (code, out) == (1, "")
    assert err.startswith("kanarya evidence: ")
    assert says in err


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (fewer_errors, "errors was {'verdict': 'Bad'"),
        (other_verdict, "errors was {'verdict': 'Good'"),
        (softer_limit, "entry 1: the spec does not have the digest beside it"),
        (softer_limit_with_its_digest, "judged again it is"),
    ],
)
def test_evidence_forged_with_a_whole_new_chain_does_not_judge_to_the_same(
    tamper: Callable[[Entries], Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = json.loads(run_as_text(0.5))
    tamper(entries)
    code, _, err = verify(tmp_path, forged(entries), capsys)
    assert code == 1
    assert says in err


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "5",
        '"text"',
        "{}",
        "[5]",
        "[null]",
        "[{}]",
        "[]",
        "[NaN]",
        '[{"at": NaN}]',
        '[{"sequence": 1}]',
        "[" * 100_000,
        '[{"kind": "Decision", "sequence": 1}]',
    ],
)
def test_what_is_no_evidence_is_refused_in_a_sentence(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = verify(tmp_path, text, capsys)
    assert (code, out) == (1, "")
    assert err.startswith("kanarya evidence: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("kind", ["RunStarted", "Decision", "Checkpoint"])
@pytest.mark.parametrize("content", [{}, {"counts": 5, "verdicts": {"errors": 5}}, {"spec": [], "specDigest": ""}, {"spec": {"plan": {}}}])
def test_well_chained_nonsense_is_refused_or_says_nothing(
    kind: str, content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = json.loads(run_as_text(0.5))[0]
    entries = [start, {"sequence": 2, "at": 1.0, "kind": kind, **content}]
    code, _, err = verify(tmp_path, forged(entries), capsys)
    assert code == (1 if err else 0)


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", "verify", str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err


def test_a_file_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "binary"
    file.write_bytes(b"\xff\xfe\x00")
    assert main(["evidence", "verify", str(file)]) == 1
    assert capsys.readouterr().err.startswith("kanarya evidence: ")
