"""How much more bad events bunch together than independent requests would: the design effect.

Errors come in bursts: with a correlation ICC between the k requests of a scrape, counts vary D = 1 + (k - 1) ICC times as much as
binomial ones, and evidence is overstated as much. Counts divided by D carry the right amount again (Kish 1965, Survey sampling).

D is estimated as Pearson's chi-square over its degrees of freedom of the counts of many scrapes::

    chi2 = sum over scrapes of (bad_i - n_i p)^2 / (n_i p (1-p)) = (sum of bad_i^2/n_i - bad^2/n) / (p (1-p)),   p = bad/n

so four sums are the whole memory. Estimate it from other counts than those it divides: from stable's, or from the candidate's
before the window under test. A fault that begins within the window looks like a burst, and would hide itself. Until there are scrapes to
learn from, requests are taken to be correlated as in `ASSUMED_ICC`: without that, the first burst of a run would pass for a fault.

The assumption and the estimate are weighted by the inverse of their variances. That of chi2 over m degrees of freedom is about 2 D^2 / m:
few of many scrapes hold the bursts, and what they show of their size stays uncertain for long, while calm scrapes are soon believed.
"""

from __future__ import annotations

from dataclasses import dataclass

LOWEST, HIGHEST = 1.0, 12.0
"""Fewer than independent requests cannot be believed; more than twelve times as many would blind the judge."""
ASSUMED_ICC = 0.1
ASSUMED_SCRAPES = 30.0
"""The assumption counts like this many calm scrapes: it is a quarter of the estimate after a hundred."""


@dataclass(frozen=True)
class Dispersion:
    """Sums over scrapes that had requests."""

    scrapes: float = 0.0
    bad: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    """Sum of bad squared over total."""

    def seen(self, bad: float, total: float) -> Dispersion:
        """Give the sums with one more scrape; one without requests says nothing."""
        if total <= 0:
            return self
        bad = min(max(bad, 0.0), total)
        return Dispersion(self.scrapes + 1, self.bad + bad, self.total + total, self.squares + bad * bad / total)

    def __add__(self, other: Dispersion) -> Dispersion:
        return Dispersion(self.scrapes + other.scrapes, self.bad + other.bad, self.total + other.total, self.squares + other.squares)

    @property
    def per_scrape(self) -> float:
        """Requests of a scrape, on average."""
        return self.total / self.scrapes if self.scrapes else 0.0


def design_effect(dispersion: Dispersion, per_scrape: float) -> float:
    """Give the number, 1 to 12, by which to divide counts.

    Parameters
    ----------
    dispersion
        Sums of the scrapes to learn from.
    per_scrape
        Requests a scrape of the counts to be divided. Fewer than those learned from bunch less, as (k - 1) ICC does; more are taken to
        bunch as much, because ICC from small scrapes is mostly noise.
    """
    assumed = min(max(per_scrape - 1, 0.0) * ASSUMED_ICC, HIGHEST - LOWEST)
    shown = _excess(dispersion, per_scrape)
    weight = max(dispersion.scrapes - 1, 0.0) / max(LOWEST + shown, LOWEST) ** 2
    excess = (assumed * ASSUMED_SCRAPES + shown * weight) / (ASSUMED_SCRAPES + weight)
    return min(max(LOWEST + excess, LOWEST), HIGHEST)


def _excess(dispersion: Dispersion, per_scrape: float) -> float:
    """Give D - 1 as the scrapes show it: 0 when all of them were alike, even if that is because nothing was bad."""
    rate = dispersion.bad / dispersion.total if dispersion.total else 0.0
    if dispersion.scrapes < 2 or not 0 < rate < 1:
        return 0.0
    chi2 = (dispersion.squares - dispersion.bad * rate) / (rate * (1 - rate))
    excess = chi2 / (dispersion.scrapes - 1) - 1
    return excess * min(1.0, max(per_scrape - 1, 0.0) / (dispersion.per_scrape - 1)) if dispersion.per_scrape > 1 else excess
