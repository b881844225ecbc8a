"""Bounds of a population stability index (PSI) that was computed from counts.

With n reference and m current counts in B bins, s = 1/n + 1/m, PSI/s is close to a noncentral chi-square with B - 1 degrees of freedom
and noncentrality (true PSI)/s: even without drift PSI is (B - 1) s on average. Good when every bin has an expected count of ten.

Sources: Yurdakul, Naranjo 2020 (Statistical properties of the population stability index); arXiv 2307.11878.
"""

from __future__ import annotations

from dataclasses import dataclass

from scipy.special import chdtr, chndtrinc


@dataclass(frozen=True)
class Bounds:
    """One-sided bounds of the true PSI, and the sampled PSI less what chance alone adds."""

    lower: float
    upper: float
    corrected: float


def bounds(psi: float, *, reference: float, current: float, bins: int, alpha: float) -> Bounds:
    """Give the bounds of the true PSI; each is wrong with probability at most about alpha.

    Parameters
    ----------
    psi
        PSI of the counts, natural logarithm.
    reference, current
        Counts of either side over all bins.
    bins
        How many bins there are, at least two.
    alpha
        Error probability of each bound. Split it over looks and features: PSI has no bound that holds at any time.

    Raises
    ------
    ValueError
        When there are no counts, fewer than two bins, or the PSI is negative.
    """
    if reference <= 0 or current <= 0 or bins < 2 or not 0 <= psi < float("inf"):
        raise ValueError(f"a PSI of {psi} from {reference} and {current} counts in {bins} bins has no bounds")
    scale, freedom = 1 / reference + 1 / current, bins - 1
    lower, upper = (scale * _noncentrality(psi / scale, freedom, tail) for tail in (1 - alpha, alpha))
    return Bounds(lower, upper, max(0.0, psi - freedom * scale))


def _noncentrality(value: float, freedom: int, tail: float) -> float:
    """Give the noncentrality with which `value` is the `tail` quantile: 0 when it is below that quantile without any."""
    return float(chndtrinc(value, freedom, tail)) if float(chdtr(freedom, value)) > tail else 0.0
