"""The design effect: by hand, against the textbook formula, and on drawn bursts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kanarya.decision.statistics.dispersion import ASSUMED_ICC, ASSUMED_SCRAPES, Dispersion, design_effect

SCRAPES = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 200)), max_size=40)


def summed(scrapes: list[tuple[float, float]]) -> Dispersion:
    dispersion = Dispersion()
    for bad, total in scrapes:
        dispersion = dispersion.seen(bad, total)
    return dispersion


def drawn(icc: float, *, size: int = 20, rate: float = 0.05, scrapes: int = 3000) -> Dispersion:
    rng = np.random.default_rng(5)
    strength = 1 / icc - 1 if icc else 0.0
    rates = rng.beta(rate * strength, (1 - rate) * strength, scrapes) if icc else np.full(scrapes, rate)
    return summed([(float(bad), float(size)) for bad in rng.binomial(size, rates)])


def test_by_hand() -> None:
    # p = 0.1; each scrape differs from 1 by 1: chi2 = 20 x 1/0.9, over 19. Assumed: 1 + 9 x 0.1, as if seen in 30 scrapes
    alternating, shown = summed([(0, 10), (2, 10)] * 10), 20 / 0.9 / 19
    weight = 19 / shown**2
    assert design_effect(alternating, 10) == pytest.approx(1 + (30 * 0.9 + weight * (shown - 1)) / (30 + weight))


@settings(deadline=None)
@given(SCRAPES)
def test_the_sums_give_pearsons_statistic(scrapes: list[tuple[int, int]]) -> None:
    rows = [(float(min(bad, total)), float(total)) for bad, total in scrapes if total]
    bad, total = sum(b for b, _ in rows), sum(n for _, n in rows)
    size = total / len(rows) if rows else 1.0
    expected, weight = 0.0, max(len(rows) - 1, 0)
    if weight and 0 < bad < total:
        p = bad / total
        expected = sum((b - n * p) ** 2 / (n * p * (1 - p)) for b, n in rows) / weight - 1
    assumed, precise = min((size - 1) * ASSUMED_ICC, 11), weight / max(1 + expected, 1) ** 2
    blended = 1 + (assumed * ASSUMED_SCRAPES + expected * precise) / (ASSUMED_SCRAPES + precise)
    assert design_effect(summed([(float(b), float(n)) for b, n in scrapes]), size) == pytest.approx(min(max(blended, 1), 12))


@settings(deadline=None)
@given(SCRAPES, SCRAPES)
def test_sums_add_up(left: list[tuple[float, float]], right: list[tuple[float, float]]) -> None:
    both, added = summed(left + right), summed(left) + summed(right)
    assert (both.scrapes, both.bad, both.total) == (added.scrapes, added.bad, added.total)
    assert both.squares == pytest.approx(added.squares)


@pytest.mark.parametrize(("icc", "expected"), [(0.0, 1.0), (0.02, 1.38), (0.05, 1.95), (0.1, 2.9), (0.5, 10.5), (0.9, 12.0)])
def test_bursts_of_known_strength(icc: float, expected: float) -> None:
    assert design_effect(drawn(icc, scrapes=30_000), 20) == pytest.approx(expected, rel=0.12)


def test_small_scrapes_bunch_less_and_large_ones_no_more() -> None:
    bursts = drawn(0.1, scrapes=30_000)
    assert design_effect(bursts, 2) == pytest.approx(1.1, abs=0.03)
    assert design_effect(bursts, 0.3) == 1
    assert design_effect(bursts, 500) == pytest.approx(design_effect(bursts, 20), rel=0.06)  # more is assumed of it


@pytest.mark.parametrize(("per_scrape", "expected"), [(0, 1), (1, 1), (11, 2), (21, 3), (101, 11), (500, 12)])
def test_before_anything_is_learned_some_correlation_is_assumed(per_scrape: float, expected: float) -> None:
    assert design_effect(Dispersion(), per_scrape) == pytest.approx(expected)
    assert design_effect(summed([(7, 10)]), per_scrape) == pytest.approx(expected)


@pytest.mark.parametrize("bad", [0, 10])
def test_scrapes_that_were_all_alike_had_no_bursts(bad: float) -> None:
    assert design_effect(summed([(bad, 10)] * 91), 11) == pytest.approx(1 + 30 / 120)


def test_one_outage_among_calm_looks_does_not_tell_how_bunched_failures_are() -> None:
    # 40 calm scrapes and one of an outage: by chi-square alone the most there may be.
    outage = summed([*[(0.0, 20.0), (1.0, 20.0)] * 20, (20.0, 20.0)])
    assert design_effect(outage, 20) == pytest.approx(2.9, abs=0.15)
