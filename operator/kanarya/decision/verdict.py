"""Verdicts: what the observations say about one metric, with the reason and the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Metric = str
"""One of `METRICS`, or the name of a metric of the team's own."""
METRICS: tuple[Metric, ...] = ("errors", "latency", "match", "drift")


def ordered(metrics: Iterable[Metric]) -> list[Metric]:
    """Put metrics in the order in which they are told: ours, then the team's own by name."""
    return sorted(metrics, key=lambda metric: (METRICS.index(metric) if metric in METRICS else len(METRICS), metric))


def eta_of(have: float, need: float, elapsed: float) -> float | None:
    """Estimate the seconds until there are `need` samples, at the rate of `have` in `elapsed` seconds; None when there is no telling."""
    eta = (need - have) * elapsed / have if have > 0 and elapsed > 0 else math.inf
    return eta if math.isfinite(eta) else None


class Kind(StrEnum):
    """The five verdicts."""

    GOOD = "Good"
    WITHIN = "Within"
    """Worse than slo, not at the abort level."""
    BAD = "Bad"
    INSUFFICIENT = "Insufficient"
    NO_DATA = "NoData"


@dataclass(frozen=True)
class Verdict:
    """One metric judged.

    Attributes
    ----------
    kind, reason
        The verdict, and a CamelCase word that says which case of it.
    estimate
        The observed value in the metric's own unit: share of errors, share of slow requests, share of matches, mean PSI.
    slo, abort
        The limits in the same unit.
    have, need
        Samples there are, and samples wanted.
    eta_seconds
        Time until `need` is reached at the rate seen so far, when it is not yet.
    detail
        A sentence for people.
    """

    kind: Kind
    reason: str
    estimate: float | None = None
    slo: float | None = None
    abort: float | None = None
    have: float = 0.0
    need: float = 0.0
    eta_seconds: float | None = None
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """Give the JSON form used in evidence and on the command line; absent values are left out."""
        data: dict[str, Any] = {"verdict": self.kind.value, "reason": self.reason, "have": self.have, "need": self.need}
        optional = {"estimate": self.estimate, "slo": self.slo, "abort": self.abort, "etaSeconds": self.eta_seconds}
        data |= {key: value for key, value in optional.items() if value is not None}
        if self.detail:
            data["detail"] = self.detail
        return data
