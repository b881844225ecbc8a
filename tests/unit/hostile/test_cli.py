"""The command line on files and objects that hold anything: one sentence or a view, and nothing that moves the cursor."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kanarya.cli.main import main
from kanarya.cli.view import render
from kanarya.decision.evidence import GENESIS, digest
from tests.unit.decision.play import B, Play, Traffic
from tests.unit.hostile import wrong

pytestmark = pytest.mark.slow

Entries = list[dict[str, Any]]


@cache
def good() -> str:
    play = Play().adopted()
    play.release(B)
    play.until(lambda p: p.weight == 10)
    play.traffic = Traffic(errors=0.5)
    play.ended()
    return json.dumps(play.entries)


def chained(entries: Entries) -> Entries:
    """Make the chain right again, as far as there is something to make a hash of."""
    previous = GENESIS
    for entry in entries:
        if isinstance(entry, dict):
            entry["previous"] = previous
            entry["hash"] = previous = digest({key: value for key, value in entry.items() if key != "hash"})
    return entries


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str, str], tuple[int, str, str]]:
    def of(action: str, text: str) -> tuple[int, str, str]:
        file = tmp_path / "evidence.json"
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        code = main(["evidence", action, str(file)])
        return code, *capsys.readouterr()

    return of


def is_clean(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


DECISION = next(position for position, entry in enumerate(json.loads(good())) if entry["kind"] == "Decision")
PATHS = [*wrong.paths(json.loads(good())[0], (0,)), *wrong.paths(json.loads(good())[DECISION], (DECISION,))]


@pytest.mark.parametrize("path", [path for path in PATHS if path[-1] not in ("previous", "hash")][::3], ids=wrong.written)
def test_well_chained_entries_with_any_value_are_refused_in_a_sentence_or_hold(
    path: wrong.Path, run: Callable[[str, str], tuple[int, str, str]]
) -> None:
    for value in (*wrong.FEW[::2], 1e308, "\x1b[2J\n\u202e"):
        try:
            text = json.dumps(chained(wrong.replaced(json.loads(good()), path, value)))
        except (ValueError, TypeError):
            continue  # nothing that a hash can be made of
        code, out, err = run("report", text)  # which verifies first
        assert code == (1 if err else 0)
        assert bool(out) is not bool(err)
        assert is_clean(out + err)
        assert len(err) < 1100
        assert err.count("\n") <= 1


TEXTS = [
    "1" * 5000,
    "[" * 10**6,
    '{"a":' * 10**5,
    "[1e999]",
    "[{}" + ",{}" * 10_000 + "]",
    '[{"sequence": "\x1b[2J\u202e"}]',
    '["\ud800"]',
    "\x00",
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_files_that_are_no_evidence(text: str, run: Callable[[str, str], tuple[int, str, str]]) -> None:
    for action in ("verify", "report"):
        code, out, err = run(action, text)
        assert (code, out) == (1, "")
        assert err.startswith("kanarya evidence: ")
        assert err.count("\n") == 1
        assert is_clean(err)
        assert len(err) < 1100


def test_reference_bins_beyond_number_are_no_crash(run: Callable[[str, str], tuple[int, str, str]]) -> None:
    entries = json.loads(good())
    entries[DECISION]["drift"]["spread_bp"]["reference"] = [1e308] * 11
    code, _, err = run("verify", json.dumps(chained(entries)))
    assert code == 1
    assert err


# -- status ---------------------------------------------------------------------------------------------------------------

STATUS: dict[str, Any] = {
    "summary": "Progressing",
    "reason": "Stepping",
    "stable": {"revision": "aaa", "version": "v1"},
    "run": {"id": "bbb-1", "revision": "bbb", "version": "v2", "step": 2, "steps": 5, "weight": 10, "virtualWeight": 0},
    "conditions": [
        {"type": "Accepted", "status": "False", "reason": "InvalidSpec", "message": "spec.plan: change it"},
        {"type": "Progressing", "status": "True", "reason": "Stepping", "message": "4 s left"},
    ],
    "history": [{"run": "aaa-1", "version": "v1", "outcome": "Succeeded", "reason": "Promoted", "finished": "2026-01-02T03:04:05Z"}],
}
METADATA = {"namespace": "shop", "name": "fraud"}


@pytest.mark.parametrize("path", [("status",), *((("status", *path)) for path in wrong.paths(STATUS))], ids=wrong.written)
def test_a_status_with_anything_in_it_is_shown(path: wrong.Path) -> None:
    rollout = {"metadata": METADATA, "spec": {"plan": {"weightTotal": 100}}, "status": STATUS}
    for changed in (*(wrong.replaced(rollout, path, value) for value in (*wrong.FEW, "\x1b[2J\r\n\u202e")), wrong.without(rollout, path)):
        shown = render(changed, {}, 0.0)
        assert shown.startswith("shop/fraud   ")
        assert is_clean(shown)
        assert shown.count("\n") <= 6


def test_weights_of_another_total_are_shown_as_shares() -> None:
    spec = {"plan": {"weightTotal": 1000}}
    status = {**STATUS, "run": {**STATUS["run"], "weight": 5}}
    assert "weight 0.5 %  [........" in render({"metadata": METADATA, "spec": spec, "status": status}, {}, 0.0)
    for total in (None, 0, -1, "x", math.nan, 10**30):
        shown = render({"metadata": METADATA, "spec": {"plan": {"weightTotal": total}}, "status": STATUS}, {}, 0.0)
        assert "weight  10 %" in shown


def test_a_refusal_is_shown_though_a_run_goes_on() -> None:
    shown = render({"metadata": METADATA, "status": STATUS}, {}, 0.0)
    assert "InvalidSpec: spec.plan: change it\nStepping: 4 s left" in shown
