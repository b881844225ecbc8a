"""Evidence about a rate that may be looked at after every request: mixture e-values of Bernoulli counts.

For s bad events of n and a limit p0, the likelihood ratio of a rate p against p0 is averaged over a Beta(A, B) prior, cut off at p0::

    E = integral of (p/p0)^s ((1-p)/(1-p0))^(n-s) over Beta(A, B) given p > p0     evidence that the rate is above p0
    E = the same over Beta(A, B) given p < p0                                      evidence that the rate is below p0

    ln E = ln B(A+s, B+n-s) - ln B(A, B) + ln R - s ln p0 - (n-s) ln(1-p0)
    R = Q(A+s, B+n-s) / Q(A, B), with Q the prior's, and the posterior's, mass on the side of the evidence

While the rate is not on that side of p0, at any time and however it moves, E is a nonnegative supermartingale that begins at 1. So
P(E ever reaches 1/a) <= a (Ville): looks need no schedule and no correction, and two numbers are the whole memory. Counts may be
fractions, as they are after division by a design effect.

Sources: Howard, Ramdas, McAuliffe, Sekhon 2021 (Time-uniform confidence sequences, beta-binomial mixture); Johari, Koomen, Pekelis,
Walsh 2022 (Always valid inference); Lindon, Malek 2022 (Anytime-valid inference for multinomial count data).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from math import exp, inf, log, log1p
from typing import NamedTuple

from scipy.special.cython_special import betainc, betaincc, betaln

SMALLEST = 1e-300
"""A probability below this has lost its digits: it is taken for 0, which can only lose evidence."""
HALVINGS = 200


class Prior(NamedTuple):
    """A Beta distribution: `bad` and `good` are like that many events seen before."""

    bad: float
    good: float


JEFFREYS = Prior(0.5, 0.5)


@lru_cache(maxsize=64)
def informative(p0: float, weight: float = 100.0) -> Prior:
    """Give the prior that is worth `weight` requests at the limit itself: quicker when the rate is within a few times the limit."""
    return Prior(weight * p0, weight * (1 - p0))


@lru_cache(maxsize=64)
def complement(share: float) -> float:
    """Give 1 - share as the decimal number that people would write: 0.05 for 0.95, and not 0.050000000000000044."""
    return float(1 - Decimal(str(share)))


def log_e_above(bad: float, total: float, p0: float, prior: Prior) -> float:
    """Give ln E for "the rate is above p0"; minus infinity when E is too small to be told from 0.

    Parameters
    ----------
    bad, total
        Bad events and requests, 0 <= bad <= total; may be fractions.
    p0
        The limit, a share between 0 and 1.

    Raises
    ------
    ValueError
        When the numbers are none of a rate.
    """
    return _log_e(bad, total, p0, prior, betaincc)


def log_e_below(bad: float, total: float, p0: float, prior: Prior) -> float:
    """Give ln E for "the rate is below p0"; see `log_e_above`."""
    return _log_e(bad, total, p0, prior, betainc)


def log_e_at_most(bad: float, total: float, p0: float) -> float:
    """Give what ln E cannot exceed whatever the prior, for evidence on that side of p0 on which the rate seen lies; on the other it is 0.

    It is the likelihood ratio of the rate seen, the largest of all: no average of them is more. Two logarithms, to leave out what has no
    chance to pass.
    """
    share = bad / total if total > 0 else 0.0
    above = bad * (log(share) - log(p0)) if share > 0 else 0.0
    return above + (total - bad) * (log1p(-share) - log1p(-p0)) if share < 1 else above


def _log_e(bad: float, total: float, p0: float, prior: Prior, mass: Callable[[float, float, float], float]) -> float:
    if not (0 <= bad <= total < inf and 0 < p0 < 1):
        raise ValueError(f"{bad} of {total} against {p0} is no rate")
    more_bad, more_good = float(prior.bad + bad), float(prior.good + total - bad)
    after: float = mass(more_bad, more_good, p0)
    if after < SMALLEST:
        return -inf
    before = _log_before(prior, p0, mass)
    log_beta: float = betaln(more_bad, more_good)
    return log_beta + log(after) - before - bad * log(p0) - (total - bad) * log1p(-p0)


@lru_cache(maxsize=256)
def _log_before(prior: Prior, p0: float, mass: Callable[[float, float, float], float]) -> float:
    """Give ln of the prior's integral over the side of the evidence: the same at every look."""
    share: float = mass(float(prior.bad), float(prior.good), p0)
    return float(betaln(float(prior.bad), float(prior.good))) + log(share) if share >= SMALLEST else inf


def anytime_p(log_e: float) -> float:
    """Give the p-value that holds at any time: min(1, 1/E)."""
    return min(1.0, exp(-max(log_e, 0.0)))


def lower_bound(bad: float, total: float, alpha: float, prior: Prior = JEFFREYS) -> float:
    """Give the rate below which, at any time, the true rate lies with probability at most alpha: 0 without bad events."""
    if bad == 0:
        return 0.0
    return _edge(lambda p0: log_e_above(bad, total, p0, prior) >= -log(alpha), 0.0, bad / total)


def upper_bound(bad: float, total: float, alpha: float, prior: Prior = JEFFREYS) -> float:
    """Give the rate above which, at any time, the true rate lies with probability at most alpha: 1 without good events."""
    if bad == total:
        return 1.0
    return _edge(lambda p0: log_e_below(bad, total, p0, prior) >= -log(alpha), 1.0, bad / total)


def _edge(refuted: Callable[[float], bool], outer: float, inner: float) -> float:
    """Find where the limits end that the counts refute, between one that they refute and the rate seen, which they do not."""
    for _ in range(HALVINGS):
        middle = (outer + inner) / 2
        if middle in (outer, inner):
            break
        if refuted(middle):
            outer = middle
        else:
            inner = middle
    return outer
