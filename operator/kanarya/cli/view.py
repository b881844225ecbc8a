"""A rollout as a few lines of text: for `kanarya status` and the demo. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kanarya.cluster.objects import MOST_WEIGHT, printable
from kanarya.decision.sequential import MOST_NEEDED
from kanarya.decision.verdict import METRICS, ordered

BAR = 40
UNITS = {"errors": "failed", "latency": "too slow", "match": "the same", "drift": "PSI"}


def render(rollout: Mapping[str, Any], live: Mapping[str, Any], now: float) -> str:
    """Render a rollout.

    Parameters
    ----------
    rollout
        The resource.
    live
        What the operator's `/rollouts/<namespace>/<name>` answered; empty when it was not asked.
    now
        Epoch seconds.
    """
    status = _mapping(rollout.get("status"))
    run, stable = _mapping(status.get("run")), _mapping(status.get("stable"))
    metadata = rollout["metadata"]
    lines = [
        f"{metadata['namespace']}/{metadata['name']}   {status.get('summary') or 'Unknown'}   {status.get('reason', '')}",
        f"stable {stable.get('version') or stable.get('revision') or '-'}"
        + (f"   candidate {run.get('version') or run.get('revision')}" if run else ""),
    ]
    if run:
        total = _whole(_mapping(_mapping(rollout.get("spec")).get("plan")).get("weightTotal")) or 100
        share, virtual = 100 * _whole(run.get("weight")) / total, 100 * _whole(run.get("virtualWeight")) / total
        filled = min(round(BAR * share / 100), BAR)
        observed = f", observed as if at {virtual:g} %" if virtual else ""
        lines.append(f"weight {share:3g} %  [{'#' * filled}{'.' * (BAR - filled)}]  {_step(run)}{observed}")
    verdicts = live.get("verdicts") or {}
    lines += [_metric(metric, verdicts[metric]) for metric in ordered(verdicts)]
    if live.get("message"):
        lines.append(f"{live['reason']}: {live['message']}")
    else:
        lines += [f"{item.get('reason')}: {item['message']}" for item in _told(_mappings(status.get("conditions")))]
    if live.get("newestSample"):
        lines.append(f"newest sample {max(now - live['newestSample'], 0):.0f} s old")
    for entry in _mappings(status.get("history"))[-3:]:
        lines.append("  " + "  ".join(str(entry.get(key, "")) for key in ("finished", "run", "version", "outcome", "reason")))
    return "\n".join(printable(line) for line in lines)


def _told(conditions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Give the conditions worth a line: why the rollout is refused, and what a run waits for."""
    wanted = [item for item in conditions if item.get("message")]
    return [
        item for item in wanted if item.get("type") == "Progressing" or (item.get("type") == "Accepted" and item.get("status") == "False")
    ]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _whole(value: Any) -> int:
    """Give a count that a status may hold; 0 for anything else."""
    return value if isinstance(value, int) and 0 <= value <= MOST_WEIGHT else 0


def _step(run: Mapping[str, Any]) -> str:
    return f"step {run['step']} of {run.get('steps', 0)}" if run.get("step") else "before the first step"


def _metric(metric: str, verdict: Mapping[str, Any]) -> str:
    estimate = verdict.get("estimate")
    if metric not in METRICS:
        return f"  {metric:8} {'-' if estimate is None else f'{estimate:.6g}':>9} {verdict['verdict']:12} {verdict['reason']}"
    value = "-" if estimate is None else (f"{estimate:.3f}" if metric == "drift" else f"{100 * estimate:.2f} %")
    limits = [verdict.get("slo"), verdict.get("abort")]
    shown = "/".join("-" if limit is None else (f"{limit:g}" if metric == "drift" else f"{100 * limit:g} %") for limit in limits)
    have, need = verdict.get("have", 0), verdict.get("need", 0)
    waiting = verdict["verdict"] == "Insufficient" and need < MOST_NEEDED
    of = f"{have:.0f} of {need:.0f}" if waiting else f"{have:.0f} requests"
    return f"  {metric:8} {value:>9} {UNITS[metric]:8} limits {shown:11} {verdict['verdict']:12} {verdict['reason']:19} {of}"
