"""What one run of a candidate that turns bad under traffic took, from its own measurements. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.figures import Spread, shares, table

Kind = Literal["errors", "latency"]
Answer = Sequence[Any]
"""One answer of the load: time, version, track, status, milliseconds."""


@dataclass(frozen=True)
class Reaction:
    """The moments of one reaction, in epoch seconds, all by the same machine's clock.

    Attributes
    ----------
    bad
        The first bad answer reached its client.
    visible
        Prometheus took the first scrape whose counts show the breach.
    verdict
        The operator decided, by its own evidence.
    zero
        Weight 0 was on the route, as a watch saw it.
    last
        The last request that went to the candidate was sent.
    """

    kind: Kind
    run: str
    bad: float
    visible: float
    verdict: float
    zero: float
    last: float
    rate: float
    """Requests a second that clients sent to the candidate before."""
    load_average: float

    @property
    def parts(self) -> dict[str, float]:
        """Seconds from the first bad answer to weight 0, by what they were spent on."""
        return {"scrape": self.visible - self.bad, "tick": self.verdict - self.visible, "write": self.zero - self.verdict}

    def as_json(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {
            "kind": self.kind,
            "run": self.run,
            "badToZero": round(self.zero - self.bad, 3),
            "badToLastRequest": round(self.last - self.bad, 3),
            "visibleToZero": round(self.zero - self.visible, 3),
            **{name: round(seconds, 3) for name, seconds in self.parts.items()},
            "candidateRequestsPerSecond": round(self.rate, 1),
            "loadAverage": self.load_average,
        }


def first_bad(answers: Sequence[Answer], version: str, since: float, slower_than: float) -> float | None:
    """Give when the candidate's first bad answer came: a 5xx, or one that took longer than `slower_than` milliseconds."""
    ours = _of_candidate(answers, version, since)
    return next((float(answer[0]) for answer in ours if int(answer[3]) >= 500 or float(answer[4]) > slower_than), None)


def last_sent(answers: Sequence[Answer], version: str, since: float) -> float | None:
    """Give when the candidate's last request was sent: an answer's time less what it took."""
    return max((float(answer[0]) - float(answer[4]) / 1000 for answer in _of_candidate(answers, version, since)), default=None)


def rate(answers: Sequence[Answer], version: str, since: float, until: float) -> float:
    """Give how many requests a second clients sent to the candidate in a span of time."""
    return sum(float(answer[0]) < until for answer in _of_candidate(answers, version, since)) / (until - since)


def _of_candidate(answers: Sequence[Answer], version: str, since: float) -> list[Answer]:
    found = [answer for answer in answers if answer[1] == version and answer[2] == "candidate" and float(answer[0]) >= since]
    return sorted(found, key=lambda answer: float(answer[0]))


HEADING = (
    "candidate turns",
    "runs",
    "bad answer → weight 0, s (min / median / max)",
    "bad answer → last request, s",
    "visible → weight 0, s",
    "scrape, s",
    "tick, s",
    "write, s",
    "shares",
    "req/s on it, least",
    "load",
)


def report(runs: Sequence[Reaction]) -> str:
    """Write the table: one line for each kind of fault."""
    return table(HEADING, (_row(kind, [run for run in runs if run.kind == kind]) for kind in sorted({run.kind for run in runs})))


def _row(kind: Kind, runs: Sequence[Reaction]) -> tuple[object, ...]:
    part = {name: Spread.of(run.parts[name] for run in runs) for name in ("scrape", "tick", "write")}
    share = shares([run.parts for run in runs])
    loads = [run.load_average for run in runs]
    return (
        {"errors": "erroring", "latency": "slow"}[kind],
        len(runs),
        Spread.of(run.zero - run.bad for run in runs),
        Spread.of(run.last - run.bad for run in runs),
        Spread.of(run.zero - run.visible for run in runs),
        part["scrape"],
        part["tick"],
        part["write"],
        " / ".join(f"{100 * share[name]:.0f} %" for name in ("scrape", "tick", "write")),
        f"{min(run.rate for run in runs):.0f}",
        f"{min(loads):.1f} to {max(loads):.1f}",
    )
