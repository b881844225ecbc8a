"""When a breach could first be read from Prometheus. Pure, and on purpose not the operator's own way of counting.

Takes the raw samples of ml-router's histogram for one candidate, and asks for each scrape: would a look at this moment, with all counts
since the step began, prove by method `Sequential` that the rate is above its limit? The formula is the decision's, and its windows begin
where the operator looked, as the method says; the counts are not the operator's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kanarya.decision.sequential import Stream, prove_bad
from kanarya.decision.statistics.windows import Ring
from kanarya.decision.statistics.windows import Tally as Counted

FAILED = frozenset({"server_error", "timeout", "unreachable"})


@dataclass(frozen=True)
class Rule:
    """More than `limit` of the attempts are bad: failed, or slower than `slower_than` seconds when that is given.

    Attributes
    ----------
    alpha
        Error probability of each of the two tests, of the live attempts and of all.
    effect
        Design effect, by which counts are divided.
    """

    limit: float
    alpha: float
    slower_than: float | None = None
    effect: float = 1.0


Look = tuple[float, float]
"""When the operator looked, and the time up to which it counted."""


@dataclass
class Tally:
    """Attempts, and bad ones among them, of live requests and of all."""

    live: float = 0.0
    live_bad: float = 0.0
    pool: float = 0.0
    pool_bad: float = 0.0

    def streams(self) -> tuple[Counted, Counted]:
        """Give what the two tests look at."""
        return Counted(self.live_bad, self.live), Counted(self.pool_bad, self.pool)


def visible_at(matrix: Iterable[Mapping[str, Any]], since: float, rule: Rule, looks: Sequence[Look]) -> float | None:
    """Give the time of the first scrape (epoch seconds) whose counts prove a breach; None when none does.

    Parameters
    ----------
    matrix
        Series of `kanarya_request_duration_seconds_bucket` with `track="candidate"`, as Prometheus answers a range vector.
    since
        When the step began. A router's first scrape after that is what later ones are counted from.
    looks
        The operator's looks in this step. Each opens a window for those after it.
    """
    scrapes, looks = sorted(_scrapes(matrix, since, rule), key=lambda scrape: scrape[0]), sorted(looks)
    for at, _, _ in scrapes:
        rings = _windows(_counted(scrapes, until) for looked, until in looks if looked < at)
        seen = zip(_counted(scrapes, at), rings, strict=True)
        if any(prove_bad(Stream(counted, ring, rule.effect), rule.limit, rule.alpha).bad for counted, ring in seen):
            return at
    return None


def _windows(looks: Iterable[tuple[Counted, Counted]]) -> tuple[Ring, Ring]:
    live, pool = Ring(), Ring()
    for of_live, of_pool in looks:
        live, pool = live.looked(of_live), pool.looked(of_pool)
    return live, pool


def _counted(scrapes: Iterable[tuple[float, str, Tally]], until: float) -> tuple[Counted, Counted]:
    """Add up what each pod had counted at its last scrape up to `until`."""
    last = {pod: tally for at, pod, tally in scrapes if at <= until}
    return Tally(*(sum(getattr(one, name) for one in last.values()) for name in ("live", "live_bad", "pool", "pool_bad"))).streams()


def _scrapes(matrix: Iterable[Mapping[str, Any]], since: float, rule: Rule) -> list[tuple[float, str, Tally]]:
    """Give, for each scrape of each pod, what it counted since the pod's first scrape after `since`."""
    tallies: dict[tuple[float, str], Tally] = {}
    for one in matrix:
        labels = one["metric"]
        attempts, bad = _meaning(labels, rule)
        for at, grown in _growth(one["values"], since):
            tally = tallies.setdefault((at, labels["pod"]), Tally())
            tally.pool += attempts * grown
            tally.pool_bad += bad * grown
            if labels["exposure"] == "live":
                tally.live += attempts * grown
                tally.live_bad += bad * grown
    return [(at, pod, tally) for (at, pod), tally in tallies.items()]


def _meaning(labels: Mapping[str, str], rule: Rule) -> tuple[int, int]:
    """Give what one more in a series adds to attempts and to bad ones: slow attempts are all less those within the limit."""
    edge = float(labels["le"])
    if labels["outcome"] == "cancelled":
        return 0, 0
    if edge == float("inf"):
        return 1, 1 if rule.slower_than is not None else int(labels["outcome"] in FAILED)
    return 0, -1 if edge == rule.slower_than else 0


def _growth(values: Sequence[Sequence[Any]], since: float) -> list[tuple[float, float]]:
    counted = [(float(at), float(value)) for at, value in values if float(at) > since]
    return [(at, value - counted[0][1]) for at, value in counted]
