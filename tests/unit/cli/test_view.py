"""A rollout on the terminal, letter by letter."""

from __future__ import annotations

from typing import Any

import pytest

from kanarya.cli.view import render
from kanarya.decision.sequential import MOST_NEEDED

METADATA = {"namespace": "shop", "name": "fraud"}
LONG_AGO = {"finished": "2026-01-02T03:04:05Z", "version": "v1.7.0", "reason": "Promoted", "outcome": "Succeeded"}
RUN = {"id": "bbb-1", "revision": "bbb", "version": "v1.8.1", "step": 2, "steps": 5, "weight": 10}


def rollout(**status: Any) -> dict[str, Any]:
    return {"metadata": METADATA, "status": status}


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def test_one_that_nobody_has_looked_at() -> None:
    assert lines(render({"metadata": METADATA}, {}, 0.0)) == ["shop/fraud   Unknown", "stable -"]


def test_one_that_is_idle_shows_its_last_three_releases() -> None:
    history = [{**LONG_AGO, "run": f"aaa-{number}"} for number in range(5)]
    shown = render(rollout(summary="Succeeded", reason="Idle", stable={"revision": "aaa", "version": "v1.7.0"}, history=history), {}, 0.0)
    assert lines(shown) == [
        "shop/fraud   Succeeded   Idle",
        "stable v1.7.0",
        *(f"  2026-01-02T03:04:05Z  aaa-{number}  v1.7.0  Succeeded  Promoted" for number in (2, 3, 4)),
    ]


def test_one_with_a_run_and_live_numbers() -> None:
    limits = {"slo": 0.01, "abort": 0.02, "have": 1200.4, "need": 100}
    live = {
        "reason": "ErrorsAboveSlo",
        "message": "errors: Within",
        "newestSample": 97.4,
        "verdicts": {
            "drift": {
                "verdict": "Good",
                "reason": "DriftWithinLimit",
                "estimate": 0.0123,
                "slo": 0.2,
                "abort": 0.3,
                "have": 900,
                "need": 110,
            },
            "errors": {"verdict": "Within", "reason": "ErrorsAboveSlo", "estimate": 0.0151, **limits},
            "latency": {"verdict": "Insufficient", "reason": "TooFewSamples", "slo": 0.05, "abort": 0.05, "have": 40, "need": 100},
            "match": {"verdict": "NoData", "reason": "MirrorBreakerOpen"},
        },
    }
    status = rollout(summary="Progressing", reason="ErrorsAboveSlo", stable={"revision": "aaa", "version": "v1.7.0"}, run=RUN, history=None)
    assert lines(render(status, live, 100.0)) == [
        "shop/fraud   Progressing   ErrorsAboveSlo",
        "stable v1.7.0   candidate v1.8.1",
        "weight  10 %  [####....................................]  step 2 of 5",
        "  errors      1.51 % failed   limits 1 %/2 %     Within       ErrorsAboveSlo      1200 requests",
        "  latency          - too slow limits 5 %/5 %     Insufficient TooFewSamples       40 of 100",
        "  match            - the same limits -/-         NoData       MirrorBreakerOpen   0 requests",
        "  drift        0.012 PSI      limits 0.2/0.3     Good         DriftWithinLimit    900 requests",
        "ErrorsAboveSlo: errors: Within",
        "newest sample 3 s old",
    ]


def test_where_nobody_can_say_how_many_it_takes_no_number_is_shown() -> None:
    verdict = {"verdict": "Insufficient", "reason": "TooFewSamples", "have": 1500, "need": MOST_NEEDED}
    shown = lines(render(rollout(summary="Progressing", run=RUN, history=None), {"reason": "R", "verdicts": {"errors": verdict}}, 0.0))
    assert [line.split()[-2:] for line in shown if line.startswith("  errors")] == [["1500", "requests"]]


def test_without_live_numbers_the_condition_speaks() -> None:
    conditions = [{"type": "Ready", "reason": "R", "message": "no"}, {"type": "Progressing", "reason": "Stepping", "message": "7 s left"}]
    run = {**RUN, "version": "", "step": 0, "weight": 0}
    shown = lines(render(rollout(summary="Preflight", reason="Stepping", run=run, conditions=conditions), {}, 0.0))
    assert shown == [
        "shop/fraud   Preflight   Stepping",
        "stable -   candidate bbb",
        f"weight   0 %  [{'.' * 40}]  before the first step",
        "Stepping: 7 s left",
    ]


@pytest.mark.parametrize(("weight", "filled"), [(0, 0), (1, 0), (5, 2), (50, 20), (100, 40)])
def test_the_bar_is_as_long_as_the_weight(weight: int, filled: int) -> None:
    shown = render(rollout(run={**RUN, "weight": weight}), {}, 0.0)
    assert f"[{'#' * filled}{'.' * (40 - filled)}]" in shown


def test_a_clock_that_is_behind_shows_no_negative_age() -> None:
    assert "newest sample 0 s old" in render(rollout(), {"newestSample": 100.0}, 50.0)
