"""From a decision to the resource's status. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kanarya.api.status import CONDITION_TYPES, Condition, ConditionType, HistoryEntry, RolloutStatus, RunStatus, StableStatus
from kanarya.cluster import names
from kanarya.cluster.events import timestamp
from kanarya.cluster.port import Object
from kanarya.decision.draft import Decision
from kanarya.decision.state import Ended, Run, Stage, State
from kanarya.decision.verdict import Kind, ordered
from kanarya.decision.world import World

Truth = Literal["True", "False", "Unknown"]
Judgement = tuple[Truth, str, str]
"""Status, reason and message of a condition."""


@dataclass(frozen=True)
class Report:
    """What is known when status is written.

    Without a decision the rollout was refused, for `refusal` (reason, message); with both, only its newest spec was, and a run goes on.
    """

    rollout: Object
    state: State
    now: float
    world: World | None = None
    decision: Decision | None = None
    refusal: tuple[str, str] | None = None


def status_of(report: Report) -> dict[str, Any]:
    """Give the whole status in its JSON form."""
    state, run = report.state, report.state.run
    generation = int(report.rollout["metadata"].get("generation", 0))
    decided = None if report.decision is None else (report.decision.reason, report.decision.message)
    reason, message = decided or report.refusal or ("Unknown", "")
    serving = None if report.world is None or state.stable is None else report.world.stables.get(state.stable.revision)
    status = RolloutStatus(
        observed_generation=generation,
        summary=_summary(report),
        reason=reason,
        step_summary=_steps(run),
        replicas=0 if serving is None else serving.replicas,
        selector=_selector(report.rollout, state),
        conditions=_conditions(report, reason, message, generation),
        stable=None
        if state.stable is None
        else StableStatus(
            revision=state.stable.revision,
            version=state.stable.version[:256],
            images=tuple(image[:1024] for image in state.stable.images[:50]),
        ),
        run=None if run is None else _run(run),
        history=tuple(_ended(entry, report.rollout["metadata"]["name"]) for entry in state.history),
    )
    return status.model_dump(mode="json", by_alias=True)


def _summary(report: Report) -> str:
    if report.decision is None and report.refusal:
        return "Refused"
    state = report.state
    if state.run is not None:
        return _stage(state.run)
    if state.stable is None:
        return "Adopting"
    return state.history[-1].outcome if state.history else "Idle"


def _stage(run: Run) -> str:
    if run.observing and run.stage in (Stage.STEPPING, Stage.SOAKING):
        return "Observing"
    return "Progressing" if run.stage is Stage.STEPPING else run.stage.value


def _steps(run: Run | None) -> str:
    if run is None or run.spec is None:
        return ""
    return f"{run.step + 1}/{len(run.spec.plan.steps)}"


def _selector(rollout: Object, state: State) -> str:
    if state.stable is None:
        return ""
    return f"{names.ROLLOUT}={rollout['metadata']['name']},{names.TRACK}=stable,{names.REVISION}={state.stable.revision}"


def _run(run: Run) -> RunStatus:
    return RunStatus(
        id=run.id,
        revision=run.candidate.revision,
        version=run.candidate.version[:256],
        step=run.step + 1,
        steps=len(run.spec.plan.steps) if run.spec else 0,
        mode=run.spec.mode if run.spec else "",
        weight=run.weight,
        virtual_weight=run.virtual_weight,
        since=timestamp(run.step_since),
        reason=run.reason,
        spec_digest=run.spec_digest,
    )


def _ended(entry: Ended, rollout: str) -> HistoryEntry:
    return HistoryEntry(
        run=entry.run,
        version=entry.version[:256],
        outcome=entry.outcome,
        reason=entry.reason,
        message=entry.message[:1024],
        finished=timestamp(entry.finished),
        evidence=names.evidence(rollout, entry.run, 1),
        evidence_head=entry.evidence_head,
    )


def _conditions(report: Report, reason: str, message: str, generation: int) -> tuple[Condition, ...]:
    judgements: dict[ConditionType, Judgement] = {
        "Accepted": ("False", *report.refusal) if report.refusal else ("True", "Valid", "the operator works on this spec"),
        "Ready": _ready(report, reason, message),
        "Progressing": _progressing(report, reason, message),
        "Promotable": _promotable(report),
        "Released": _released(report.state),
    }
    before = {entry.get("type"): entry for entry in report.rollout.get("status", {}).get("conditions", [])}
    return tuple(_condition(kind, judgements[kind], before.get(kind, {}), generation, report.now) for kind in CONDITION_TYPES)


def _condition(kind: ConditionType, judgement: Judgement, before: Mapping[str, Any], generation: int, now: float) -> Condition:
    truth, reason, message = judgement
    same = before.get("status") == truth and before.get("lastTransitionTime")
    return Condition(
        type=kind,
        status=truth,
        reason=reason or "Unknown",
        message=message[:1024],
        observed_generation=generation,
        last_transition_time=before["lastTransitionTime"] if same else timestamp(now),
    )


def _ready(report: Report, reason: str, message: str) -> Judgement:
    """Stable serves: stays True during a run and after a rollback, so that tools which wait for it do not wait for the release."""
    state, world = report.state, report.world
    if report.decision is None or state.stable is None or world is None:
        return "False", reason, message
    serving = world.stables.get(state.stable.revision)
    if serving is not None and serving.available > 0 and world.route is not None:
        return "True", "StableServes", f"stable is {state.stable.version or state.stable.revision}"
    return "False", "StableUnavailable", "no pod of stable is available"


def _progressing(report: Report, reason: str, message: str) -> Judgement:
    if report.state.run is not None and report.decision is not None:
        return "True", reason, message
    return "False", reason, message


def _promotable(report: Report) -> Judgement:
    if report.state.run is None:
        return "Unknown", "NoRun", "no release is under way"
    verdicts = report.decision.verdicts if report.decision else {}
    if not verdicts:
        return "False", "NotJudged", "nothing has been judged yet"
    bad = [metric for metric in ordered(verdicts) if verdicts[metric].kind is not Kind.GOOD]
    if not bad:
        return "True", "AllGood", "every metric of this step is Good"
    verdict = verdicts[bad[0]]
    return "False", verdict.reason, "; ".join(f"{metric} is {verdicts[metric].kind.value}" for metric in bad)


def _released(state: State) -> Judgement:
    if not state.history:
        return "Unknown", "NeverReleased", "no release has ended yet"
    last = state.history[-1]
    said = f"run {last.run}: {last.reason}" + (f": {last.message}" if last.message else "")
    return ("True" if last.outcome == "Succeeded" else "False"), last.outcome, said
