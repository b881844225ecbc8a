"""Generated market snapshots with labels whose true probability is known.

Training and the load generator draw from the same population, so live traffic shows no drift against an unshifted reference.
Needs numpy alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = dict[str, NDArray[np.float64]]
"""One array per watched feature, keyed by column name; NaN is missing."""


@dataclass(frozen=True)
class Feature:
    """A feature's distribution, its mean and standard deviation, and its weight in the true score per standard deviation."""

    draw: Callable[[np.random.Generator, int], NDArray[np.float64]]
    mean: float
    sd: float
    weight: float
    upper: float = math.inf
    missing_rate: float = 0.0


def _lognormal(median: float, sigma: float, weight: float) -> Feature:
    mean = median * math.exp(sigma**2 / 2)
    return Feature(
        draw=lambda rng, rows: rng.lognormal(math.log(median), sigma, rows),
        mean=mean,
        sd=mean * math.sqrt(math.expm1(sigma**2)),
        weight=weight,
    )


FEATURES: Mapping[str, Feature] = {
    "mid": _lognormal(100.0, 0.08, 0.35),  # price
    "spread_bp": _lognormal(4.0, 0.45, -0.9),  # basis points
    "vol1m": _lognormal(12.0, 0.5, 0.7),  # basis points a minute
    # An index of 0 to 100; unknown in the first fourteen bars of a session.
    "rsi14": Feature(lambda rng, rows: 100 * rng.beta(6, 6, rows), 50.0, 100 * math.sqrt(1 / 52), 0.8, 100.0, 0.01),
}
INTERCEPT = -0.4


def draw(rng: np.random.Generator, rows: int, shift: Mapping[str, float] | None = None) -> tuple[Values, NDArray[np.float64]]:
    """Draw snapshots and the true probability of label 1 of each.

    Parameters
    ----------
    rng
        the only source of randomness: the same state gives the same rows.
    rows
        how many.
    shift
        standard deviations to move a feature by, keyed by column name. Raises `ValueError` for an unknown one.
    """
    shift = shift or {}
    if unknown := sorted(set(shift) - set(FEATURES)):
        raise ValueError(f"unknown feature {unknown[0]}: choose from {', '.join(FEATURES)}")
    logit = np.full(rows, INTERCEPT)
    values: Values = {}
    for name, feature in FEATURES.items():
        drawn = np.clip(feature.draw(rng, rows) + shift.get(name, 0.0) * feature.sd, 0.0, feature.upper)
        logit += feature.weight * (drawn - feature.mean) / feature.sd
        missing = rng.random(rows) < feature.missing_rate
        values[name] = np.where(missing, np.nan, np.round(drawn, 6))
    return values, 1 / (1 + np.exp(-logit))
