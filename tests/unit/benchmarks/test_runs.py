from __future__ import annotations

import json

import pytest

from benchmarks.runs import Reaction, first_bad, last_sent, rate, report

ANSWERS = [
    [1.0, "v1", "stable", 200, 5.0],
    [1.5, "v2", "candidate", 200, 5.0],
    [2.5, "v2", "candidate", 200, 900.0],
    [2.0, "v2", "candidate", 500, 5.0],
    [3.0, "v2", "stable", 500, 5.0],
    [4.0, "v2", "candidate", 200, 1500.0],
]


def reaction(**changes: float) -> Reaction:
    moments = {
        "bad": 100.0,
        "visible": 104.0,
        "verdict": 107.0,
        "zero": 107.02,
        "last": 107.1,
        "rate": 24.6,
        "load_average": 0.5,
        **changes,
    }
    return Reaction("errors", "abc-1", **moments)


def test_the_first_bad_answer_is_an_error_or_a_slow_one_of_the_candidate() -> None:
    assert first_bad(ANSWERS, "v2", 0.0, 500) == 2.0
    assert first_bad(ANSWERS, "v2", 2.1, 500) == 2.5
    assert first_bad(ANSWERS, "v2", 2.1, 1000) == 4.0
    assert first_bad(ANSWERS, "v1", 0.0, 500) is None


def test_the_last_request_is_dated_by_when_it_was_sent() -> None:
    assert last_sent(ANSWERS, "v2", 0.0) == 2.5
    assert last_sent(ANSWERS, "v3", 0.0) is None


def test_the_rate_counts_what_the_candidate_answered() -> None:
    assert rate(ANSWERS, "v2", 1.0, 3.0) == 1.5


def test_the_parts_of_a_reaction_add_up() -> None:
    run = reaction()
    assert sum(run.parts.values()) == pytest.approx(run.zero - run.bad)
    assert run.as_json()["badToLastRequest"] == pytest.approx(7.1)
    json.dumps(run.as_json())


def test_the_table_has_a_line_for_each_kind() -> None:
    slow = Reaction("latency", "abc-2", 100.0, 101.0, 102.0, 102.01, 102.1, 25.0, 0.7)
    heading, _, erroring, slowed = report([reaction(), slow, reaction(verdict=105.0, zero=105.1)]).splitlines()
    assert heading.count("|") == erroring.count("|")
    assert "| erroring | 2 | 5.10 / 6.06 / 7.02 |" in erroring
    assert "| slow | 1 |" in slowed
    assert "66 % / 33 % / 1 %" in erroring
