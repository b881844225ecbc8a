"""What the demo writes, as pure functions: numbers and documents in, lines out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kanarya.cli.view import render
from kanarya.decision.verdict import ordered

WIDTH = 100


@dataclass(frozen=True)
class Look:
    """What was seen at one moment.

    Attributes
    ----------
    rollout
        The resource.
    live
        The operator's last decision, empty while it does not answer.
    stats
        What the clients of the load saw, empty while it does not answer.
    """

    rollout: Mapping[str, Any]
    live: Mapping[str, Any]
    stats: Mapping[str, Any]

    @property
    def status(self) -> Mapping[str, Any]:
        """The rollout's status."""
        found: Mapping[str, Any] = self.rollout.get("status") or {}
        return found

    def endings(self) -> frozenset[tuple[str, str]]:
        """Give run id and time of every ending in the history."""
        return frozenset((item["run"], item["finished"]) for item in self.status.get("history") or [])

    def ended(self, known: frozenset[tuple[str, str]], version: str) -> Mapping[str, Any] | None:
        """Give the history entry of a run of `version` that is not among the `known` endings."""
        entries: list[Mapping[str, Any]] = list(self.status.get("history") or [])
        return next(
            (item for item in reversed(entries) if (item["run"], item["finished"]) not in known and item.get("version") == version), None
        )


def clock(seconds: float) -> str:
    """Give minutes and seconds, `1:05`."""
    whole = int(max(seconds, 0))
    return f"{whole // 60:2d}:{whole % 60:02d}"


def clients(stats: Mapping[str, Any]) -> str:
    """Say in one line what the clients saw."""
    if not stats:
        return "clients   (the load does not answer)"
    versions = ", ".join(f"{version} {seen['count']:.0f}" for version, seen in sorted((stats.get("by_version") or {}).items()))
    slow = (stats.get("latency_ms") or {}).get("p95")
    tail = "" if slow is None else f"   p95 {slow:.0f} ms"
    return f"clients   {stats.get('answered', 0)} answered, {stats.get('error_count', 0)} errors   by version: {versions or '-'}{tail}"


def frame(look: Look, now: float) -> str:
    """Render the whole view; `now` in epoch seconds."""
    return f"{render(look.rollout, look.live, now)}\n{clients(look.stats)}"


def brief(look: Look) -> tuple[str, str]:
    """Give one compact line, and the part of it whose change is worth a new line."""
    status = look.status
    run = status.get("run") or {}
    words = [f"{status.get('summary') or 'Unknown':12}"]
    if run.get("steps"):
        words.append(f"step {run.get('step', 0)}/{run['steps']} weight {run.get('weight', 0):3d} %")
    verdicts = look.live.get("verdicts") or {}
    words += [f"{metric} {verdicts[metric]['verdict']}" for metric in ordered(verdicts)]
    words.append(str(look.live.get("reason") or status.get("reason") or ""))
    stats = look.stats
    seen = f"{stats.get('answered', 0)} answered, {stats.get('error_count', 0)} errors" if stats else "no word of the load"
    line = "  ".join(word for word in words if word)
    return f"{line}  |  {seen}", f"{line}{stats.get('error_count', 0)}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out in columns as wide as their widest cell."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (heads, *rows)]
    return "\n".join((lines[0], "  ".join("-" * width for width in widths), *lines[1:]))


@dataclass(frozen=True)
class Harm:
    """What a candidate did to clients.

    Attributes
    ----------
    errors
        Answers of the candidate's time that were 5xx.
    served
        Answers that the candidate gave to clients, good ones included.
    to_zero
        Seconds from the first bad answer to weight 0 on the route; None if there was no bad answer or weight 0 was not seen.
    to_last
        Seconds from the first bad answer to the candidate's last answer of any kind.
    """

    errors: int
    served: int
    to_zero: float | None
    to_last: float | None

    def sentence(self) -> str:
        """Say it."""
        if not self.errors and not self.served:
            return "no client got an answer of the candidate: it was judged on mirrored requests, before its first weight"
        if not self.errors:
            return f"no client saw an error: {self.served} answers of the candidate reached clients, all good"
        zero = "weight 0 was not seen" if self.to_zero is None else f"weight 0 {self.to_zero:.1f} s after the first bad answer"
        last = "" if self.to_last is None else f", the candidate's last answer {self.to_last:.1f} s after it"
        return f"clients saw {self.errors} errors among {self.served} answers of the candidate; {zero}{last}"


def basis(entries: Sequence[Mapping[str, Any]]) -> str:
    """Say what the last decision of a run's evidence rests on; empty when there is none."""
    decision = next((entry for entry in reversed(entries) if entry["kind"] == "Decision"), None)
    if decision is None:
        return ""
    candidate = decision["counts"]["candidate"]
    live, mirror = candidate["live"], candidate["mirror"]
    seen = ", ".join(
        f"{kind} {counts['requests']:.0f} requests with {counts['errors']:.0f} errors"
        for kind, counts in (("live", live), ("mirrored", mirror))
    )
    why = f" ({decision['message']})" if decision.get("message") else ""
    return f"{decision['decision']}{why}, on the candidate's {seen}"


def harm(answers: Sequence[Sequence[Any]], version: str, weights: Sequence[tuple[float, int]]) -> Harm:
    """Find out what a candidate did to clients.

    Parameters
    ----------
    answers
        `[time, version, track, status, milliseconds]` each, since the release.
    version
        The candidate's.
    weights
        Candidate weights seen on the route, with the time each was seen, on the same clock as the answers.
    """
    served = [item for item in answers if item[1] == version and item[2] == "candidate"]
    bad = [item for item in answers if int(item[3]) >= 500]
    first = float(bad[0][0]) if bad else None
    zero = None
    if first is not None:
        raised = [at for at, weight in weights if weight > 0]
        # Weight 0 from before the first step says nothing.
        zero = next((at for at, weight in weights if weight == 0 and raised and at > raised[0] and at >= first), None)
    last = max((float(item[0]) for item in served), default=None)
    return Harm(
        errors=len(bad),
        served=len(served),
        to_zero=None if first is None or zero is None else zero - first,
        to_last=None if first is None or last is None else max(last - first, 0.0),
    )
