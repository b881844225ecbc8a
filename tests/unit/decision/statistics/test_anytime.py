"""E-values that hold at any time: printed vectors, exact properties, and what Ville's inequality promises."""

from __future__ import annotations

from math import exp, inf, log

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kanarya.decision.statistics.anytime import (
    JEFFREYS,
    Prior,
    anytime_p,
    complement,
    informative,
    log_e_above,
    log_e_at_most,
    log_e_below,
    lower_bound,
    upper_bound,
)

LIMITS = st.sampled_from([1e-6, 0.001, 0.01, 0.02, 0.05, 0.1, 0.3, 0.5, 0.9])
PRIORS = st.sampled_from(["jeffreys", "informative"])


def prior_of(name: str, p0: float) -> Prior:
    return JEFFREYS if name == "jeffreys" else informative(p0)


@st.composite
def counts(draw: st.DrawFn, most: float = 2000.0) -> tuple[float, float]:
    total = draw(st.floats(0, most))
    return total * draw(st.floats(0, 1)), total


@pytest.mark.parametrize(
    ("bad", "total", "p0", "above", "prior", "expected"),
    [
        (20, 500, 0.02, True, JEFFREYS, 0.722820),
        (60, 600, 0.05, True, JEFFREYS, 9.122343),
        (5, 1000, 0.02, False, JEFFREYS, 6.898839),
        (0, 300, 0.02, False, JEFFREYS, 5.039880),
        (20, 500, 0.02, True, Prior(2, 98), 3.081761),
        (5, 1000, 0.02, False, Prior(2, 98), 6.950648),
        (60, 600, 0.05, True, Prior(5, 95), 10.459583),
    ],
)
def test_printed_vectors(bad: float, total: float, p0: float, above: bool, prior: Prior, expected: float) -> None:
    log_e = log_e_above if above else log_e_below
    assert log_e(bad, total, p0, prior) == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize(
    ("bad", "total", "p0", "above", "prior", "expected"),
    [  # by numerical integration with 40 digits
        (20.5, 500.25, 0.02, True, Prior(2, 98), 3.385461197286465),
        (30, 30, 0.02, True, JEFFREYS, 115.17823835240506),
        (190, 1e4, 0.02, True, JEFFREYS, -5.907370884289304),
        (21_000, 1e6, 0.02, True, JEFFREYS, 18.064954822600274),
        (3, 1e6, 1e-6, True, Prior(1e-4, 99.9999), -0.547413878099173),
        (0, 1e7, 1e-6, False, JEFFREYS, 8.727922292500445),
        (2_004_000, 1e8, 0.02, True, JEFFREYS, -5.264628869608168),
        (20_010_000, 1e9, 0.02, True, JEFFREYS, -7.954167442457433),
        (19_990_000, 1e9, 0.02, False, Prior(2, 98), -5.035237192907478),
    ],
)
def test_fractions_rare_events_and_a_billion_requests(
    bad: float, total: float, p0: float, above: bool, prior: Prior, expected: float
) -> None:
    log_e = log_e_above if above else log_e_below
    assert log_e(bad, total, p0, prior) == pytest.approx(expected, abs=1e-4 if total > 1e7 else 1e-7)


@pytest.mark.parametrize(
    ("bad", "total", "lower", "upper"), [(5, 1000, 0.000541, 0.014338), (20, 500, 0.016303, 0.072261), (60, 600, 0.062267, 0.143225)]
)
def test_printed_bounds(bad: float, total: float, lower: float, upper: float) -> None:
    assert lower_bound(bad, total, 0.05) == pytest.approx(lower, abs=5e-7)
    assert upper_bound(bad, total, 0.05) == pytest.approx(upper, abs=5e-7)


@pytest.mark.parametrize(("limit", "expected"), [(0.05, (188, 74, 36)), (0.01, (277, 109, 53))])
def test_requests_without_a_bad_one_that_prove_a_limit(limit: float, expected: tuple[int, int, int]) -> None:
    proved = [next(n for n in range(1, 999) if log_e_below(0, n, p0, JEFFREYS) >= -log(limit)) for p0 in (0.02, 0.05, 0.1)]
    assert tuple(proved) == expected


@settings(deadline=None)
@given(counts(), LIMITS, PRIORS)
def test_nothing_seen_is_no_evidence_and_every_answer_is_a_number_or_nothing(seen: tuple[float, float], p0: float, name: str) -> None:
    prior = prior_of(name, p0)
    for log_e in (log_e_above, log_e_below):
        assert log_e(0, 0, p0, prior) == pytest.approx(0, abs=1e-9)
        assert log_e(*seen, p0, prior) < inf


@settings(deadline=None)
@given(counts(200), LIMITS, PRIORS)
def test_on_average_the_next_request_adds_nothing_at_the_limit_and_takes_away_beyond_it(
    seen: tuple[float, float], p0: float, name: str
) -> None:
    prior, (bad, total) = prior_of(name, p0), seen
    for log_e, rates in ((log_e_above, (p0, p0 / 2, 0.0)), (log_e_below, (p0, (1 + p0) / 2, 1.0))):
        here = log_e(bad, total, p0, prior)
        assume(here > -inf)
        up, down = exp(log_e(bad + 1, total + 1, p0, prior) - here), exp(log_e(bad, total + 1, p0, prior) - here)
        means = [rate * up + (1 - rate) * down for rate in rates]
        assert means[0] == pytest.approx(1, rel=1e-6)
        assert max(means) <= 1 + 1e-6


@settings(deadline=None)
@given(counts(), LIMITS, PRIORS)
def test_a_bad_request_more_is_evidence_of_above_and_against_below(seen: tuple[float, float], p0: float, name: str) -> None:
    prior, (bad, total) = prior_of(name, p0), seen
    assert log_e_above(bad + 1, total + 1, p0, prior) >= log_e_above(bad, total + 1, p0, prior) - 1e-9
    assert log_e_below(bad + 1, total + 1, p0, prior) <= log_e_below(bad, total + 1, p0, prior) + 1e-9


@settings(deadline=None)
@given(counts(), LIMITS, PRIORS)
def test_no_evidence_is_more_than_the_likelihood_ratio_of_the_rate_seen(seen: tuple[float, float], p0: float, name: str) -> None:
    (bad, total), prior = seen, prior_of(name, p0)
    there, other = (log_e_above, log_e_below) if bad > p0 * total else (log_e_below, log_e_above)
    assert there(bad, total, p0, prior) <= log_e_at_most(bad, total, p0) + 1e-6
    assert other(bad, total, p0, prior) <= 1e-6


@settings(deadline=None)
@given(counts(), PRIORS, st.sampled_from([(0.01, 0.02), (0.02, 0.03), (0.05, 0.5)]))
def test_a_stricter_limit_is_passed_no_later(seen: tuple[float, float], name: str, limits: tuple[float, float]) -> None:
    strict, lax = limits
    assert log_e_above(*seen, strict, JEFFREYS) >= log_e_above(*seen, lax, JEFFREYS) - 1e-9
    assert log_e_below(*seen, strict, JEFFREYS) <= log_e_below(*seen, lax, JEFFREYS) + 1e-9


@settings(deadline=None)
@given(counts(300), st.sampled_from([0.001, 0.01, 0.05, 0.2]))
def test_bounds_hold_the_rate_seen_and_are_where_the_evidence_passes(seen: tuple[float, float], alpha: float) -> None:
    bad, total = seen
    assume(1 < bad < total - 1)
    lower, upper = lower_bound(bad, total, alpha), upper_bound(bad, total, alpha)
    assert 0 <= lower <= bad / total <= upper <= 1
    assert log_e_above(bad, total, lower, JEFFREYS) == pytest.approx(-log(alpha), abs=1e-4)
    assert log_e_below(bad, total, upper, JEFFREYS) == pytest.approx(-log(alpha), abs=1e-4)
    assert lower_bound(bad, total, alpha / 2) <= lower
    assert upper_bound(bad, total, alpha / 2) >= upper


def test_bounds_at_the_ends_and_among_a_billion() -> None:
    assert lower_bound(0, 300, 0.05) == 0
    assert upper_bound(300, 300, 0.05) == 1
    assert 0 < lower_bound(1, 1e9, 0.05) < 1e-9 < upper_bound(1, 1e9, 0.05) < 1e-8


def chance_of_ever_passing(p0: float, alpha: float, prior: Prior, looks: int, *, above: bool) -> float:
    """Give the exact probability, at the limit itself, that the evidence passes 1/alpha at any of the first looks."""
    log_e, alive, passed = (log_e_above if above else log_e_below), {0: 1.0}, 0.0
    for n in range(1, looks + 1):
        following: dict[int, float] = {}
        for bad, chance in alive.items():
            following[bad] = following.get(bad, 0.0) + chance * (1 - p0)
            following[bad + 1] = following.get(bad + 1, 0.0) + chance * p0
        alive = {bad: chance for bad, chance in following.items() if chance > 1e-12}
        over = [bad for bad in alive if log_e(bad, n, p0, prior) >= -log(alpha)]
        passed += sum(alive.pop(bad) for bad in over)
    return passed


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize(("name", "p0"), [("jeffreys", 0.1), ("informative", 0.1), ("jeffreys", 0.5)])
def test_looking_after_every_request_is_wrong_no_more_often_than_promised(name: str, p0: float, above: bool) -> None:
    assert 0.005 < chance_of_ever_passing(p0, 0.05, prior_of(name, p0), 250, above=above) <= 0.05


@pytest.mark.parametrize(("log_e", "p"), [(-inf, 1.0), (-3.0, 1.0), (0.0, 1.0), (log(20), 0.05), (2000.0, 0.0)])
def test_anytime_p(log_e: float, p: float) -> None:
    assert anytime_p(log_e) == pytest.approx(p)


@pytest.mark.parametrize(
    ("bad", "total", "p0"), [(-1, 5, 0.1), (6, 5, 0.1), (1, inf, 0.1), (float("nan"), 5, 0.1), (1, 5, 0.0), (1, 5, 1.0)]
)
def test_what_is_no_rate(bad: float, total: float, p0: float) -> None:
    with pytest.raises(ValueError, match="no rate"):
        log_e_above(bad, total, p0, JEFFREYS)


@pytest.mark.parametrize(("share", "rest"), [(0.95, 0.05), (0.99, 0.01), (0.9, 0.1), (0.999, 0.001), (1e-7, 0.9999999)])
def test_the_rest_of_a_share_is_what_people_would_write(share: float, rest: float) -> None:
    assert complement(share) == rest
