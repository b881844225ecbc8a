"""Outcomes of many runs as shares with their intervals, and times."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from kanarya.cli.simulation.runs import Outcome
from kanarya.decision.statistics.exact import lower_bound, upper_bound


def interval(events: int, runs: int, confidence: float = 0.95) -> tuple[float, float]:
    """Give the two-sided exact interval of a share (Clopper and Pearson)."""
    alpha = (1 - confidence) / 2
    return lower_bound(events, runs, alpha), upper_bound(events, runs, alpha)


def quantile(values: Sequence[float], share: float) -> float | None:
    """Give the smallest value that at least `share` of the values do not exceed; None without values."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else None


def share_json(events: int, runs: int) -> dict[str, Any]:
    """Give a share of the runs with its 95 % interval."""
    low, high = interval(events, runs)
    return {"runs": events, "share": events / runs, "low": low, "high": high}


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Give the JSON form of what came out of the runs of one scenario."""
    runs = len(outcomes)
    found: dict[str, Any] = {}
    for name in ("Promoted", "RolledBack", "Interrupted", "Expired"):
        these = [one for one in outcomes if one.outcome == name]
        told: dict[str, Any] = share_json(len(these), runs)
        if these:
            told |= {
                "reasons": dict(Counter(one.reason for one in these).most_common()),
                "steps": {str(step): count for step, count in sorted(Counter(one.step for one in these).items())},
                "seconds": spread([one.seconds for one in these]),
                "candidateRequests": spread([one.requests for one in these]),
                "liveRequests": spread([one.live for one in these]),
                "reactionSeconds": spread([one.reaction_seconds for one in these]),
                "reactionRequests": spread([one.reaction_requests for one in these]),
            }
        found[name] = told
    return {"runs": runs, "outcomes": found}


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Give the median and the value that 95 % of the runs do not exceed."""
    return {"median": quantile(values, 0.5), "p95": quantile(values, 0.95)}


def percent(share: float) -> str:
    """Write a share so that small ones stay apart from none."""
    return f"{100 * share:.1f} %" if share == 0 or share >= 0.0005 else f"{100 * share:.2f} %"


def duration(seconds: float | None) -> str:
    """Write seconds for people."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
