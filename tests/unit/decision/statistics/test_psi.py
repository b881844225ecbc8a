"""Bounds of the PSI: printed vectors, and coverage of the true value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kanarya.decision.statistics.psi import bounds, psi


@pytest.mark.parametrize(("value", "lower", "upper"), [(0.043120, 0.0159, 0.0588), (0.188582, 0.1360, 0.2296)])
def test_printed_vectors(value: float, lower: float, upper: float) -> None:
    found = bounds(value, reference=10_000, current=1000, bins=10, alpha=0.05)
    assert [found.lower, found.upper] == pytest.approx([lower, upper], abs=6e-5)


def test_what_chance_alone_explains_has_no_lower_bound() -> None:
    found = bounds(0.09, reference=1e6, current=100, bins=10, alpha=0.05)
    assert found.lower == pytest.approx(0, abs=1e-12)
    assert found.corrected == pytest.approx(0, abs=1e-3)
    assert bounds(0.25, reference=1e6, current=100, bins=10, alpha=0.05).lower > 0


@settings(deadline=None)
@given(st.floats(0, 5), st.integers(2, 50), st.integers(1, 10**6), st.integers(1, 10**7), st.sampled_from([1e-6, 0.001, 0.05, 0.3]))
def test_bounds_are_in_order_and_finite(value: float, bins: int, current: int, reference: int, alpha: float) -> None:
    found = bounds(value, reference=reference, current=current, bins=bins, alpha=alpha)
    assert 0 <= found.lower <= value + 1e-9
    assert found.lower <= found.upper < float("inf")
    wider = bounds(value, reference=reference, current=current, bins=bins, alpha=alpha / 10)
    assert wider.lower <= found.lower + 1e-9
    assert wider.upper >= found.upper - 1e-9


@settings(deadline=None)
@given(st.floats(0.02, 2), st.sampled_from([400, 4000, 40_000]))
def test_bounds_close_in_as_requests_come(value: float, current: int) -> None:
    few, many = (bounds(value, reference=1e9, current=size, bins=10, alpha=0.05) for size in (current, current * 100))
    assert many.upper - many.lower < (few.upper - few.lower) / 3


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_a_bound_misses_the_true_psi_about_as_often_as_promised(shift: float) -> None:
    rng = np.random.default_rng(3)
    reference = np.full(10, 0.1)
    current = reference * np.linspace(1 - shift * 2, 1 + shift * 2, 10)
    truth = float(np.sum((current - reference) * np.log(current / reference)))
    found = [
        bounds(
            psi(rng.multinomial(20_000, reference).tolist(), rng.multinomial(1000, current).tolist()),
            reference=20_000,
            current=1000,
            bins=10,
            alpha=0.05,
        )
        for _ in range(1500)
    ]
    # 1500 draws: 3 standard deviations of the share are 0.017
    assert np.mean([bound.lower > truth for bound in found]) <= 0.05 + 0.03
    assert np.mean([bound.upper < truth for bound in found]) <= 0.05 + 0.03


@pytest.mark.parametrize(("value", "reference", "current", "bins"), [(-0.1, 10, 10, 5), (0.1, 0, 10, 5), (0.1, 10, 0, 5), (0.1, 10, 10, 1)])
def test_what_has_no_bounds(value: float, reference: float, current: float, bins: int) -> None:
    with pytest.raises(ValueError, match="no bounds"):
        bounds(value, reference=reference, current=current, bins=bins, alpha=0.05)
