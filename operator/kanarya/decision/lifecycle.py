"""The lifecycle of a rollout: from one look at the world to a decision. Pure: no clock, no I/O, no randomness.

::

    adopting -> idle -> preflight -> step 1 … n -> soak -> promoting -> idle (Succeeded)
                            └───────────┴── breach, silence, abort … ──> rolling back -> idle
"""

from __future__ import annotations

from kanarya.api.rollout import RolloutSpec
from kanarya.decision.actions import (
    DeleteStable,
    LowerWeight,
    PointCandidate,
    PointStable,
    RaiseWeight,
    ScaleTarget,
    WriteSettings,
)
from kanarya.decision.draft import SOON, Decision, Draft
from kanarya.decision.ending import WOULD_PROMOTE
from kanarya.decision.keeping import cut, keep_stable, repair_service
from kanarya.decision.progress import progress
from kanarya.decision.stages import SETTLE_SECONDS, enter_step
from kanarya.decision.state import Chain, Run, Stage, State
from kanarya.decision.world import Target, World

CALM_SECONDS, LONGEST_CALM_SECONDS = 300.0, 3600.0
"""Time from an interruption to the next run of the same revision: after the first, and at most."""
FRUITLESS_SECONDS = 120.0
"""After this a clone without any available pod may be given up for another template."""


def decide(spec: RolloutSpec, state: State, world: World, now: float) -> Decision:
    """Decide what to do.

    Parameters
    ----------
    spec
        The rollout's spec as it is now; a run under way keeps to what it latched.
    state
        What the last decision left behind.
    world
        One look at the cluster and at Prometheus.
    now
        Epoch seconds.
    """
    draft = Draft(spec, state, world, now)
    if state.run is not None:
        progress(draft)
    elif state.stable is None:
        _adopt(draft)
    else:
        _idle(draft)
    return draft.finish()


def lowered(state: State, now: float) -> State:
    """Give the state once a lower weight is on the route: the next rise needs samples newer than this, not than the decision."""
    run = state.run
    return state if run is None else state.model_copy(update={"run": run.model_copy(update={"proof_since": max(run.proof_since, now)})})


def recover(state: State, world: World, now: float) -> State:
    """Give the state a new process begins with: the lower of the two weights, and no intent that was not carried out.

    A rollback that reached the route, but not the checkpoint, is finished. A checkpoint whose stable is not there, while the stable
    Service selects one that is, does not say what serves: the rollout is adopted anew.
    """
    state = state.model_copy(update={"intent": None})
    if state.stable is not None and state.stable.revision not in world.stables and world.stable_service in world.stables:
        return state.model_copy(update={"stable": None, "run": None, "retired": {}, "scale_down_at": None})
    run, route = state.run, world.route
    if run is None:
        return state
    if route is not None and route.rolled_back == run.id and run.stage is not Stage.ROLLING_BACK:
        changes = {"stage": Stage.ROLLING_BACK, "weight": 0, "outcome": "RolledBack", "reason": "RollbackResumed"}
        message = "the route was already written back when the operator stopped"
        return state.model_copy(update={"run": run.model_copy(update={**changes, "message": message})})
    actual = 0 if route is None else route.weight or 0
    weight = min(run.weight, actual)
    # Without a route nobody knows what weight there was last: even a step of weight 0 has to begin again.
    if run.stage is Stage.ROLLING_BACK or (route is not None and run.weight == actual):
        return state
    return state.model_copy(update={"run": cut(run, weight, now, switched=world.stable_service == run.candidate.revision)})


def carried_out(decision: Decision, at: float) -> State:
    """Give the state once everything that a decision asks for is done, a higher weight at the time `at`."""
    raising = any(isinstance(action, RaiseWeight) for action in decision.actions)
    return raised(decision.state, at) if raising else decision.state


def raised(state: State, now: float) -> State:
    """Give the state once the intended weight is on the route."""
    run = state.run
    if run is None or run.spec is None or state.intent is None:
        raise AssertionError("nothing was intended")
    index = next(i for i, step in enumerate(run.spec.plan.steps) if step.weight == state.intent)
    return enter_step(state, index, now)


def _adopt(draft: Draft) -> None:
    """Trust the first revision seen: clone it as stable, and take the target away only when the clone serves."""
    world, target = draft.world, draft.world.target
    if world.route is not None and world.route.weight != 0:  # left over from a run that nobody remembers
        draft.act(LowerWeight(0))
    if target is None:
        return draft.say("TargetNotFound", f"Deployment {draft.spec.target_ref.name} does not exist: create it", None)
    revision = _to_adopt(draft, target)
    if revision is None:
        return draft.say("TargetChanging", "the Deployment's controller has not yet acted on its template", SOON)
    if not draft.state.replicas:
        draft.update(replicas=max(target.replicas, 1))
    _keep_serving(draft, revision)
    if not world.service_exists:
        return draft.say("ServiceNotFound", f"Service {draft.spec.service_ref.name} does not exist: create it", SOON * 5)
    if not _serves(draft, revision):
        return draft.say("Adopting", "waiting until stable serves and ml-router has accepted the route", SOON)
    same = target.identity is not None and target.identity.revision == revision
    if same and world.selecting:
        return draft.say("ServiceSelectsTarget", _selecting(draft), SOON)
    if same and target.replicas:
        draft.act(ScaleTarget(0))
    draft.update(stable=world.stables[revision].identity, adopting="")
    draft.notice("Normal", "Adopted", f"stable is revision {revision}")
    return draft.say("Adopted", f"stable is revision {revision}", SOON)


def _to_adopt(draft: Draft, target: Target) -> str | None:
    """Give the revision to trust: a stable that is there, else the target's; None while that is not known.

    Pods behind the stable Service are a stable, too, though their Deployment may have lost the labels by which it is found.
    A clone of our own that never served for minutes gives way when its owner changes the template: it is likely to be the reason.
    """
    world = draft.world
    serves = world.stable_service in world.stables or world.stable_endpoints > 0
    existing = world.stable_service if serves else next(iter(sorted(world.stables)), None)
    current = None if target.identity is None else target.identity.revision
    if existing is not None:
        state, clone = draft.state, world.stables.get(existing)
        unfinished = existing == state.adopting and clone is not None and clone.available == 0
        if current in (None, existing) or not unfinished or draft.now - state.adopting_since < FRUITLESS_SECONDS:
            return existing
        draft.act(DeleteStable(existing))
    if current is not None:
        draft.update(adopting=current, adopting_since=draft.now)
    return current


def _idle(draft: Draft) -> None:
    """Keep stable serving; begin a run when the target has a new revision."""
    state, world, target = draft.state, draft.world, draft.world.target
    if state.stable is None:
        raise AssertionError("idle without stable")
    stable = state.stable.revision
    _keep_serving(draft, stable)
    _tidy(draft, stable)
    if target is None:
        return draft.say("TargetNotFound", f"Deployment {draft.spec.target_ref.name} does not exist; stable goes on serving", None)
    if target.identity is None:
        return draft.say("TargetChanging", "the Deployment's controller has not yet acted on its template", SOON)
    revision = target.identity.revision
    if revision == stable:
        if state.rejected:
            draft.update(rejected="")
        if target.replicas and state.scale_down_at is None:
            if world.selecting:
                return draft.say("ServiceSelectsTarget", _selecting(draft), 10.0)
            draft.update(scale_down_at=draft.now + SETTLE_SECONDS)
        return draft.say("Idle", "stable serves; waiting for a new revision", _until_tidy(draft))
    last = state.history[-1] if state.history else None
    found_good = last is not None and last.reason == WOULD_PROMOTE
    if revision == state.rejected and world.retry != state.last_run and not (found_good and draft.spec.mode == "Live"):
        reason = last.reason if last else "unknown"
        way = "set spec.mode to Live" if found_good else "change the template"
        said = f"was observed: it {last.message}" if last and last.outcome == "Observed" else f"was not accepted ({reason})"
        message = f"revision {revision} {said}; {way}, or set the annotation kanarya.dev/retry={state.last_run}"
        return draft.say(last.outcome if last else "RolledBack", message, _until_tidy(draft))
    calm = _calm_at(state, revision)
    if draft.now < calm and world.retry != state.last_run:
        message = f"revision {revision} begins again in {calm - draft.now:.0f} s: stable itself was above abort"
        return draft.say("Interrupted", message, min(calm - draft.now + 0.05, _until_tidy(draft) or SOON * 60))
    if state.chain is not None and state.chain.outbox:  # a new run begins a chain of its own
        return draft.say("Recording", "the evidence of the last run has still to be written", SOON)
    return _begin(draft)


def _calm_at(state: State, revision: str) -> float:
    """Give the time from which an interrupted revision is tried again: later with each interruption in a row."""
    interrupted = state.interrupted(revision)
    if not interrupted:
        return 0.0
    wait = CALM_SECONDS * 2.0 ** (len(interrupted) - 1)
    return interrupted[0].finished + min(wait, LONGEST_CALM_SECONDS)


def _begin(draft: Draft) -> None:
    target, state = draft.world.target, draft.state
    if target is None or target.identity is None:
        raise AssertionError("a run needs a candidate")
    candidate = target.identity
    attempt = _attempt(state, candidate.revision)
    run = Run.begun(f"{candidate.revision}-{attempt}", candidate, draft.now).model_copy(update={"reason": "Preflight"})
    draft.update(
        run=run,
        attempted=candidate.revision,
        attempts=attempt,
        last_run=run.id,
        rejected="",
        scale_down_at=None,
        chain=Chain(run=run.id),
    )
    draft.notice("Normal", "RunStarted", f"run {run.id}: candidate {candidate.version or candidate.revision}")
    draft.say("Preflight", "a new revision was found", 0.0)


def _attempt(state: State, revision: str) -> int:
    """Give the number of a revision's next run: one that none of its runs had, though others may have run in between."""
    runs = [*(entry.run for entry in state.history), f"{state.attempted}-{state.attempts}"]
    earlier = [run.rpartition("-") for run in runs]
    return 1 + max((int(number) for known, _, number in earlier if known == revision and number.isdecimal()), default=0)


def _keep_serving(draft: Draft, revision: str) -> None:
    """Repair whatever stable needs to serve at full weight."""
    world = draft.world
    keep_stable(draft, revision)
    if world.stable_service != revision:
        if draft.state.stable is None:
            draft.act(PointStable(revision))
        else:
            repair_service(draft, PointStable(revision), "stable")
    if world.candidate_service is None:
        draft.act(PointCandidate(revision))
    route = world.route
    if route is None or route.weight != 0 or not route.intact:
        draft.act(LowerWeight(0))
        if route is not None:
            draft.notice("Warning", "RouteRepaired", "the route was changed by someone else; it is back at weight 0")
    if world.settings != (revision, None) or not world.settings_intact:
        draft.act(WriteSettings(revision, None))


def _serves(draft: Draft, revision: str) -> bool:
    world, stable = draft.world, draft.world.stables.get(revision)
    route = world.route
    return (
        stable is not None
        and stable.available >= draft.replicas
        and stable.intact
        and not stable.rolling
        and world.stable_service == revision
        and world.stable_endpoints >= draft.replicas
        and route is not None
        and route.intact
        and route.weight == 0
        and route.accepted
    )


def _tidy(draft: Draft, stable: str) -> None:
    """Take away pods that are no longer needed, when their time has come."""
    state, target = draft.state, draft.world.target
    for revision, due in state.retired.items():
        if due <= draft.now:
            if revision != stable:
                draft.act(DeleteStable(revision))
            draft.update(retired={key: value for key, value in draft.state.retired.items() if key != revision})
    if state.scale_down_at is not None and state.scale_down_at <= draft.now:
        draft.update(scale_down_at=None)
        if target is not None and target.replicas:
            draft.act(ScaleTarget(0))


def _until_tidy(draft: Draft) -> float | None:
    due = [*draft.state.retired.values(), *([draft.state.scale_down_at] if draft.state.scale_down_at is not None else [])]
    return max(min(due) - draft.now, 0.0) + 0.05 if due else None


def _selecting(draft: Draft) -> str:
    names = ", ".join(draft.world.selecting)
    return f"Service {names} selects the target's own pods: let it select the pods of ml-router, then the target's pods can go"
