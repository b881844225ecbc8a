"""Drift: the population stability index (PSI) of the candidate's inputs, and of its scores, against its training reference.

PSI = sum over bins of (p - q) ln(p / q), with q the reference's share of the bin and p the current one (natural logarithm). Every bin
of both sides gets +1/2 before shares are taken, so that an empty bin is finite and the same everywhere. PSI is Jeffreys' divergence:
symmetric for fixed bins, never negative, and additive over bins, so each bin's term says what moved.

Method `Threshold` compares the PSI as counted. Method `Sequential` compares its bounds: Bad when the lower one is above the limit, Good
when the upper one is below, undecided in between. Their error probabilities are split so:

- *Bad*: 1 - confidence.abort, over the features and the score. *Good*: all must be below their limits at once, so it is not split; but the
  bound of the mean is the mean of bounds that hold together, and features are rarely independent: there it is split over the features.
- PSI has no bound that holds at any time. A look is numbered by how often the sample has grown by a quarter since it was large enough, and
  the k-th spends 1/k(k+1) of the above. Looks between two such sizes see nearly the same counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import floor, inf, log

from kanarya.api.rollout import DriftLimits
from kanarya.decision.counts import Bins, Drift
from kanarya.decision.sequential import MOST_NEEDED, Alphas
from kanarya.decision.statistics.psi import bound, psi, psi_terms
from kanarya.decision.verdict import Kind, Verdict, eta_of

SAMPLES_PER_BIN = 10
"""PSI of a sample with fewer expected counts in a bin is mostly noise."""
SCORE = "prediction_score"
"""Name under which the candidate's own score is counted: it has a feature's limit, and no part in the mean over features."""
GROWTH = 1.25
"""By how much the sample grows from one look that spends error probability to the next."""


def judge_drift(
    limits: DriftLimits, drift: Drift, *, min_samples: float, elapsed: float, alphas: Alphas | None = None, forecast: bool = True
) -> Verdict:
    """Judge the drift of a run.

    Parameters
    ----------
    drift
        Counts per bin, of the run and of the reference, by feature.
    min_samples
        Fewest requests that allow a verdict; never less than `SAMPLES_PER_BIN` for each bin.
    elapsed
        Seconds in which the requests came, for the estimate of when there will be enough.
    alphas
        Error probabilities of Bad and Good over the whole run; None compares the PSI as counted.
    forecast
        Whether to tell the bounds, and to estimate how many requests it takes when there are too few; else as many as there are.
    """
    if not drift.reference:
        return Verdict(Kind.NO_DATA, "NoReference", detail="the candidate exposes no training reference")
    rows: list[_Row] = []
    for feature, reference in sorted(drift.reference.items()):
        current = drift.current.get(feature) or (0.0,) * len(reference)
        if len(current) != len(reference):
            return Verdict(Kind.NO_DATA, "NoReference", detail=f"the bins of {feature} and of its reference differ")
        rows.append(_Row(feature, reference, current))
    fewest = max(float(min_samples), *(float(SAMPLES_PER_BIN * len(row.reference)) for row in rows))
    seen = _Seen(tuple(rows), limits, fewest, alphas)
    detail = seen.detail if forecast else ""
    have = seen.have

    def verdict(kind: Kind, reason: str, need: float, eta: float | None = None, more: str = "") -> Verdict:
        return Verdict(kind, reason, seen.overall, limits.overall, limits.per_feature, have, need, eta, detail + more)

    if have < fewest:
        return verdict(Kind.INSUFFICIENT, "TooFewSamples", fewest, eta_of(have, fewest, elapsed))
    if seen.above():
        return verdict(Kind.BAD, "DriftAboveLimit", fewest, more=f"; {seen.worst.moved}")
    if seen.below():
        return verdict(Kind.GOOD, "DriftWithinLimit", fewest)
    need = seen.needed() if forecast else have
    eta = eta_of(have, need, elapsed) if need < MOST_NEEDED else None
    return verdict(Kind.INSUFFICIENT, "DriftUndecided", need, eta, f"; {seen.worst.moved}")


@dataclass(frozen=True)
class _Row:
    """One feature's counts per bin."""

    feature: str
    reference: Bins
    current: Bins

    @cached_property
    def have(self) -> float:
        return sum(self.current)

    @cached_property
    def known(self) -> float:
        return sum(self.reference)

    @cached_property
    def psi(self) -> float:
        return psi(self.reference, self.current)

    @cached_property
    def bins(self) -> int:
        """Bins that anything fell in: an always empty one, such as `missing`, adds no noise."""
        return max(2, sum([1 for known, seen in zip(self.reference, self.current, strict=True) if known or seen]))

    def lower(self, alpha: float, more: float = 1.0) -> float:
        """Give the lower bound; roughly, with `more` than 1, that of so many times the counts with the same drift and their own noise."""
        return self._bound(1 - alpha, more) if self.known and self.have else 0.0

    def upper(self, alpha: float, more: float = 1.0) -> float:
        """Give the upper bound, in the same way."""
        return self._bound(alpha, more) if self.known and self.have else inf

    def _bound(self, tail: float, more: float) -> float:
        have, found = self.have * more, self.psi
        if more != 1.0:
            corrected = max(0.0, found - (self.bins - 1) * (1 / self.known + 1 / self.have))
            found = corrected + (self.bins - 1) * (1 / self.known + 1 / have)
        return bound(found, reference=self.known, current=have, bins=self.bins, tail=tail, rough=more != 1.0)

    @property
    def moved(self) -> str:
        """Name the bin that moved most, with its share and the reference's."""
        terms = psi_terms(self.reference, self.current)
        index = max(range(len(terms)), key=lambda i: terms[i])
        name = "missing" if index == len(terms) - 1 else f"bin {index}"
        share, before = (100 * row[index] / max(sum(row), 1.0) for row in (self.current, self.reference))
        return f"{self.feature}: {name} has {share:.0f} % instead of {before:.0f} %"


@dataclass(frozen=True)
class _Seen:
    rows: tuple[_Row, ...]
    limits: DriftLimits
    fewest: float
    alphas: Alphas | None

    @cached_property
    def have(self) -> float:
        return min(row.have for row in self.rows)

    @cached_property
    def features(self) -> tuple[_Row, ...]:
        return tuple(row for row in self.rows if row.feature != SCORE) or self.rows

    @cached_property
    def worst(self) -> _Row:
        return max(self.rows, key=lambda row: row.psi)

    @cached_property
    def overall(self) -> float:
        return _mean(row.psi for row in self.features)

    @property
    def detail(self) -> str:
        said = f"mean {self.overall:.3f}, worst {self.worst.feature} {self.worst.psi:.3f}"
        if self.alphas is None or self.have < self.fewest:
            return said
        share = self._spent(self.alphas.good)
        return f"{said} (from {self.worst.lower(share):.3f} to {self.worst.upper(share):.3f})"

    def above(self, more: float = 1.0) -> bool:
        """Whether a limit is shown to be passed, at `more` times the counts."""
        if self.alphas is None:
            return not self.below()
        if more == 1.0 and self.worst.psi <= self.limits.per_feature and self.overall <= self.limits.overall:
            return False  # a lower bound lies below what it bounds
        share = self._spent(self.alphas.bad, more) / len(self.rows)
        lower = {row.feature: row.lower(share, more) for row in self.rows}
        return max(lower.values()) > self.limits.per_feature or _mean(lower[row.feature] for row in self.features) > self.limits.overall

    def below(self, more: float = 1.0) -> bool:
        """Whether all limits are shown to be kept, at `more` times the counts."""
        if self.alphas is None:
            return self.worst.psi <= self.limits.per_feature and self.overall <= self.limits.overall
        if more == 1.0 and (self.worst.psi >= self.limits.per_feature or self.overall >= self.limits.overall):
            return False
        alone = self._spent(self.alphas.good, more)
        together = alone / len(self.features)
        # Of features counted alike the one that drifts most has the highest bound: one is found instead of all.
        alike = len({(row.have, row.known, row.bins) for row in self.rows}) == 1
        if alike and self.worst.upper(together, more) < min(self.limits.overall, self.limits.per_feature):
            return True
        upper = {row.feature: row.upper(together, more) for row in self.features}
        if _mean(upper.values()) >= self.limits.overall:
            return False
        # The bound of a feature alone is the lower of the two.
        return not any(
            upper.get(row.feature, inf) >= self.limits.per_feature and row.upper(alone, more) >= self.limits.per_feature
            for row in self.rows
        )

    def needed(self) -> float:
        """Give the requests at which a verdict is expected if drift stays as it is; `MOST_NEEDED` when there is no end to it."""

        def decided(more: float) -> bool:
            return self.below(more) or self.above(more)

        most = MOST_NEEDED / self.have
        more = next((2.0**power for power in range(1, 64) if 2.0**power >= most or decided(2.0**power)), most)
        if more >= most:
            return MOST_NEEDED
        return self.have * next(part for part in (more * 0.625, more * 0.75, more * 0.875, more) if part == more or decided(part))

    def _spent(self, alpha: float, more: float = 1.0) -> float:
        """Give the share of an error probability that the look at this many samples may spend."""
        number = 1 + floor(log(max(self.have * more / self.fewest, 1.0)) / log(GROWTH))
        return alpha / (number * (number + 1))


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)
