"""A run under way: every reason to end it, then the proof it needs to go on."""

from __future__ import annotations

from typing import Any

from kanarya.api.rollout import Analysis, LatchedSpec, MissingPolicy, latched
from kanarya.decision import evidence
from kanarya.decision.actions import (
    EnsureStable,
    LowerWeight,
    PointCandidate,
    PointStable,
    RaiseWeight,
    ScaleTarget,
    WriteSettings,
)
from kanarya.decision.counts import Counts, Drift, Missing, add_bins
from kanarya.decision.draft import SOON, Draft
from kanarya.decision.judge import ALL, judge
from kanarya.decision.state import Ended, Outcome, Run, Stage, State
from kanarya.decision.verdict import METRICS, Kind, Metric

BLOCKING: tuple[Metric, ...] = ("errors", "latency", "match")
QUIET_SECONDS = 10.0
"""A run leaves Preflight only this long after the last change of target or rollout: Helm applies custom resources last."""
UNREADY_SECONDS = 60.0
RESTARTS_LIMIT = 2
PERIOD_SECONDS = 60.0
SOAK_PERIOD_SECONDS = 600.0
HISTORY_LIMIT = 10
SETTLED_LOOKS, SETTLED_SECONDS = 4, 15.0
"""Looks, and seconds, after which silence counts as silence rather than as a scrape still to come."""
SETTLE_SECONDS = 5.0
"""Pods that no longer serve are kept this long after the switch, so that every router has noticed."""
SWITCH_SECONDS = 2.0
"""Time that every router has to see new endpoints of the stable Service before it gets traffic."""


def progress(draft: Draft) -> None:
    """Decide on the run of `draft`."""
    if draft.run.stage is Stage.ROLLING_BACK:
        return _finish_rollback(draft)
    _observe(draft)
    ending = _ending(draft)
    if ending is not None:
        return roll_back(draft, *ending)
    was_cut = _keep_route(draft)
    _keep_workloads(draft)
    if was_cut:
        return draft.say("RouteRepaired", "somebody else lowered the weight: the step has to be earned again", SOON)
    match draft.run.stage:
        case Stage.PREFLIGHT:
            _preflight(draft)
        case Stage.STEPPING:
            _stepping(draft)
        case Stage.SOAKING:
            _soaking(draft)
        case Stage.PROMOTING:
            _promoting(draft)
    _record_progress(draft)
    return None


# -- observing ------------------------------------------------------------------------------------------------------------


def _observe(draft: Draft) -> None:
    """Add what was seen since the last look, and judge the step."""
    run, reading = draft.run, draft.world.reading
    if reading is not None and reading.history_lost:
        draft.notice("Warning", "HistoryLost", "Prometheus no longer has the samples since the last look: the step's counts begin again")
        reference = dict(reading.drift.reference)
        draft.update_run(counts=Counts(), watermark=reading.until, drift=Drift({}, reference), drift_watermark=reading.until)
        draft.record("HistoryLost", until=reading.until)
    elif reading is not None and reading.until > run.watermark:
        drift = Drift(add_bins(run.drift.current, reading.drift.current), dict(reading.drift.reference) or run.drift.reference)
        draft.update_run(counts=run.counts + reading.counts, watermark=reading.until, drift=drift, drift_watermark=reading.until)
    run, analysis = draft.run, _analysis(draft)
    elapsed = draft.now - run.weight_since
    draft.verdicts = judge(
        analysis,
        run.counts,
        run.drift,
        {ALL: Missing.SOURCE_DOWN} if reading is None else reading.missing,
        elapsed=elapsed,
        run_elapsed=draft.now - run.drift_since,
        settled=settled(analysis, elapsed),
    )
    within = any(draft.verdicts[metric].kind is Kind.WITHIN for metric in BLOCKING)
    draft.update_run(
        within_since=(run.within_since if run.within_since is not None else draft.now) if within else None,
        missing_since={policy: run.missing_since.get(policy, draft.now) for policy in _missing(draft)},
    )


def _analysis(draft: Draft) -> Analysis:
    """Give what the run is judged by: what it latched, before that what the resource says."""
    return draft.run.spec.analysis if draft.run.spec else draft.spec.analysis


def settled(analysis: Analysis, elapsed: float) -> bool:
    """Whether a step is old enough for silence to mean something."""
    return elapsed > max(SETTLED_LOOKS * analysis.interval_seconds, SETTLED_SECONDS)


def _missing(draft: Draft) -> dict[str, str]:
    """Give, for each policy that applies now, the reason of the first metric without data.

    Preflight waits for data as long as it takes, except when the router has given up mirroring to a candidate that fails.
    """
    policies: dict[str, str] = {}
    preflight = draft.run.stage is Stage.PREFLIGHT
    for metric in BLOCKING:
        verdict = draft.verdicts[metric]
        if verdict.kind is Kind.NO_DATA and (not preflight or verdict.reason == Missing.MIRROR_BREAKER_OPEN.value):
            policies.setdefault(_policy_of(verdict.reason), verdict.reason)
    return policies


def _policy_of(reason: str) -> str:
    return {Missing.NO_TRAFFIC.value: "noTraffic", Missing.SOURCE_DOWN.value: "sourceDown"}.get(reason, "noSeries")


def _fresh(draft: Draft) -> bool:
    """Whether this look's own samples are newer than the process and than the weight they are to speak for."""
    reading, run = draft.world.reading, draft.run
    if reading is None or reading.newest is None or ALL in reading.missing or reading.history_lost:
        return False
    return min(reading.newest, reading.until) > max(draft.world.started, run.weight_since)


# -- ending ---------------------------------------------------------------------------------------------------------------


def _ending(draft: Draft) -> tuple[Outcome, str, str] | None:
    """Give the first reason to end the run, as outcome, reason and message."""
    run, world, now = draft.run, draft.world, draft.now
    if world.abort == run.id:
        return "Aborted", "AbortRequested", f"annotation kanarya.dev/abort names run {run.id}"
    if world.target is None:
        return "RolledBack", "TargetDeleted", "the target Deployment is gone"
    identity = world.target.identity
    if identity is not None and identity.revision != run.candidate.revision:
        stable = draft.state.stable
        if stable is not None and identity.revision == stable.revision:
            return "Superseded", "BackToStable", "the target went back to the stable revision"
        return "Superseded", "NewerRevision", f"the target has a newer revision, {identity.revision}"
    limit = (run.spec.plan if run.spec else draft.spec.plan).max_run_seconds
    if now - run.started > limit:
        return "Expired", "RunTooLong", f"the run lasted longer than maxRunSeconds ({limit} s)"
    return _unavailable(draft) or _breach(draft)


def _unavailable(draft: Draft) -> tuple[Outcome, str, str] | None:
    run, pods, now = draft.run, draft.world.pods, draft.now
    if pods.crash_looping:
        return "RolledBack", "CandidateCrashLooping", f"pod {pods.crash_looping} does not stay up"
    if run.spec is not None and pods.restarts - run.restarts >= RESTARTS_LIMIT:
        return (
            "RolledBack",
            "CandidateRestarting",
            f"the candidate's containers restarted {pods.restarts - run.restarts} times in this step",
        )
    unready = run.weight > 0 and pods.ready == 0
    since = (run.unready_since if run.unready_since is not None else now) if unready else None
    draft.update_run(unready_since=since)
    if since is not None and now - since >= UNREADY_SECONDS:
        return "RolledBack", "CandidateUnavailable", f"no pod of the candidate was ready for {UNREADY_SECONDS:.0f} s"
    return None


def _breach(draft: Draft) -> tuple[Outcome, str, str] | None:
    run, now, analysis = draft.run, draft.now, _analysis(draft)
    aborting: tuple[Metric, ...] = (*BLOCKING, "drift") if analysis.drift.action == "Abort" else BLOCKING
    if run.stage is Stage.PREFLIGHT:  # pods that have just started are slow: only the steps judge latency
        aborting = tuple(metric for metric in aborting if metric != "latency")
    for metric in aborting:
        verdict = draft.verdicts[metric]
        if verdict.kind is Kind.BAD:
            return (
                "RolledBack",
                verdict.reason,
                f"{metric}: {verdict.estimate:.4g}, limit {verdict.abort:.4g}, {verdict.have:.0f} requests",
            )
    policies: dict[str, MissingPolicy] = {
        "noTraffic": analysis.missing_data.no_traffic,
        "noSeries": analysis.missing_data.no_series,
        "sourceDown": analysis.missing_data.source_down,
    }
    for name, reason in _missing(draft).items():
        policy, lasted = policies[name], now - run.missing_since[name]
        if policy.action == "Rollback" and policy.after_seconds is not None and lasted >= policy.after_seconds:
            return "RolledBack", reason, f"no data for {lasted:.0f} s; missingData.{name} allows {policy.after_seconds} s"
    hold = (run.spec.plan if run.spec else draft.spec.plan).max_hold_seconds
    if run.within_since is not None and now - run.within_since >= hold:
        return "RolledBack", "HeldTooLong", f"worse than slo for longer than maxHoldSeconds ({hold} s)"
    return None


def roll_back(draft: Draft, outcome: Outcome, reason: str, message: str) -> None:
    """Take the candidate off the traffic. One write to the route does it; everything else follows."""
    run, world, state = draft.run, draft.world, draft.state
    if run.weight or world.route is None or world.route.weight != 0:
        draft.act(LowerWeight(0, rolled_back=run.id))
    if state.stable is not None and world.stable_service != state.stable.revision:
        draft.act(PointStable(state.stable.revision))
    if run.spec is None and draft.verdicts:
        _latch(draft)
    if draft.run.spec is not None:
        draft.record("Decision", decision="Rollback", outcome=outcome, reason=reason, message=message, **draft.observed())
    draft.update_run(stage=Stage.ROLLING_BACK, weight=0, outcome=outcome, reason=reason, message=message, weight_since=draft.now)
    draft.notice("Normal" if outcome == "Superseded" else "Warning", "RollingBack", f"run {run.id}: {reason}: {message}")
    draft.say(reason, message, 0.1)


def _finish_rollback(draft: Draft) -> None:
    run, world, stable = draft.run, draft.world, draft.state.stable
    if stable is None or run.outcome is None:
        raise AssertionError("a run has a stable to go back to, and an outcome")
    if world.route is None or world.route.weight != 0:
        draft.act(LowerWeight(0, rolled_back=run.id))
    if world.stable_service != stable.revision:
        draft.act(PointStable(stable.revision))
    if draft.actions:
        return draft.say(run.reason, f"{run.message}; writing weight 0 until it holds", 0.5)
    revision = run.candidate.revision
    if revision in world.stables and revision != stable.revision:
        draft.update(retired={**draft.state.retired, revision: draft.now})
    if run.outcome != "Superseded":
        draft.update(rejected=revision)
    mine = world.target is not None and world.target.identity is not None and world.target.identity.revision == revision
    if mine:
        draft.update(scale_down_at=draft.now + draft.spec.scale_down_delay_seconds)
    draft.act(WriteSettings(stable.revision, None))
    return _end(draft, run.outcome, run.reason, run.message)


def _end(draft: Draft, outcome: Outcome, reason: str, message: str) -> None:
    run = draft.run
    draft.record("RunEnded", outcome=outcome, reason=reason, message=message, weight=0)
    head = draft.state.chain.head if draft.state.chain else ""
    entry = Ended(run=run.id, version=run.candidate.version, outcome=outcome, reason=reason, finished=draft.now, evidence_head=head)
    draft.update(run=None, history=(*draft.state.history, entry)[-HISTORY_LIMIT:])
    draft.notice(
        "Normal" if outcome in ("Succeeded", "Superseded") else "Warning",
        outcome,
        f"run {run.id}: {reason}: {message}; evidence {head[:16]}",
    )
    draft.say(outcome, message, 0.1)


# -- keeping --------------------------------------------------------------------------------------------------------------


def _keep_route(draft: Draft) -> bool:
    """Repair a foreign edit. A higher weight goes down at once; a lower one is what the run now has, to be earned again.

    Returns whether the weight was cut: what has been counted then says nothing about the weight there is.
    """
    run, route = draft.run, draft.world.route
    actual = 0 if route is None or route.weight is None else route.weight
    if route is not None and route.intact and actual == run.weight:
        return False
    if route is None or not route.intact or actual > run.weight:
        draft.act(LowerWeight(min(actual, run.weight)))
    draft.notice("Warning", "RouteRepaired", f"someone else changed the route: weight {actual}, ours {run.weight}")
    draft.record("RouteRepaired", found=actual, ours=run.weight)
    switched = draft.world.stable_service == run.candidate.revision
    if actual < run.weight and not (run.stage is Stage.PROMOTING and switched):
        draft.update(run=cut(run, actual, draft.now, switched=switched))
        return True
    return False


def cut(run: Run, weight: int, now: float, *, switched: bool) -> Run:
    """Give the run with a lower weight: its step begins again with no counts, and the step's own weight has to be earned.

    A promotion whose Service has `switched` to the new stable goes on: what the weight lost, the new stable serves.
    """
    before = (Stage.SOAKING,) if switched else (Stage.SOAKING, Stage.PROMOTING)
    changes = {"weight": weight, "weight_since": now, "step_since": now, "watermark": now, "counts": Counts()}
    return run.model_copy(update={**changes, "stage": Stage.STEPPING if run.stage in before else run.stage})


def _keep_workloads(draft: Draft) -> None:
    """Keep both tracks at full size, and the two Services and the settings where this run needs them."""
    run, world, stable = draft.run, draft.world, draft.state.stable
    if stable is None or world.target is None:
        raise AssertionError("a run has a stable and a target")
    current = world.stables.get(stable.revision)
    if current is None or not current.intact or current.replicas != draft.replicas:
        draft.act(EnsureStable(stable.revision, draft.replicas))
        if current is not None and not current.intact:
            draft.notice("Warning", "StableRepaired", f"the stable Deployment of revision {stable.revision} was changed by someone else")
    if world.selecting and run.stage is Stage.PREFLIGHT:
        return  # nothing is scaled while clients reach the target's pods directly
    if world.target.replicas != draft.replicas:
        draft.act(ScaleTarget(draft.replicas))
    if world.candidate_service != run.candidate.revision:
        draft.act(PointCandidate(run.candidate.revision))
    if run.stage is not Stage.PROMOTING and world.stable_service != stable.revision:
        draft.act(PointStable(stable.revision))
    promoted = run.stage is Stage.PROMOTING and world.stable_service == run.candidate.revision
    wanted = (run.candidate.revision if promoted else stable.revision, run.candidate.revision)
    if world.settings != wanted or not world.settings_intact:
        draft.act(WriteSettings(*wanted))


# -- stages ---------------------------------------------------------------------------------------------------------------


def _preflight(draft: Draft) -> None:
    run = draft.run
    problems = dict(_problems(draft))
    if problems:
        reason = next(iter(problems))
        return draft.say(reason, "; ".join(problems.values()), SOON)
    if draft.spec.paused:
        return draft.say("Paused", "everything is ready; spec.paused keeps the first weight back", SOON)
    if run.spec is None:
        _latch(draft)
    _go_to(draft, 0)
    return None


def _latch(draft: Draft) -> None:
    """Fix what the run keeps to, and begin its evidence: once, though the first weight may take several tries."""
    run, stable, whole = draft.run, draft.state.stable, latched(draft.spec)
    digest = evidence.digest(whole)
    draft.update_run(spec=LatchedSpec.model_validate(whole), spec_digest=digest)
    draft.record(
        "RunStarted",
        run=run.id,
        spec=whole,
        specDigest=digest,
        candidate=run.candidate.model_dump(mode="json"),
        stable=None if stable is None else stable.model_dump(mode="json"),
        replicas=draft.replicas,
    )


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
        found.append(("CandidateUnavailable", f"{world.pods.ready} of {draft.replicas} candidate pods are ready"))
    route = world.route
    if route is None or not route.intact or route.weight != 0:
        found.append(("RouteNotOurs", "the route is not yet as we wrote it"))
    elif not route.accepted:
        found.append(("RouteNotAccepted", "ml-router has not accepted the route: are its pods running?"))
    if world.settings is None or world.settings[1] != run.candidate.revision:
        found.append(("RouterNotReady", "the router does not know this candidate yet"))
    reading = world.reading
    if reading is None or (not reading.missing and not _fresh(draft)):
        found.append(("WaitingForSamples", "no sample of the candidate that is newer than this run"))
    elif reading.missing:
        ignored = "drift" if draft.spec.analysis.drift.action == "Report" else ""
        wanted = [(metric, why) for metric, why in sorted(reading.missing.items()) if metric != ignored]
        found += [(why.value, reading.detail or f"{metric}: {why.value}") for metric, why in wanted]
    return found


def _go_to(draft: Draft, index: int) -> None:
    """Enter a step of the plan: by a guarded write, or at once when it has no more weight than there is."""
    run, route = draft.run, draft.world.route
    if run.spec is None or route is None:
        raise AssertionError("a step needs a latched plan and a route")
    weight = run.spec.plan.steps[index].weight
    draft.record("Decision", decision="Advance", toStep=index + 1, toWeight=weight, **draft.observed())
    draft.update_run(restarts=draft.world.pods.restarts, checked=draft.now)
    if weight > run.weight:
        draft.update(intent=weight)
        draft.act(RaiseWeight(weight, route.resource_version))
    else:
        draft.state = enter_step(draft.state.model_copy(update={"intent": weight}), index, draft.now)
    draft.say("Advancing", f"to weight {weight}", 0.5)


def enter_step(state: State, index: int, now: float) -> State:
    """Give the state at the beginning of a step, with the intended weight carried out."""
    run = state.run
    if run is None or run.spec is None or state.intent is None:
        raise AssertionError("a step is entered with an intent")
    again = index == run.step
    changes: dict[str, Any] = {
        "stage": Stage.STEPPING,
        "step": index,
        "weight": state.intent,
        "weight_since": now,
        "step_since": now,
        "watermark": now,
        "counts": Counts(),
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
        chain = evidence.append(chain, kind, now, {"step": index + 1, "weight": state.intent})
    return state.model_copy(update={"run": run.model_copy(update=changes), "intent": None, "chain": chain})


def _hold_reason(draft: Draft) -> tuple[str, str] | None:
    """Give why the weight may not rise now, None when the proof is there."""
    run, world = draft.run, draft.world
    for metric in BLOCKING:
        verdict = draft.verdicts[metric]
        if verdict.kind is not Kind.GOOD:
            return verdict.reason, f"{metric}: {verdict.kind.value}; {verdict.detail or verdict.reason}"
    if not _fresh(draft):
        return "WaitingForSamples", "no sample yet that is newer than the last weight change and this process"
    if draft.spec.paused:
        return "Paused", "spec.paused holds the weight"
    if world.pods.ready < draft.replicas:
        return "CandidateNotReady", f"{world.pods.ready} of {draft.replicas} candidate pods are ready"
    route = world.route
    if route is None or not route.intact or not route.accepted or route.weight != run.weight:
        return "RouteNotAccepted", "ml-router has not accepted the route as it is"
    return None


def _drift_blocks(draft: Draft) -> tuple[str, str] | None:
    run = draft.run
    if run.spec is None or run.spec.analysis.drift.action == "Report":
        return None
    verdict = draft.verdicts["drift"]
    if verdict.kind is Kind.GOOD:
        return None
    return verdict.reason, f"drift: {verdict.kind.value}; {verdict.detail or verdict.reason}"


def _stepping(draft: Draft) -> None:
    run = draft.run
    if run.spec is None:
        raise AssertionError("a step has a latched plan")
    plan, tick = run.spec.plan, float(run.spec.analysis.interval_seconds)
    step = plan.steps[run.step]
    hold = _hold_reason(draft)
    left = run.step_since + step.duration_seconds - draft.now
    if run.weight < step.weight:  # after a restart or a foreign edit: the step's own weight must be earned again
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
        draft.update_run(stage=Stage.SOAKING, step_since=draft.now, weight_since=draft.now, watermark=draft.now, counts=Counts())
        return draft.say("Soaking", f"{plan.soak_seconds} s at full weight", tick)
    return _promote(draft)


def _soaking(draft: Draft) -> None:
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
    draft.update_run(stage=Stage.PROMOTING, reason="Promoting")
    draft.act(EnsureStable(draft.run.candidate.revision, draft.replicas))
    draft.notice("Normal", "Promoting", f"run {draft.run.id}: building the new stable beside the old")
    draft.say("Promoting", "building the new stable beside the old", SOON)


def _promoting(draft: Draft) -> None:
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
        hold = _hold_reason(draft)
        if hold:
            return draft.say(*hold, SOON)
        draft.act(PointStable(revision), WriteSettings(revision, revision))
        draft.record("StableSwitched", revision=revision)
        draft.update_run(step_since=draft.now)
        return draft.say("Promoting", "the stable Service goes to the new revision while it has no weight", SOON)
    if world.stable_endpoints < draft.replicas or world.stale_endpoints or draft.now - run.step_since < SWITCH_SECONDS:
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
    return _end(draft, "Succeeded", "Promoted", f"stable is now {run.candidate.version or revision}")


def _record_progress(draft: Draft) -> None:
    """Record a change of verdict, and now and then the counts as they stand."""
    run = draft.state.run
    if run is None or run.spec is None or not draft.verdicts or run.stage is Stage.ROLLING_BACK:
        return
    verdicts = {metric: f"{draft.verdicts[metric].kind.value}/{draft.verdicts[metric].reason}" for metric in METRICS}
    entered = run.weight_since == draft.now or draft.state.intent is not None
    if verdicts != dict(run.verdicts) and not entered:
        draft.record("VerdictChanged", **draft.observed())
        draft.update_run(verdicts=verdicts, checked=draft.now)
    elif draft.now - run.checked >= (SOAK_PERIOD_SECONDS if run.stage is Stage.SOAKING else PERIOD_SECONDS):
        draft.record("Checkpoint", periodic=True, **draft.observed())
        draft.update_run(checked=draft.now)
    draft.update_run(reason=draft.reason, message=draft.message)
