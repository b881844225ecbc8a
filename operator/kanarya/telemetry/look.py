"""What one look counts, and what it finds missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kanarya.decision.counts import Missing
from kanarya.telemetry.counting import Joined, Span

ALL = "*"
"""Stands for every metric."""

STALE_SCRAPES = 3
STALE_SLACK_SECONDS = 2.0
"""A newest sample older than so many scrape intervals and so many seconds is stale."""

_ORDER = (ALL, "errors", "latency", "match", "drift")


class Findings:
    """For each metric the first thing that was found missing, with a sentence for people.

    Whoever looks for the graver things first gets them reported.
    """

    def __init__(self) -> None:
        self.found: dict[str, tuple[Missing, str]] = {}

    def add(self, metric: str, missing: Missing, sentence: str) -> None:
        """Note what a metric lacks, unless something is noted already."""
        self.found.setdefault(metric, (missing, sentence))

    def take(self, others: Findings) -> None:
        """Note what was found elsewhere."""
        for metric, (missing, sentence) in others.found.items():
            self.add(metric, missing, sentence)

    @property
    def missing(self) -> Mapping[str, Missing]:
        """Reasons by metric."""
        return {metric: self.found[metric][0] for metric in _ORDER if metric in self.found}

    @property
    def detail(self) -> str:
        """The sentence of the finding that matters most, empty when there is none."""
        return next((self.found[metric][1] for metric in _ORDER if metric in self.found), "")


@dataclass(frozen=True)
class Look:
    """One look: its span, the present on the source's clock, the scrape interval and tick in seconds, and what was found."""

    span: Span
    now: float
    scrape_seconds: float
    tick_seconds: float
    findings: Findings

    @property
    def stale_before(self) -> float:
        """A newest sample older than this says nothing about now."""
        return self.now - STALE_SCRAPES * self.scrape_seconds - STALE_SLACK_SECONDS

    @property
    def horizon(self) -> float:
        """Seconds in which a target that is scraped at all has a sample."""
        return horizon(self.scrape_seconds, self.tick_seconds)

    def report(self, metrics: tuple[str, ...], joined: Joined, subject: str) -> None:
        """Note what is wrong with a joined counter."""
        for metric in metrics:
            if any(at > self.span.watermark for at in joined.refused):
                self.findings.add(metric, Missing.NOT_A_NUMBER, f"{subject} hold a sample that is no count.")
            if joined.duplicate:
                self.findings.add(metric, Missing.DUPLICATE_SERIES, f"{subject} are there twice for one pod; do two jobs scrape it?")


def horizon(scrape_seconds: float, tick_seconds: float) -> float:
    """Give the usual window in seconds: three scrapes and a tick."""
    return STALE_SCRAPES * scrape_seconds + tick_seconds
