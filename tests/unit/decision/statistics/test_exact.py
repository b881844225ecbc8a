"""Bounds at one look: printed vectors and exact coverage."""

from __future__ import annotations

from math import comb

import pytest

from kanarya.decision.statistics.exact import lower_bound, upper_bound


@pytest.mark.parametrize(
    ("bad", "total", "lower", "upper"),
    [
        (0, 300, 0.0, 0.009936),
        (5, 1000, 0.001972, 0.010484),
        (20, 500, 0.026664, 0.057596),
        (60, 600, 0.080520, 0.122471),
        (7, 7, 0.651836, 1),
    ],
)
def test_printed_vectors(bad: float, total: float, lower: float, upper: float) -> None:
    assert lower_bound(bad, total, 0.05) == pytest.approx(lower, abs=5e-7)
    assert upper_bound(bad, total, 0.05) == pytest.approx(upper, abs=5e-7)


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_a_bound_misses_the_rate_no_more_often_than_promised(rate: float) -> None:
    chances = [comb(60, bad) * rate**bad * (1 - rate) ** (60 - bad) for bad in range(61)]
    assert sum(chance for bad, chance in enumerate(chances) if lower_bound(bad, 60, 0.05) > rate) <= 0.05
    assert sum(chance for bad, chance in enumerate(chances) if upper_bound(bad, 60, 0.05) < rate) <= 0.05


@pytest.mark.parametrize(("bad", "total"), [(-1, 5), (6, 5)])
def test_what_is_no_rate(bad: float, total: float) -> None:
    for bound in (lower_bound, upper_bound):
        with pytest.raises(ValueError, match="no rate"):
            bound(bad, total, 0.05)
