"""One look at a run under way: every reason to end it, then the proof it needs to go on."""

from __future__ import annotations

from kanarya.decision.draft import SOON, Draft
from kanarya.decision.ending import ending_of, finish_rollback, roll_back
from kanarya.decision.keeping import keep_route, keep_workloads
from kanarya.decision.observing import observe
from kanarya.decision.stages import preflight, promoting, soaking, stepping
from kanarya.decision.state import Stage
from kanarya.decision.verdict import ordered

PERIOD_SECONDS, SOAK_PERIOD_SECONDS = 60.0, 600.0
"""How often evidence gets an entry though nothing has changed."""


def progress(draft: Draft) -> None:
    """Decide on the run of `draft`."""
    if draft.run.stage is Stage.ROLLING_BACK:
        return finish_rollback(draft)
    observe(draft)
    ending = ending_of(draft)
    if ending is not None:
        return roll_back(draft, *ending)
    was_cut = keep_route(draft)
    keep_workloads(draft)
    if was_cut:
        return draft.say("RouteRepaired", "somebody else lowered the weight: the step has to be earned again", SOON)
    match draft.run.stage:
        case Stage.PREFLIGHT:
            preflight(draft)
        case Stage.STEPPING:
            stepping(draft)
        case Stage.SOAKING:
            soaking(draft)
        case Stage.PROMOTING:
            promoting(draft)
    _record_progress(draft)
    return None


def _record_progress(draft: Draft) -> None:
    """Record a change of verdict, and now and then the counts as they stand."""
    run = draft.state.run
    if run is None or run.spec is None or not draft.verdicts or run.stage is Stage.ROLLING_BACK:
        return
    verdicts = {metric: f"{draft.verdicts[metric].kind.value}/{draft.verdicts[metric].reason}" for metric in ordered(draft.verdicts)}
    entered = run.step_since == draft.now or draft.state.intent is not None
    if verdicts != dict(run.verdicts) and not entered:
        draft.record("VerdictChanged", **draft.observed())
        draft.update_run(verdicts=verdicts, checked=draft.now)
    elif draft.now - run.checked >= (SOAK_PERIOD_SECONDS if run.stage is Stage.SOAKING else PERIOD_SECONDS):
        draft.record("Checkpoint", periodic=True, **draft.observed())
        draft.update_run(checked=draft.now)
    draft.update_run(reason=draft.reason, message=draft.message)
