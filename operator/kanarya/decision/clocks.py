"""What becomes of the state when a clock was set. Pure."""

from __future__ import annotations

from typing import Any

from kanarya.decision.plausible import AHEAD_SECONDS
from kanarya.decision.state import State

UNNOTED_SECONDS = 60.0
"""From the latest time noted to the newest sample from before the clock was set back, and until that is stale."""
_TIMES = (
    "started",
    "weight_since",
    "proof_since",
    "step_since",
    "watermark",
    "drift_since",
    "drift_watermark",
    "within_since",
    "unready_since",
    "storm_since",
    "sampled_since",
    "checked",
)
"""Of a run: all that are never later than the present."""


def set_forward(state: State, now: float, seconds: float) -> State:
    """Give the state after the clock was set forward by so many seconds: what was noted by a slow clock lies earlier than it was.

    The next rise needs samples newer than this. What was counted still stands, and counting goes on from there; only where the next
    samples may be from before the weight changed, it begins again.
    """
    run = state.run
    if run is None:
        return state
    changes: dict[str, Any] = {"proof_since": now}
    if run.weight_since + seconds > run.watermark:
        changes |= run.afresh(now)
    return state.model_copy(update={"run": run.model_copy(update=changes)})


def set_back(state: State, now: float, seconds: float) -> State:
    """Give the state after the clock was set back by so many seconds: Prometheus' may have been, too.

    Then it shows, for a second time, what it stored for these times before. While it did not answer nothing was noted by which `begun`
    could tell that, and the next run has yet to begin.
    """
    return _doubting(state, now + seconds + UNNOTED_SECONDS, now)


def begun(state: State, now: float) -> State:
    """Let what began in the future begin now: the clock was set back, and nothing may wait until it has caught up.

    Only a rise does, within bounds: a process that did not see the clock being set back knows of it by what it reads of the last one.
    """
    run = state.run
    noted = {} if run is None else {name: getattr(run, name) or 0.0 for name in _TIMES}
    latest = max([*noted.values(), *(entry.finished for entry in state.history)], default=0.0)
    if latest > now:
        state = _doubting(state, latest + UNNOTED_SECONDS, now)
    if state.doubted_until > now + AHEAD_SECONDS:  # the clock was set back again
        state = state.model_copy(update={"doubted_until": now})
    if run is None:
        return state
    ahead: dict[str, Any] = {name: now for name, at in noted.items() if at > now}
    if any(since > now for since in run.missing_since.values()):
        ahead["missing_since"] = {policy: min(since, now) for policy, since in run.missing_since.items()}
    if any(watch.until > now for watch in run.custom.values()):
        ahead["custom"] = {name: watch.not_after(now) for name, watch in run.custom.items()}
    return state.model_copy(update={"run": run.model_copy(update=ahead)}) if ahead else state


def _doubting(state: State, until: float, now: float) -> State:
    """Let no rise go by samples up to a time, unless that is too far away to be waited for."""
    if until <= state.doubted_until or until > now + AHEAD_SECONDS:
        return state
    return state.model_copy(update={"doubted_until": until})
