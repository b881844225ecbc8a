"""Drift by bounds: what is shown, what is not yet, and how often that is wrong when looked at again and again."""

from __future__ import annotations

from math import floor, log

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kanarya.api.rollout import Analysis, DriftLimits
from kanarya.decision.counts import Counts, Drift
from kanarya.decision.drift import GROWTH, SCORE, judge_drift
from kanarya.decision.judge import Standard, judge
from kanarya.decision.sequential import MOST_NEEDED, Alphas
from kanarya.decision.statistics.psi import Bounds, bounds, psi
from kanarya.decision.verdict import Kind, Verdict

pytestmark = pytest.mark.slow

EVEN = (*[1000.0] * 10, 0.0)
RISING = (30.0, 50.0, 70.0, 80.0, 100.0, 120.0, 140.0, 150.0, 140.0, 120.0, 0.0)
"""PSI 0.186 against EVEN."""
ALPHAS = Alphas(bad=0.01, good=0.05)


def times(bins: tuple[float, ...], factor: float) -> tuple[float, ...]:
    return tuple(count * factor for count in bins)


def drift_of(alphas: Alphas | None, limits: DriftLimits | None, current: dict[str, tuple[float, ...]]) -> Verdict:
    reference = dict.fromkeys(current, EVEN)
    return judge_drift(limits or DriftLimits(), Drift(current, reference), min_samples=1, elapsed=10, alphas=alphas)


def test_a_psi_near_its_limit_is_undecided_until_more_is_known() -> None:
    near = drift_of(ALPHAS, DriftLimits(overall=0.25), {"spread_bp": RISING})
    assert (near.kind, near.reason) == (Kind.INSUFFICIENT, "DriftUndecided")
    assert "spread_bp: bin 0 has 3 % instead of 10 %" in near.detail
    assert near.need > near.have
    assert near.eta_seconds == pytest.approx((near.need - near.have) * 10 / near.have)
    assert drift_of(None, DriftLimits(overall=0.25), {"spread_bp": RISING}).kind is Kind.GOOD


@pytest.mark.parametrize(("limit", "kind"), [(0.3, Kind.GOOD), (0.1, Kind.BAD)])
def test_what_it_needs_is_what_decides(limit: float, kind: Kind) -> None:
    limits = DriftLimits(overall=limit, per_feature=limit + 0.1)
    few = drift_of(ALPHAS, limits, {"spread_bp": times(RISING, 0.15)})
    assert (few.kind, few.reason) == (Kind.INSUFFICIENT, "DriftUndecided")
    enough = few.need / few.have
    # The sampled PSI of later counts is smaller by the noise that they do not have.
    assert drift_of(ALPHAS, limits, {"spread_bp": times(RISING, 0.15 * enough * 2)}).kind is kind


def test_exactly_at_the_limit_nothing_is_ever_enough() -> None:
    many = times(RISING, 1000)
    known = drift_of(None, None, {"spread_bp": many}).estimate
    assert known is not None
    found = drift_of(ALPHAS, DriftLimits(overall=known, per_feature=1), {"spread_bp": many})
    assert (found.kind, found.need, found.eta_seconds) == (Kind.INSUFFICIENT, MOST_NEEDED, None)


ROWS = st.lists(st.floats(0, 200), min_size=10, max_size=10).map(lambda row: (*row, 0.0))


@settings(deadline=None, max_examples=100)
@given(st.lists(ROWS, min_size=1, max_size=4), ROWS, st.floats(0.01, 1), st.floats(0.01, 1))
def test_the_verdict_is_what_the_bounds_say(
    rows: list[tuple[float, ...]], score: tuple[float, ...], overall: float, per_feature: float
) -> None:
    limits = DriftLimits(overall=overall, per_feature=per_feature)
    current = {SCORE: score, **{f"x{index}": row for index, row in enumerate(rows)}}
    found = drift_of(ALPHAS, limits, current)
    fewest = min(map(sum, current.values()))
    assume(fewest >= 110)
    number = 1 + floor(log(fewest / 110) / log(GROWTH))

    def bound(name: str, alpha: float) -> Bounds:
        row, bins = current[name], max(2, sum(1 for pair in zip(EVEN, current[name], strict=True) if any(pair)))
        return bounds(psi(EVEN, row), reference=sum(EVEN), current=sum(row), bins=bins, alpha=alpha / (number * (number + 1)))

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    names, features = list(current), [name for name in current if name != SCORE]
    lower = {name: bound(name, ALPHAS.bad / len(names)).lower for name in names}
    bad = max(lower.values()) > per_feature or mean([lower[name] for name in features]) > overall
    alone, together = ({name: bound(name, ALPHAS.good / share).upper for name in names} for share in (1, len(features)))
    passes = max(alone.values()) < per_feature and mean([together[name] for name in features]) < overall
    assert found.kind is (Kind.BAD if bad else Kind.GOOD if passes else Kind.INSUFFICIENT)
    reference = dict.fromkeys(current, EVEN)
    untold = judge_drift(limits, Drift(current, reference), min_samples=1, elapsed=10, alphas=ALPHAS, forecast=False)
    assert (untold.kind, untold.reason) == (found.kind, found.reason)


def test_one_feature_beyond_its_own_limit_is_enough() -> None:
    gone = (*[0.0] * 9, 1000.0, 0.0)
    calm = {f"calm{index}": times(EVEN, 0.1) for index in range(40)}
    found = drift_of(ALPHAS, None, {**calm, "gone": gone})
    assert found.kind is Kind.BAD
    assert found.estimate is not None
    assert found.estimate < DriftLimits().overall
    assert "gone: bin 9 has 100 % instead of 10 %" in found.detail


@pytest.mark.parametrize("alphas", [ALPHAS, None])
def test_the_score_is_held_to_its_own_limit_and_left_out_of_the_mean(alphas: Alphas | None) -> None:
    moved = times(RISING, 20)
    limits = DriftLimits(overall=0.05, per_feature=0.3)
    assert drift_of(alphas, limits, {"spread_bp": EVEN, SCORE: moved}).kind is Kind.GOOD
    assert drift_of(alphas, limits, {"spread_bp": moved, SCORE: EVEN}).kind is Kind.BAD
    strict = DriftLimits(overall=0.05, per_feature=0.1)
    assert drift_of(alphas, strict, {"spread_bp": EVEN, SCORE: moved}).kind is Kind.BAD


def test_a_bin_in_which_nothing_ever_falls_adds_no_noise() -> None:
    eleven = drift_of(ALPHAS, None, {"spread_bp": RISING})
    reference = {"spread_bp": EVEN[:10]}
    ten = judge_drift(DriftLimits(), Drift({"spread_bp": RISING[:10]}, reference), min_samples=1, elapsed=10, alphas=ALPHAS)
    # The half count in the empty bin is all that differs: 0.002.
    assert eleven.estimate == pytest.approx(ten.estimate, abs=0.003)
    assert eleven.need == pytest.approx(ten.need, rel=0.1)


def test_threshold_compares_as_counted_and_sequential_by_bounds() -> None:
    drift = Drift({"spread_bp": RISING}, {"spread_bp": EVEN})

    def kind(method: str, *, last: bool = False) -> Kind:
        standard = Standard(Analysis.model_validate({"method": method}), last=last)
        counts = Counts(stable=Counts().stable)
        return judge(standard, counts, drift, {}, elapsed=10, run_elapsed=10, settled=False).verdicts["drift"].kind

    assert kind("Threshold") is Kind.GOOD
    assert kind("Sequential") is Kind.INSUFFICIENT


def tilted(target: float) -> np.ndarray:
    """Ten bins whose true PSI against even ones is `target`."""
    low, high = 0.0, 3.0
    for _ in range(60):
        slope = (low + high) / 2
        shares = np.exp(slope * np.linspace(-1, 1, 10))
        shares /= shares.sum()
        reached = float(np.sum((shares - 0.1) * np.log(shares / 0.1)))
        low, high = (slope, high) if reached < target else (low, slope)
    return shares


@pytest.mark.parametrize("true_psi", [0.2, 0.0])
def test_looking_forty_times_is_wrong_no_more_often_than_promised(true_psi: float) -> None:
    rng = np.random.default_rng(11)
    shares, runs = tilted(true_psi), 150
    wrong = dict.fromkeys((Kind.GOOD, Kind.BAD), 0)
    for _ in range(runs):
        reference = (*map(float, rng.multinomial(20_000, np.full(10, 0.1))), 0.0)
        looks = np.cumsum(rng.multinomial(60, shares, size=40), axis=0)
        verdicts = [
            judge_drift(DriftLimits(), Drift({"f": (*map(float, row), 0.0)}, {"f": reference}), min_samples=1, elapsed=10, alphas=ALPHAS)
            for row in looks
        ]
        for kind in wrong:
            wrong[kind] += any(verdict.kind is kind for verdict in verdicts)

    def most(alpha: float) -> float:
        """Of runs at exactly alpha, 99.9 % have no more."""
        return float(runs * alpha + 3.1 * (runs * alpha * (1 - alpha)) ** 0.5 + 1)

    assert wrong[Kind.BAD] <= most(ALPHAS.bad)
    assert wrong[Kind.GOOD] <= most(ALPHAS.good) if true_psi else wrong[Kind.GOOD] == runs


def test_no_drift_passes_and_much_drift_fails_within_a_few_hundred_requests() -> None:
    rng = np.random.default_rng(12)
    for true_psi, kind in ((0.0, Kind.GOOD), (0.8, Kind.BAD)):
        sample = (*map(float, rng.multinomial(300, tilted(true_psi))), 0.0)
        assert drift_of(ALPHAS, None, {"spread_bp": sample}).kind is kind
