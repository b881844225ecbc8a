"""What the demo writes, from documents as the cluster gives them."""

from __future__ import annotations

from typing import Any

import pytest

from examples.demo.text import Harm, Look, basis, brief, clients, clock, frame, harm, table

STATS = {
    "answered": 120,
    "error_count": 5,
    "by_version": {"v1.8.1": {"count": 20}, "v1.8.0": {"count": 95}},
    "latency_ms": {"p95": 12.6},
}


def rollout(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "fraud", "namespace": "demo"}, "status": {"summary": "Progressing", **status}}


def look(stats: dict[str, Any] | None = None, **live: Any) -> Look:
    run = {"id": "abc-1", "version": "v1.8.1", "revision": "abc", "step": 2, "steps": 5, "weight": 10}
    return Look(rollout(run=run, reason="Stepping"), live, STATS if stats is None else stats)


@pytest.mark.parametrize(("seconds", "text"), [(0, " 0:00"), (65.9, " 1:05"), (3600, "60:00"), (-1, " 0:00")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_clients_in_one_line() -> None:
    assert clients(STATS) == "clients   120 answered, 5 errors   by version: v1.8.0 95, v1.8.1 20   p95 13 ms"
    assert clients({"answered": 0, "error_count": 0, "latency_ms": {"p95": None}}).endswith("by version: -")
    assert "does not answer" in clients({})


def test_frame_ends_with_the_clients() -> None:
    text = frame(look(reason="Stepping", message="3 s left", newestSample=98.0), now=100.0)
    assert text.splitlines()[-1].startswith("clients   120 answered")
    assert "step 2 of 5" in text
    assert "newest sample 2 s old" in text


def test_a_compact_line_is_new_for_a_new_verdict_or_error_but_not_for_more_answers() -> None:
    good = {"errors": {"verdict": "Good"}}
    line, key = brief(look(verdicts=good, reason="Stepping"))
    assert "step 2/5 weight  10 %" in line
    assert "errors Good" in line
    assert line.endswith("|  120 answered, 5 errors")
    assert brief(look({**STATS, "answered": 170}, verdicts=good, reason="Stepping"))[1] == key
    assert brief(look({**STATS, "error_count": 3}, verdicts=good, reason="Stepping"))[1] != key
    assert brief(look(verdicts={"errors": {"verdict": "Bad"}}, reason="Stepping"))[1] != key
    assert brief(look({}))[0].endswith("no word of the load")


def test_an_ending_is_new_by_run_and_time() -> None:
    first = {"run": "abc-1", "version": "v1.8.1", "finished": "10:00", "outcome": "Succeeded"}
    again = {**first, "finished": "11:00"}
    other = {**first, "run": "def-1", "version": "v1.8.2", "finished": "12:00"}
    known = Look(rollout(history=[first]), {}, {}).endings()
    assert Look(rollout(history=[first]), {}, {}).ended(known, "v1.8.1") is None
    assert Look(rollout(history=[first, again, other]), {}, {}).ended(known, "v1.8.1") == again
    assert Look({"metadata": {}}, {}, {}).endings() == frozenset()


def test_table_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(("a", "long"), [("wider", "b")]) == "a      long\n-----  ----\nwider  b"


ANSWERS = [
    [10.0, "v1", "stable", 200],
    [11.0, "v2", "candidate", 200],
    [12.0, "v2", "candidate", 500],
    [13.0, "v2", "candidate", 500],
    [14.5, "v2", "candidate", 200],
    [15.0, "v1", "stable", 200],
]


def test_harm_counts_from_the_first_bad_answer_to_weight_0() -> None:
    assert harm(ANSWERS, "v2", [(5.0, 0), (10.5, 5), (14.0, 0)]) == Harm(errors=2, served=4, to_zero=2.0, to_last=2.5)


def test_weight_0_before_the_first_step_is_no_rollback() -> None:
    assert harm(ANSWERS, "v2", [(12.5, 0)]).to_zero is None


def test_harm_in_a_sentence() -> None:
    assert harm(ANSWERS, "v2", [(10.5, 5), (14.0, 0)]).sentence() == (
        "clients saw 2 errors among 4 answers of the candidate; "
        "weight 0 2.0 s after the first bad answer, the candidate's last answer 2.5 s after it"
    )
    assert "weight 0 was not seen" in harm(ANSWERS, "v2", []).sentence()
    assert harm(ANSWERS[:2], "v2", []).sentence() == "no client saw an error: 1 answers of the candidate reached clients, all good"
    assert "mirrored requests" in harm(ANSWERS[:1], "v2", []).sentence()


def test_basis_is_the_last_decision() -> None:
    counts = {"candidate": {"live": {"requests": 3.0, "errors": 1.0}, "mirror": {"requests": 85.0, "errors": 7.0}}}
    entries: list[dict[str, Any]] = [
        {"kind": "RunStarted"},
        {"kind": "Decision", "decision": "Advance", "counts": {}},
        {"kind": "Decision", "decision": "Rollback", "message": "errors: 0.09", "counts": counts},
        {"kind": "RunEnded"},
    ]
    assert basis(entries) == "Rollback (errors: 0.09), on the candidate's live 3 requests with 1 errors, mirrored 85 requests with 7 errors"
    assert basis([]) == ""
