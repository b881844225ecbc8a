"""A rollout as a few lines of text: for `kanarya status` and the demo. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kanarya.decision.verdict import METRICS

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
    status = rollout.get("status", {})
    run, stable = status.get("run") or {}, status.get("stable") or {}
    metadata = rollout["metadata"]
    lines = [
        f"{metadata['namespace']}/{metadata['name']}   {status.get('summary') or 'Unknown'}   {status.get('reason', '')}",
        f"stable {stable.get('version') or stable.get('revision') or '-'}"
        + (f"   candidate {run['version'] or run['revision']}" if run else ""),
    ]
    if run:
        weight = int(run.get("weight", 0))
        filled = round(BAR * weight / 100)
        virtual = f", observed as if at {run['virtualWeight']} %" if run.get("virtualWeight") else ""
        lines.append(f"weight {weight:3d} %  [{'#' * filled}{'.' * (BAR - filled)}]  {_step(run)}{virtual}")
    verdicts = live.get("verdicts") or {}
    lines += [_metric(metric, verdicts[metric]) for metric in METRICS if metric in verdicts]
    if live.get("message"):
        lines.append(f"{live['reason']}: {live['message']}")
    elif status.get("conditions"):
        progressing: Mapping[str, Any] = next((item for item in status["conditions"] if item["type"] == "Progressing"), {})
        if progressing.get("message"):
            lines.append(f"{progressing['reason']}: {progressing['message']}")
    if live.get("newestSample"):
        lines.append(f"newest sample {max(now - live['newestSample'], 0):.0f} s old")
    for entry in (status.get("history") or [])[-3:]:
        lines.append(f"  {entry['finished']}  {entry['run']}  {entry.get('version', '')}  {entry['outcome']}  {entry['reason']}")
    return "\n".join(lines)


def _step(run: Mapping[str, Any]) -> str:
    return f"step {run['step']} of {run.get('steps', 0)}" if run.get("step") else "before the first step"


def _metric(metric: str, verdict: Mapping[str, Any]) -> str:
    estimate = verdict.get("estimate")
    value = "-" if estimate is None else (f"{estimate:.3f}" if metric == "drift" else f"{100 * estimate:.2f} %")
    limits = [verdict.get("slo"), verdict.get("abort")]
    shown = "/".join("-" if limit is None else (f"{limit:g}" if metric == "drift" else f"{100 * limit:g} %") for limit in limits)
    have, need = verdict.get("have", 0), verdict.get("need", 0)
    of = f"{have:.0f} requests" if verdict["verdict"] != "Insufficient" else f"{have:.0f} of {need:.0f}"
    return f"  {metric:8} {value:>9} {UNITS[metric]:8} limits {shown:11} {verdict['verdict']:12} {verdict['reason']:19} {of}"
