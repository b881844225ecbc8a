"""What the rules promise, on random requests: few runs and fixed seeds, each bound with room for chance."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from kanarya.decision import sequential
from kanarya.decision.sequential import Alphas
from kanarya.decision.statistics.dispersion import Dispersion
from kanarya.decision.verdict import Kind
from tests.unit.decision.statistics.streams import AT_ABORT, AT_SLO, FINE, Metric, Plan, Rates, Step, draw, play, until_bad

pytestmark = pytest.mark.slow

QUICK = Plan(metrics=("errors",), look_seconds=30.0)


@pytest.fixture(autouse=True)
def _without_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many requests are still needed costs most of the time and changes no verdict."""
    monkeypatch.setattr(sequential, "_needed", lambda *_args, **_more: 0.0)


def share_called_bad(metric: Metric, *, icc: float, divide: bool, runs: int, alpha: float) -> float:
    """Give the share of steps, exactly at the abort limit for 60 looks of 20 requests, that are called bad with so large an alpha."""
    rng, plan, called = np.random.default_rng(21), Plan(per_second=2.0, icc=icc), 0
    for _ in range(runs):
        step, bursts = Step(metric, Alphas(bad=alpha, good=0.05)), Dispersion()
        looks = draw(rng, plan, 0.5, AT_ABORT[metric], AT_SLO[metric].abort)
        for number in range(1, 61):
            seen = next(looks)
            if step.look(seen, bursts if divide else None, number * 10.0).verdict.kind is Kind.BAD:
                called += 1
                break
            bursts = bursts.seen(seen.stable_bad, seen.stable)
    return called / runs


def test_a_rate_at_the_limit_is_called_bad_no_more_often_than_promised() -> None:
    runs, alpha = 80, 0.2
    share = share_called_bad("match", icc=0.0, divide=False, runs=runs, alpha=alpha)
    assert 0 < share <= alpha + 3 * sqrt(alpha * (1 - alpha) / runs)


def test_bursts_break_the_promise_and_the_design_effect_keeps_it() -> None:
    runs, alpha = 60, 0.05
    allowed = alpha + 3 * sqrt(alpha * (1 - alpha) / runs)
    assert share_called_bad("errors", icc=0.1, divide=False, runs=runs, alpha=alpha) > allowed
    assert share_called_bad("errors", icc=0.1, divide=True, runs=runs, alpha=alpha) <= allowed


def test_a_candidate_at_slo_is_promoted() -> None:
    rng = np.random.default_rng(22)
    assert {play(rng, QUICK, lambda metric, step: AT_SLO[metric]).ending for _ in range(8)} == {"Promoted"}


@pytest.mark.parametrize("bad_from", [0, 4])
def test_a_candidate_at_abort_is_not_even_when_it_turns_so_late(bad_from: int) -> None:
    rng = np.random.default_rng(23)
    endings = {play(rng, QUICK, lambda metric, step: (AT_ABORT if step >= bad_from else FINE)[metric]).ending for _ in range(8)}
    assert endings <= {"RolledBack", "HeldTooLong"}


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_a_fault_from_the_middle_of_a_step_is_noticed_in_twice_the_requests_of_one_from_its_start(rate: float) -> None:
    rng = np.random.default_rng(24)
    start, middle = (
        np.median([until_bad(rng, Plan(metrics=("errors",)), "errors", Rates(rate), looks_before=looks) for _ in range(15)])
        for looks in (0, 90)
    )
    assert middle <= 2 * start


def test_the_worse_the_sooner() -> None:
    rng = np.random.default_rng(25)
    medians = [np.median([until_bad(rng, Plan(look_seconds=1.0), "errors", Rates(rate)) for _ in range(15)]) for rate in (0.1, 0.5, 1.0)]
    assert medians[0] < 320
    assert medians[1] < 25
    assert medians[2] <= 8
