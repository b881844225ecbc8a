"""The candidate against stable on bad events alone: printed vectors, and storms that hit both."""

from __future__ import annotations

from math import inf, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kanarya.decision.statistics.conditional import log_e_discordant, log_e_worse


def worse(bad: float, stable_bad: float, share: float = 0.1, ratio: float = 1.0) -> float:
    return log_e_worse(candidate_bad=bad, candidate_total=share * 1e4, stable_bad=stable_bad, stable_total=(1 - share) * 1e4, ratio=ratio)


@pytest.mark.parametrize(("bad", "stable_bad", "expected"), [(30, 70, 13.555848), (12, 88, -0.555409)])
def test_printed_vectors(bad: float, stable_bad: float, expected: float) -> None:
    assert worse(bad, stable_bad) == pytest.approx(expected, abs=5e-7)


def test_a_track_without_requests_proves_nothing() -> None:
    assert log_e_worse(candidate_bad=0, candidate_total=0, stable_bad=5, stable_total=10) == -inf
    assert log_e_worse(candidate_bad=5, candidate_total=10, stable_bad=0, stable_total=0) == -inf


def test_pairs_are_halves() -> None:
    even = log_e_worse(candidate_bad=30, candidate_total=500, stable_bad=10, stable_total=500)
    assert log_e_discordant(only_candidate_bad=30, only_stable_bad=10) == pytest.approx(even)
    assert log_e_discordant(only_candidate_bad=0, only_stable_bad=0) == pytest.approx(0)


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300), st.floats(0.01, 0.99))
def test_more_of_the_candidates_is_worse_and_a_larger_allowance_milder(bad: int, stable_bad: int, share: float) -> None:
    here = worse(bad, stable_bad, share)
    assert worse(bad + 1, stable_bad, share) >= here - 1e-9
    assert worse(bad, stable_bad + 1, share) <= here + 1e-9


def test_a_storm_that_hits_both_alike_is_no_evidence_whatever_it_does() -> None:
    rng, runs, wrong = np.random.default_rng(11), 400, 0
    for _ in range(runs):
        rates = rng.uniform(0, 0.6, 30)  # every scrape its own weather
        bad, stable_bad = np.cumsum(rng.binomial(20, rates)), np.cumsum(rng.binomial(80, rates))
        looks = zip(bad, stable_bad, np.arange(1, 31), strict=True)
        wrong += any(
            log_e_worse(candidate_bad=float(b), candidate_total=20.0 * k, stable_bad=float(s), stable_total=80.0 * k) >= log(20)
            for b, s, k in looks
        )
    assert wrong / runs <= 0.05


def test_a_candidate_twice_as_bad_is_found_in_the_same_weather() -> None:
    rng = np.random.default_rng(12)
    rates = rng.uniform(0, 0.4, 30)
    found = log_e_worse(
        candidate_bad=float(rng.binomial(20, 2 * rates).sum()),
        candidate_total=600,
        stable_bad=float(rng.binomial(80, rates).sum()),
        stable_total=2400,
    )
    assert found > log(1000)
