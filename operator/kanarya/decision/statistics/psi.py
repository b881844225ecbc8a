"""The population stability index (PSI) of counts, and bounds of the true one.

With n reference and m current counts in B bins, s = 1/n + 1/m, PSI/s is close to a noncentral chi-square with B - 1 degrees of freedom
and noncentrality (true PSI)/s: even without drift PSI is (B - 1) s on average. Good when every bin has an expected count of ten.

Sources: Yurdakul, Naranjo 2020 (Statistical properties of the population stability index); arXiv 2307.11878.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt

from scipy.special import chdtr, chndtrinc, ndtri

NEARLY_NORMAL = 10_000.0
"""From this value of PSI/s on its law is taken as normal: the exact inverse gets slow, and fails in the end."""


def psi_terms(reference: Sequence[float], current: Sequence[float]) -> list[float]:
    """Give each bin's term of the PSI.

    Parameters
    ----------
    reference, current
        Counts per bin, the same bins in the same order, at least two.

    Raises
    ------
    ValueError
        When the bins differ in number, or there are fewer than two.
    """
    if len(reference) != len(current) or len(reference) < 2:
        raise ValueError(f"PSI needs the same bins on both sides, at least two: {len(reference)} and {len(current)}")
    half = 0.5
    total_reference, total_current = sum(reference) + half * len(reference), sum(current) + half * len(current)
    shares = [((r + half) / total_reference, (c + half) / total_current) for r, c in zip(reference, current, strict=True)]
    return [(p - q) * log(p / q) for q, p in shares]


def psi(reference: Sequence[float], current: Sequence[float]) -> float:
    """Give the PSI of two rows of bin counts; see `psi_terms`."""
    return sum(psi_terms(reference, current))


@dataclass(frozen=True)
class Bounds:
    """One-sided bounds of the true PSI, and the sampled PSI less what chance alone adds."""

    lower: float
    upper: float
    corrected: float


def bounds(psi: float, *, reference: float, current: float, bins: int, alpha: float, rough: bool = False) -> Bounds:
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
    rough
        Take the law as normal, which is a hundred times cheaper: for forecasts.

    Raises
    ------
    ValueError
        When there are no counts, fewer than two bins, or the PSI is negative.
    """
    lower, upper = (bound(psi, reference=reference, current=current, bins=bins, tail=tail, rough=rough) for tail in (1 - alpha, alpha))
    return Bounds(lower, upper, max(0.0, psi - (bins - 1) * (1 / reference + 1 / current)))


def bound(psi: float, *, reference: float, current: float, bins: int, tail: float, rough: bool = False) -> float:
    """Give one of the `bounds` alone: the lower at the tail 1 - alpha, the upper at alpha."""
    if reference <= 0 or current <= 0 or bins < 2 or not 0 <= psi < float("inf"):
        raise ValueError(f"a PSI of {psi} from {reference} and {current} counts in {bins} bins has no bounds")
    scale, freedom = 1 / reference + 1 / current, bins - 1
    invert = _nearly if rough or psi / scale > NEARLY_NORMAL else _noncentrality
    return scale * invert(psi / scale, freedom, tail)


def _noncentrality(value: float, freedom: int, tail: float) -> float:
    """Give the noncentrality with which `value` is the `tail` quantile: 0 when it is below that quantile without any."""
    return float(chndtrinc(value, freedom, tail)) if float(chdtr(freedom, value)) > tail else 0.0


def _nearly(value: float, freedom: int, tail: float) -> float:
    """Give the same for a normal law of mean k + λ and variance 2(k + 2λ): value = k + λ + z sqrt(2(k + 2λ)), solved for λ."""
    z = float(ndtri(tail))
    return max(0.0, value - freedom + 2 * z * (z - sqrt(max(0.0, value - freedom / 2 + z * z))))
