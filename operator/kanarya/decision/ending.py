"""Every reason to end a run, and the way back to weight 0."""

from __future__ import annotations

from kanarya.api.rollout import MissingPolicy, RolloutSpec
from kanarya.decision.actions import LowerWeight, PointStable, WriteSettings
from kanarya.decision.draft import Draft
from kanarya.decision.observing import analysis_of, judged_of, missing_policies
from kanarya.decision.state import Ended, Outcome, Run, Stage
from kanarya.decision.verdict import Kind, Metric

UNREADY_SECONDS = 60.0
"""A candidate with weight and no ready pod is given up after this."""
STORM_SECONDS = 120.0
"""A run in which stable's failures excuse the candidate's for so long is interrupted."""
MOST_STORMS = 3
"""Runs of one revision in a row that are interrupted in a step: after the last it is not tried again by itself."""
RESTARTS_LIMIT = 2
HISTORY_LIMIT = 10
WOULD_PROMOTE = "WouldPromote"
"""Reason of a run that was only observed, and found good enough."""


Ending = tuple[Outcome, str, str]
"""Outcome, reason and message."""


def requested_ending(run: Run, spec: RolloutSpec, abort: str) -> Ending | None:
    """Give the ending that people ask for, which waits for nothing that Prometheus has to say."""
    if abort == run.id:
        return "Aborted", "AbortRequested", f"annotation kanarya.dev/abort names run {run.id}"
    if run.spec is not None and not run.observing and spec.mode == "Observe":
        return "Aborted", "ModeChanged", "spec.mode went from Live to Observe during the run"
    return None


def ending_of(draft: Draft) -> Ending | None:
    """Give the first reason to end the run. A run that only observes says what it would have done."""
    requested = requested_ending(draft.run, draft.spec, draft.world.abort)
    if requested is not None:
        return requested
    ending = _reason_to_end(draft)
    if ending is None or draft.mode == "Live":
        return ending
    outcome, reason, message = ending
    would = {"RolledBack": "rolled back", "Expired": "ended"}.get(outcome)
    return ending if would is None else ("Observed", reason, f"would have been {would}{_where(draft.run)}: {message}")


def _where(run: Run) -> str:
    if run.spec is None or run.step < 0:
        return " before the first weight"
    return f" at step {run.step + 1} of {len(run.spec.plan.steps)}, weight {run.virtual_weight}"


def _reason_to_end(draft: Draft) -> Ending | None:
    run, world, now = draft.run, draft.world, draft.now
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


def _unavailable(draft: Draft) -> Ending | None:
    run, pods, now = draft.run, draft.world.pods, draft.now
    if pods.crash_looping:
        return "RolledBack", "CandidateCrashLooping", f"pod {pods.crash_looping} does not stay up"
    # Restarts go away with their pod: those of the pods that took its place count from there.
    draft.update_run(restarts=min(run.restarts, pods.restarts))
    run = draft.run
    if run.spec is not None and pods.restarts - run.restarts >= RESTARTS_LIMIT:
        return (
            "RolledBack",
            "CandidateRestarting",
            f"the candidate's containers restarted {pods.restarts - run.restarts} times in this step",
        )
    unready = (run.weight or run.virtual_weight) > 0 and pods.ready == 0
    since = (run.unready_since if run.unready_since is not None else now) if unready else None
    draft.update_run(unready_since=since)
    if since is not None and now - since >= UNREADY_SECONDS:
        return "RolledBack", "CandidateUnavailable", f"no pod of the candidate was ready for {UNREADY_SECONDS:.0f} s"
    return None


def _breach(draft: Draft) -> Ending | None:
    run, now, analysis = draft.run, draft.now, analysis_of(draft)
    judged = judged_of(draft)
    aborting: tuple[Metric, ...] = (*judged, "drift") if analysis.drift.action == "Abort" else judged
    for metric in aborting:
        verdict = draft.verdicts[metric]
        if verdict.kind is Kind.BAD:
            numbers = f"{verdict.estimate:.4g}, limit {verdict.abort:.4g}, {verdict.have:.0f} requests"
            return "RolledBack", verdict.reason, f"{metric}: {verdict.detail if verdict.reason == 'ValueBeyondAbort' else numbers}"
    if run.storm_since is not None and now - run.storm_since >= STORM_SECONDS:
        return "Interrupted", "StableAboveAbort", f"stable itself has been above abort for {now - run.storm_since:.0f} s"
    policies: dict[str, MissingPolicy] = {
        "noTraffic": analysis.missing_data.no_traffic,
        "noSeries": analysis.missing_data.no_series,
        "sourceDown": analysis.missing_data.source_down,
    }
    for name, reason in missing_policies(draft).items():
        policy, lasted = policies[name], now - run.missing_since[name]
        if policy.action == "Rollback" and policy.after_seconds is not None and lasted >= policy.after_seconds:
            return "RolledBack", reason, f"no data for {lasted:.0f} s; missingData.{name} allows {policy.after_seconds} s"
    hold = (run.spec.plan if run.spec else draft.spec.plan).max_hold_seconds
    if run.within_since is not None and now - run.within_since >= hold:
        return "RolledBack", "HeldTooLong", f"worse than slo for longer than maxHoldSeconds ({hold} s)"
    return None


def roll_back(draft: Draft, outcome: Outcome, reason: str, message: str) -> None:
    """Take the candidate off the traffic, for a reason that evidence keeps."""
    if draft.run.spec is None and draft.verdicts:
        draft.latch()
    if draft.run.spec is not None:
        draft.record("Decision", decision="Rollback", outcome=outcome, reason=reason, message=message, **draft.observed())
    withdraw(draft, outcome, reason, message)


def withdraw(draft: Draft, outcome: Outcome, reason: str, message: str) -> None:
    """Begin the way back to weight 0. One write to the route does it; everything else follows."""
    run, world, state = draft.run, draft.world, draft.state
    if run.weight or world.route is None or world.route.weight != 0:
        draft.act(LowerWeight(0, rolled_back=run.id))
    if state.stable is not None and world.stable_service != state.stable.revision and state.stable.revision in world.stables:
        draft.act(PointStable(state.stable.revision))
    draft.update_run(stage=Stage.ROLLING_BACK, weight=0, outcome=outcome, reason=reason, message=message, weight_since=draft.now)
    if outcome != "Observed":
        draft.notice("Normal" if outcome == "Superseded" else "Warning", "RollingBack", f"run {run.id}: {reason}: {message}")
    draft.say(reason, message, 0.1)


def finish_rollback(draft: Draft) -> None:
    """Write weight 0 until it holds, then end the run."""
    run, world, stable = draft.run, draft.world, draft.state.stable
    if stable is None or run.outcome is None:
        raise AssertionError("a run has a stable to go back to, and an outcome")
    if world.route is None or world.route.weight != 0:
        draft.act(LowerWeight(0, rolled_back=run.id))
    if world.stable_service != stable.revision and stable.revision in world.stables:
        draft.act(PointStable(stable.revision))
    if draft.actions:
        return draft.say(run.reason, f"{run.message}; writing weight 0 until it holds", 0.5)
    revision = run.candidate.revision
    if revision in world.stables and revision != stable.revision:
        draft.update(retired={**draft.state.retired, revision: draft.now})
    message, last = run.message, _brings_storms(draft)
    if last:
        message += f"; {MOST_STORMS} runs in a row were calm until a step began, so there is no other by itself"
    if last or run.outcome not in ("Superseded", "Interrupted"):
        draft.update(rejected=revision)
    mine = world.target is not None and world.target.identity is not None and world.target.identity.revision == revision
    if mine:
        draft.update(scale_down_at=draft.now + draft.spec.scale_down_delay_seconds)
    draft.act(WriteSettings(stable.revision, None))
    return end(draft, run.outcome, run.reason, message)


def _brings_storms(draft: Draft) -> bool:
    """Whether so many runs of the revision in a row were interrupted that the revision is what they have in common.

    Preflight ends in calm only: what is counted are storms that came once the candidate had a step's requests.
    """
    run = draft.run
    row = draft.state.interrupted(run.candidate.revision)
    return run.outcome == "Interrupted" and run.step >= 0 and sum(entry.stepped for entry in row) >= MOST_STORMS - 1


def end(draft: Draft, outcome: Outcome, reason: str, message: str) -> None:
    """End the run: its last entry, its place in the history, the Event."""
    run = draft.run
    draft.record("RunEnded", outcome=outcome, reason=reason, message=message, weight=0)
    head = draft.state.chain.head if draft.state.chain else ""
    entry = Ended(
        run=run.id,
        version=run.candidate.version,
        outcome=outcome,
        reason=reason,
        message=message,
        finished=draft.now,
        evidence_head=head,
        stepped=run.step >= 0,
    )
    draft.update(run=None, history=(*draft.state.history, entry)[-HISTORY_LIMIT:])
    draft.notice(
        "Normal" if outcome in ("Succeeded", "Superseded", "Observed") else "Warning",
        outcome,
        f"run {run.id}: {reason}: {message}; evidence {head[:16]}",
    )
    draft.say(outcome, message, 0.1)
