"""The stages of a run, each with the proof it asks for before the next."""

from __future__ import annotations

from typing import Any

from kanarya.decision import evidence, offline
from kanarya.decision.actions import EnsureStable, LowerWeight, PointStable, RaiseWeight, WriteSettings
from kanarya.decision.counts import Missing, Reading
from kanarya.decision.draft import SOON, Draft
from kanarya.decision.ending import WOULD_PROMOTE, end, withdraw
from kanarya.decision.keeping import FOLLOW_SECONDS
from kanarya.decision.observing import analysis_of, blocking_of, fresh, judged_of
from kanarya.decision.state import Run, Stage, State
from kanarya.decision.verdict import Kind, Verdict

QUIET_SECONDS = 10.0
"""A run leaves Preflight only this long after the last change of target or rollout: Helm applies custom resources last."""
SHOWING_SECONDS = 30.0
"""From the first copies on, or since they could have come, Preflight waits so long at most for enough to tell a broken candidate.

What those there are show does not pass with time."""
SETTLE_SECONDS = 5.0
"""Pods that no longer serve are kept this long after the switch, so that every router has noticed."""


def preflight(draft: Draft) -> None:
    """Keep the first weight back until everything is there that a run needs."""
    run = draft.run
    problems = _problems(draft) or _unshown(draft)
    measured = _measured_otherwise(draft)
    if problems:
        sentences = dict.fromkeys(sentence.removesuffix(".") for sentence in (*(sentence for _, sentence in problems), *measured))
        return draft.say(problems[0][0], "; ".join(sentences), SOON)
    if draft.spec.paused:
        return draft.say("Paused", "everything is ready; spec.paused keeps the first weight back", SOON)
    if run.spec is None:
        draft.latch()
        if measured:
            draft.notice("Warning", "MeasuredOtherwise", "; ".join(measured))
    _go_to(draft, 0)
    return None


def _problems(draft: Draft) -> list[tuple[str, str]]:
    """List everything that keeps the first weight back, at once."""
    run, world = draft.run, draft.world
    found: list[tuple[str, str]] = []
    if world.selecting:
        names = ", ".join(world.selecting)
        found.append(("ServiceSelectsTarget", f"Service {names} selects the target's own pods: let it select the pods of ml-router"))
    if not world.service_exists:
        found.append(("ServiceNotFound", f"Service {draft.spec.service_ref.name} does not exist: create it"))
    if world.target is not None and draft.now - world.target.changed < QUIET_SECONDS:
        found.append(("TargetChanging", f"waiting until nothing has changed for {QUIET_SECONDS:.0f} s"))
    if world.pods.ready < draft.replicas:
        found.append(("CandidateUnavailable", _ready(draft)))
    route = world.route
    if route is None or not route.intact or route.weight != 0:
        found.append(("RouteNotOurs", "the route is not yet as we wrote it"))
    elif not route.accepted:
        found.append(("RouteNotAccepted", "ml-router has not accepted the route: are its pods running?"))
    if world.settings is None or world.settings[1] != run.candidate.revision or not world.settings_intact:
        found.append(("RouterNotReady", "the router does not know this candidate yet"))
    reading = world.reading
    wanted = _missing(draft, reading)
    if reading is None or (not wanted and not fresh(draft)):
        found.append(("WaitingForSamples", _awaited(draft, "no sample of the candidate that is newer than this run")))
    return found + wanted + _undecided(draft) + _unproven(draft)


def _awaited(draft: Draft, what: str) -> str:
    wait = draft.state.doubted_until - draft.now
    return what if wait <= 0 else f"the clock was set back: samples prove nothing for another {wait:.0f} s"


def _ready(draft: Draft) -> str:
    pods = draft.world.pods
    return f"{pods.ready} of {draft.replicas} candidate pods are ready{f' ({pods.stuck})' if pods.stuck else ''}"


def _missing(draft: Draft, reading: Reading | None) -> list[tuple[str, str]]:
    """List what could not be seen of metrics that are more than told."""
    analysis = draft.spec.analysis
    told = {metric.name for metric in analysis.metrics if metric.action == "Report"} | (
        {"drift"} if analysis.drift.action == "Report" else set()
    )
    missing = {} if reading is None else reading.missing
    detail = "" if reading is None else reading.detail
    metrics: dict[str, list[str]] = {}
    for metric, why in sorted(missing.items()):
        if metric not in told:
            metrics.setdefault(why.value, []).append(metric)
    return [(why, detail or f"{', '.join(lacking)}: {why}") for why, lacking in metrics.items()]


def _unproven(draft: Draft) -> list[tuple[str, str]]:
    """List what the offline report of the candidate's model lacks."""
    reading = draft.world.reading
    problem = offline.problem(analysis_of(draft), {} if reading is None else reading.reports, draft.replicas)
    return [] if problem is None else [problem]


def _measured_otherwise(draft: Draft) -> list[str]:
    """Say what cannot be measured just as the spec says, and how it is measured instead: it keeps nothing back."""
    reading = draft.world.reading
    if reading is None:
        return []
    edges = [
        f"latency is judged beside {threshold} ms: at most {below:g} ms counts as faster and more than {above:g} ms as slower"
        for threshold, (below, above) in reading.edges.items()
    ]
    return [*edges, *reading.notes]


def _undecided(draft: Draft) -> list[tuple[str, str]]:
    """List what copies say against a first weight, or do not say yet: a plainly broken candidate then never gets a live request.

    Too few of them are waited for a while, for where traffic is thin there are never enough. What they show holds as it does in a step.
    """
    run = draft.run
    verdicts = [(metric, draft.verdicts[metric]) for metric in judged_of(draft)]
    if run.storm_since is not None:
        return [(verdict.reason, f"{metric}: {verdict.detail}") for metric, verdict in verdicts if metric in draft.judged.excused]
    left = 0.0 if run.sampled_since is None else SHOWING_SECONDS - (draft.now - run.sampled_since)
    counted = run.counts.candidate.requests > 0
    found: list[tuple[str, str]] = []
    for metric, verdict in verdicts:
        words = f"{metric}, by copies: {_said(verdict)}"
        if verdict.kind is Kind.WITHIN:
            hold = (run.spec or draft.spec).plan.max_hold_seconds
            found.append((verdict.reason, f"{words}; held until that is better, {hold} s (maxHoldSeconds) at most"))
        elif counted and verdict.reason == Missing.COMPARISONS_MISSING.value:
            found.append((verdict.reason, f"{words}; held until that is better"))
        elif left > 0 and (verdict.kind is Kind.INSUFFICIENT or (verdict.kind is Kind.NO_DATA and not counted)):
            found.append((verdict.reason, f"{words}; waiting {left:.0f} s at most"))
    return found


def _said(verdict: Verdict) -> str:
    """Say what a verdict rests on."""
    if verdict.kind is Kind.WITHIN and not verdict.detail and verdict.estimate is not None and verdict.slo is not None:
        return f"{verdict.estimate:.4g}, slo {verdict.slo:.4g}, {verdict.have:.0f} requests"
    return verdict.detail or verdict.reason


def _unshown(draft: Draft) -> list[tuple[str, str]]:
    """Say that no copy has been counted yet: the time to wait for enough begins when all else is there."""
    if draft.run.sampled_since is not None:
        return []
    draft.update_run(sampled_since=draft.now)
    return _undecided(draft)


def _go_to(draft: Draft, index: int) -> None:
    """Enter a step of the plan: by a guarded write, or at once when it has no more weight than there is."""
    run, route = draft.run, draft.world.route
    if run.spec is None or route is None:
        raise AssertionError("a step needs a latched plan and a route")
    planned = run.spec.plan.steps[index].weight
    weight = 0 if run.observing else planned
    draft.record("Decision", decision="Advance", toStep=index + 1, toWeight=weight, **(_virtually(run, planned) | draft.observed()))
    draft.update_run(restarts=draft.world.pods.restarts, checked=draft.now)
    if weight > run.weight:
        draft.update(intent=weight)
        draft.act(RaiseWeight(weight, route.resource_version))
    else:
        draft.state = enter_step(draft.state.model_copy(update={"intent": weight}), index, draft.now)
    draft.say("Advancing", f"to weight {planned}" + (", virtually" if run.observing else ""), 0.5)


def _virtually(run: Run, planned: int) -> dict[str, Any]:
    """Give what an entry of a run that only observes says besides its real weight, 0."""
    return {"virtualWeight": planned} if run.observing else {}


def enter_step(state: State, index: int, now: float) -> State:
    """Give the state at the beginning of a step, with the intended weight carried out."""
    run = state.run
    if run is None or run.spec is None or state.intent is None:
        raise AssertionError("a step is entered with an intent")
    again = index == run.step
    counting = run.onward() if state.intent == run.weight else run.afresh(now)
    changes: dict[str, Any] = {
        "stage": Stage.STEPPING,
        "step": index,
        "weight": state.intent,
        "step_since": now,
        **counting,
        "within_since": None,
        "missing_since": {},
        "unready_since": None,
        "verdicts": {},
        "reason": "Stepping",
        "message": "",
    }
    chain = state.chain
    if chain is not None:
        kind = "WeightRestored" if again else "StepEntered"
        virtual = _virtually(run, run.spec.plan.steps[index].weight)
        chain = evidence.append(chain, kind, now, {"step": index + 1, "weight": state.intent, **virtual})
    return state.model_copy(update={"run": run.model_copy(update=changes), "intent": None, "chain": chain})


def _hold_reason(draft: Draft) -> tuple[str, str] | None:
    """Give why the weight may not rise now, None when the proof is there."""
    run, world = draft.run, draft.world
    for metric in blocking_of(draft):
        verdict = draft.verdicts[metric]
        if verdict.kind is not Kind.GOOD:
            return verdict.reason, f"{metric}: {verdict.kind.value}; {_said(verdict)}"
    if not fresh(draft):
        return "WaitingForSamples", _awaited(draft, "no sample yet that is newer than the last weight change and this process")
    if draft.spec.paused:
        return "Paused", "spec.paused holds the weight"
    if world.pods.ready < draft.replicas:
        return "CandidateNotReady", _ready(draft)
    route = world.route
    if route is None or not route.intact or not route.accepted or route.weight != run.weight:
        return "RouteNotAccepted", "ml-router has not accepted the route as it is"
    if not world.settings_intact:
        return "RouterNotReady", "the router's settings were changed by someone else: what it measures may be something else"
    return None


def _drift_blocks(draft: Draft) -> tuple[str, str] | None:
    run = draft.run
    if run.spec is None or run.spec.analysis.drift.action == "Report":
        return None
    verdict = draft.verdicts["drift"]
    if verdict.kind is Kind.GOOD:
        return None
    return verdict.reason, f"drift: {verdict.kind.value}; {_said(verdict)}"


def stepping(draft: Draft) -> None:
    """Stay at the step for its time and until the proof is there; then the next one."""
    run = draft.run
    if run.spec is None:
        raise AssertionError("a step has a latched plan")
    plan, tick = run.spec.plan, float(run.spec.analysis.interval_seconds)
    step = plan.steps[run.step]
    hold = _hold_reason(draft)
    left = run.step_since + step.duration_seconds - draft.now
    if run.weight < step.weight and not run.observing:  # after a restart or a foreign edit: the step's own weight must be earned again
        return draft.say(*hold, tick) if hold else _go_to(draft, run.step)
    if left > 0:
        reason, message = hold or ("Stepping", f"{left:.0f} s left")
        return draft.say(reason, message, min(tick, left + 0.05))
    if hold:
        return draft.say(*hold, tick)
    last = run.step == len(plan.steps) - 1
    higher = last or plan.steps[run.step + 1].weight > run.spec.analysis.drift.max_weight
    blocked = _drift_blocks(draft) if higher else None
    if blocked and not (last and plan.soak_seconds):
        return draft.say(*blocked, tick)
    if not last:
        return _go_to(draft, run.step + 1)
    if plan.soak_seconds:
        draft.record("Decision", decision="Soak", **draft.observed())
        draft.update_run(stage=Stage.SOAKING, checked=draft.now, step_since=draft.now, **draft.run.onward())
        return draft.say("Soaking", f"{plan.soak_seconds} s at full weight", tick)
    return _promote(draft)


def soaking(draft: Draft) -> None:
    """Stay at full weight for the soak, still judged."""
    run = draft.run
    if run.spec is None:
        raise AssertionError("a soak has a latched plan")
    tick = float(run.spec.analysis.interval_seconds)
    left = run.step_since + run.spec.plan.soak_seconds - draft.now
    hold = _hold_reason(draft)
    if left > 0:
        reason, message = hold or ("Soaking", f"{left:.0f} s left")
        return draft.say(reason, message, min(tick, left + 0.05))
    blocked = hold or _drift_blocks(draft)
    return draft.say(*blocked, tick) if blocked else _promote(draft)


def _promote(draft: Draft) -> None:
    draft.record("Decision", decision="Promote", **draft.observed())
    if draft.run.observing:
        message = f"would have been promoted after {draft.now - draft.run.started:.0f} s"
        return withdraw(draft, "Observed", WOULD_PROMOTE, message)
    draft.update_run(stage=Stage.PROMOTING, reason="Promoting")
    draft.act(EnsureStable(draft.run.candidate.revision, draft.replicas))
    draft.notice("Normal", "Promoting", f"run {draft.run.id}: building the new stable beside the old")
    return draft.say("Promoting", "building the new stable beside the old", SOON)


def promoting(draft: Draft) -> None:
    """Move stable to the candidate's revision: build beside, switch the idle Service, move the weight back."""
    run, world, state = draft.run, draft.world, draft.state
    revision, route = run.candidate.revision, world.route
    new = world.stables.get(revision)
    if new is None or not new.intact or new.replicas != draft.replicas:
        draft.act(EnsureStable(revision, draft.replicas))
        return draft.say("Promoting", "building the new stable beside the old", SOON)
    if world.stable_service != revision:
        if new.available < draft.replicas:
            return draft.say("Promoting", f"{new.available} of {draft.replicas} pods of the new stable are available", SOON)
        if new.rolling:
            return draft.say("Promoting", "waiting until pods of another template are gone from the new stable", SOON)
        hold = _hold_reason(draft)
        if hold:
            return draft.say(*hold, SOON)
        draft.act(PointStable(revision), WriteSettings(revision, revision))
        draft.record("StableSwitched", revision=revision)
        draft.update_run(step_since=draft.now)
        return draft.say("Promoting", "the stable Service goes to the new revision while it has no weight", SOON)
    if world.stable_endpoints < draft.replicas or world.stale_endpoints or draft.now - run.step_since < FOLLOW_SECONDS:
        return draft.say("Promoting", "waiting until the router sees the new stable's pods", SOON / 2)
    if route is None or route.weight != 0:
        draft.act(LowerWeight(0))
    old = state.stable
    retired = {**state.retired}
    if old is not None and old.revision != revision:
        retired[old.revision] = draft.now + draft.spec.scale_down_delay_seconds
    retired.pop(revision, None)
    draft.update(stable=run.candidate, retired=retired, scale_down_at=draft.now + SETTLE_SECONDS)
    draft.act(WriteSettings(revision, None))
    return end(draft, "Succeeded", "Promoted", f"stable is now {run.candidate.version or revision}")
