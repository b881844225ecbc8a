"""The evidence of a run as a page of text: what was decided when, on which numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kanarya.decision.verdict import METRICS, ordered

Entry = Mapping[str, Any]
TOLD = ("Decision", "RouteRepaired", "HistoryLost", "StableSwitched", "WeightRestored", "RunEnded")
"""Kinds of entries that get a line; the others only say again what these rest on."""


def report(entries: Sequence[Entry]) -> str:
    """Tell a run's story.

    Parameters
    ----------
    entries
        All entries in order, the first of kind `RunStarted`.

    Raises
    ------
    KeyError, TypeError, ValueError
        When an entry is not as it is written.
    """
    first = entries[0]
    candidate, stable, plan = first["candidate"], first["stable"] or {}, first["spec"]["plan"]
    observed = first["spec"]["mode"] == "Observe"
    lines = [
        f"run {first['run']}   candidate {_name(candidate)}   stable {_name(stable)}   mode {first['spec']['mode']}",
        f"plan {' '.join(str(step['weight']) for step in plan['steps'])} of {plan['weightTotal']}   replicas {first['replicas']}",
        *_offline(first),
        "",
    ]
    for entry in entries:
        if entry["kind"] in TOLD:
            after = f"+{entry['at'] - first['at']:.0f} s"
            lines.append(f"{_time(entry['at'])}  {after:>8}  {_told(entry, observed=observed)}")
            lines += [f"{'':31}{text}" for text in _numbers(entry)]
    if entries[-1]["kind"] != "RunEnded":
        lines.append("the run goes on")
    return "\n".join(lines)


def _offline(first: Entry) -> list[str]:
    report = first.get("offlineReport")
    if report is None:
        return []
    sums = f"sha256 {report['modelSha256'][:12]}, report {report['reportSha256'][:12]}"
    return [f"offline report {report['verdict']} of model {report['version']} ({sums})"]


def _name(identity: Mapping[str, Any]) -> str:
    return f"{identity.get('version') or '-'} ({identity.get('revision') or '-'})"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _told(entry: Entry, *, observed: bool) -> str:
    match entry["kind"]:
        case "Decision":
            return _decided(entry, observed=observed)
        case "RouteRepaired":
            return f"somebody else set the weight to {entry['found']}, ours is {entry['ours']}"
        case "HistoryLost":
            return "samples were lost: the step's counts begin again"
        case "StableSwitched":
            return f"the stable Service goes to {entry['revision']}"
        case "WeightRestored":
            return f"weight {entry['weight']} of step {entry['step']} earned again"
    return f"{entry['outcome']}: {entry['reason']}: {entry['message']}"


def _decided(entry: Entry, *, observed: bool) -> str:
    would = "would " if observed else ""
    match entry["decision"]:
        case "Advance":
            return f"{would}advance to step {entry['toStep']}, weight {entry.get('virtualWeight', entry['toWeight'])}"
        case "Soak":
            return f"{would}soak at full weight"
        case "Promote":
            return f"{would}promote"
    return f"{would if entry['outcome'] == 'Observed' else ''}roll back: {entry['reason']}"


def _numbers(entry: Entry) -> list[str]:
    verdicts = entry.get("verdicts") or {}
    return [_metric(metric, verdicts[metric]) for metric in ordered(verdicts)]


def _metric(metric: str, verdict: Mapping[str, Any]) -> str:
    estimate = verdict.get("estimate")
    if metric not in METRICS:
        return f"{metric:8} {'-' if estimate is None else f'{estimate:.6g}':>9}  {verdict['verdict']:12} {verdict['reason']}"
    value = "-" if estimate is None else f"{estimate:.3f}" if metric == "drift" else f"{100 * estimate:.2f} %"
    return f"{metric:8} {value:>9}  {verdict['verdict']:12} {verdict['reason']:20} {verdict['have']:.0f} requests"
