"""What is kept of a rollout between two passes, and what follows from it: when the next one comes, what is worth writing. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kanarya.cluster.objects import Plan
from kanarya.decision.counts import Reading
from kanarya.decision.draft import Decision
from kanarya.decision.state import State
from kanarya.telemetry.counting import LAG_SECONDS
from kanarya.telemetry.feed import SHARE_SECONDS

PATIENCE_SECONDS = 30.0
"""For so long a pass over a rollout whose candidate has no weight lets others go first."""
SETTLED_SLACK_SECONDS = 0.05


@dataclass
class Memory:
    """What the process remembers of one rollout between passes. Losing it costs nothing but a few reads."""

    looked: tuple[float, float]
    """When the last pass looked, or the process began, by the clock and by one that is never set."""
    alone: tuple[str, float] = ("", 0.0)
    plan: Plan | None = None
    state: State | None = None
    saved: Any = None
    saved_at: float = 0.0
    seen: tuple[Any, ...] = ()
    changed: float = 0.0
    decision: Decision | None = None
    decided_at: float = 0.0
    rolling_since: float | None = None
    newest: float | None = None
    told_at: float = 0.0
    lowering: bool = False
    """A lower weight was being written and there was no answer: it may have come any time since."""
    problem: str = ""
    """What was wrong with the checkpoint, until it is told: a weight may have to go down first."""


def patience(memory: Memory) -> float:
    """Give the seconds for which others may go first: none while the candidate has weight, which a look may have to take away.

    That holds for what such a pass writes too: until that is done the next look cannot begin.
    """
    run = None if memory.state is None else memory.state.run
    return 0.0 if run is not None and run.weight > 0 else PATIENCE_SECONDS


def until_settled(reading: Reading | None, now: float) -> float:
    """Give the seconds until samples that were too young for this look can be counted: no breach waits for them and a tick.

    A look before the source's answer is too old to be shared would only see the same again.
    """
    if reading is None or reading.newest is None or reading.newest <= reading.until:
        return math.inf
    age = max(now - reading.until - LAG_SECONDS, 0.0)
    return max(max(reading.newest - reading.until, SHARE_SECONDS) - age, 0.0) + SETTLED_SLACK_SECONDS


def essence(state: State) -> dict[str, Any]:
    """Give the part of the state whose change is worth a write at once: not the counts, which change with every look."""
    document = state.model_dump(mode="json", exclude={"chain": {"outbox"}})
    if document.get("run"):
        for key in ("counts", "drift", "watermark", "drift_watermark", "custom", "message", "reason"):
            document["run"].pop(key, None)
    return document


def comparable(status: Any) -> Any:
    """Give a status without empty values and without messages that only count seconds down."""
    if isinstance(status, dict):
        return {key: comparable(value) for key, value in status.items() if value not in (None, "", [], ()) and key != "message"}
    if isinstance(status, list | tuple):
        return [comparable(value) for value in status]
    return status
