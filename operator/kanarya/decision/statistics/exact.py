"""Bounds of a rate at one look fixed beforehand: Clopper and Pearson 1934, exact for independent requests.

For K looks use alpha / K; for looks without a plan use `anytime`.
"""

from __future__ import annotations

from scipy.special import betaincinv


def lower_bound(bad: float, total: float, alpha: float) -> float:
    """Give the one-sided lower bound: the true rate lies below it with probability at most alpha.

    Raises
    ------
    ValueError
        When `bad` is not between 0 and `total`.
    """
    _check(bad, total)
    return 0.0 if bad == 0 else float(betaincinv(bad, total - bad + 1, alpha))


def upper_bound(bad: float, total: float, alpha: float) -> float:
    """Give the one-sided upper bound: the true rate lies above it with probability at most alpha; see `lower_bound`."""
    _check(bad, total)
    return 1.0 if bad == total else float(betaincinv(bad + 1, total - bad, 1 - alpha))


def _check(bad: float, total: float) -> None:
    if not 0 <= bad <= total:
        raise ValueError(f"{bad} of {total} is no rate")
