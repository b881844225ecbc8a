"""Keeping route, Services, settings and workloads as the run needs them, whoever else writes them."""

from __future__ import annotations

from kanarya.decision.actions import EnsureStable, LowerWeight, PointCandidate, PointStable, ScaleTarget, WriteSettings
from kanarya.decision.draft import Draft
from kanarya.decision.state import Run, Stage

FOLLOW_SECONDS = 2.0
"""Time in which every router follows a change of the route or of endpoints."""


def keep_route(draft: Draft) -> bool:
    """Repair a foreign edit. A higher weight goes down at once; a lower one is what the run now has, to be earned again.

    Returns whether the weight was cut: what has been counted then says nothing about the weight there is.
    """
    run, route = draft.run, draft.world.route
    actual = 0 if route is None or route.weight is None else route.weight
    if route is not None and route.intact and actual == run.weight:
        return False
    if route is None or not route.intact or actual > run.weight:
        draft.act(LowerWeight(min(actual, run.weight)))
    if route is None:
        what = "someone else deleted the route"
    elif route.weight is None:
        what = "someone else changed the backends of the route"
    else:
        what = f"someone else changed the route: weight {actual}"
    draft.notice("Warning", "RouteRepaired", f"{what}, ours {run.weight}")
    draft.record("RouteRepaired", found=actual, ours=run.weight)
    switched = draft.world.stable_service == run.candidate.revision
    if actual < run.weight and not (run.stage is Stage.PROMOTING and switched):
        draft.update(run=cut(run, actual, draft.now, switched=switched))
        return True
    if actual > run.weight:  # the next rise needs samples newer than this; counting goes on, however often somebody does it
        draft.update_run(proof_since=draft.now)
    return False


def cut(run: Run, weight: int, now: float, *, switched: bool) -> Run:
    """Give the run with a lower weight: its step begins again with no counts, and the step's own weight has to be earned.

    A promotion whose Service has `switched` to the new stable goes on: what the weight lost, the new stable serves.
    """
    before = (Stage.SOAKING,) if switched else (Stage.SOAKING, Stage.PROMOTING)
    changes = {"weight": weight, "step_since": now, **run.afresh(now)}
    return run.model_copy(update={**changes, "stage": Stage.STEPPING if run.stage in before else run.stage})


def keep_stable(draft: Draft, revision: str) -> None:
    """Keep the stable Deployment of a revision there, at full size and as we wrote it."""
    stable = draft.world.stables.get(revision)
    if stable is None or not stable.intact or stable.replicas != draft.replicas:
        draft.act(EnsureStable(revision, draft.replicas))
    if stable is not None and not stable.intact:
        draft.notice("Warning", "StableRepaired", f"the stable Deployment of revision {revision} was changed by someone else")
    elif stable is not None and stable.replicas != draft.replicas:  # by someone else, or because our own size changed
        draft.notice("Normal", "StableScaled", f"stable of revision {revision} had {stable.replicas} replicas, not {draft.replicas}")


def repair_service(draft: Draft, action: PointStable | PointCandidate, track: str) -> None:
    """Have a track's Service select the revision again that it had been given already."""
    draft.act(action)
    draft.notice("Warning", "ServiceRepaired", f"the {track} Service did not select revision {action.revision} any more")


def _last_run_is_over(draft: Draft) -> bool:
    """Whether every router has weight 0: one that still follows the last run would send live requests to this one's pods."""
    route = draft.world.route
    return route is not None and route.weight == 0 and route.accepted and draft.now - draft.run.started >= FOLLOW_SECONDS


def keep_workloads(draft: Draft) -> None:
    """Keep both tracks at full size, and the two Services and the settings where this run needs them."""
    run, world, stable = draft.run, draft.world, draft.state.stable
    if stable is None or world.target is None:
        raise AssertionError("a run has a stable and a target")
    keep_stable(draft, stable.revision)
    if world.selecting and run.stage is Stage.PREFLIGHT:
        return  # nothing is scaled while clients reach the target's pods directly
    if world.target.replicas != draft.replicas:
        draft.act(ScaleTarget(draft.replicas))
    if run.stage is not Stage.PROMOTING and world.stable_service != stable.revision:
        repair_service(draft, PointStable(stable.revision), "stable")
    if run.stage is Stage.PREFLIGHT and not _last_run_is_over(draft):
        return
    if world.candidate_service != run.candidate.revision:
        if run.stage is Stage.PREFLIGHT:
            draft.act(PointCandidate(run.candidate.revision))
        else:
            repair_service(draft, PointCandidate(run.candidate.revision), "candidate")
    promoted = run.stage is Stage.PROMOTING and world.stable_service == run.candidate.revision
    wanted = (run.candidate.revision if promoted else stable.revision, run.candidate.revision)
    if world.settings != wanted or not world.settings_intact:
        draft.act(WriteSettings(*wanted))
