"""One pass over one rollout: look, decide, carry out, tell.

The order is the promise: a rollback that is due is written before anything is read; downward writes come before every other action;
upward writes are announced in the checkpoint before, and confirmed after.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from kanarya.api.rollout import InvalidSpec, RolloutSpec, parse_spec
from kanarya.cluster import names
from kanarya.cluster.events import post
from kanarya.cluster.execute import Executor, FaultPoint, TemplateLost, lower_weight, stop_mirroring
from kanarya.cluster.objects import Plan, UnusableTarget, is_labelled, released_rules, route_weight
from kanarya.cluster.observe import View, check_free, check_target, look, world_of
from kanarya.cluster.port import HTTPROUTES, ROLLOUTS, Conflict, Forbidden, Invalid, KubeApi, NotFound, Object
from kanarya.cluster.store import CheckpointTooNew, EvidenceStore, load, save
from kanarya.controller.acceptance import Refused, check_alone, check_name, check_queries, salvaged
from kanarya.controller.memory import Memory, comparable, essence, patience, until_settled
from kanarya.controller.metrics import Metrics
from kanarya.controller.queue import Key
from kanarya.controller.status import Report, status_of
from kanarya.controller.turns import Turns
from kanarya.decision.actions import LowerWeight, Notice, RaiseWeight
from kanarya.decision.clocks import begun, set_back, set_forward
from kanarya.decision.counts import Reading
from kanarya.decision.draft import Decision
from kanarya.decision.ending import requested_ending
from kanarya.decision.lifecycle import decide, lowered, raised, recover
from kanarya.decision.state import Run, Stage, State
from kanarya.decision.world import World
from kanarya.telemetry.request import ReadRequest

log = logging.getLogger(__name__)
SAVE_SECONDS = 30.0
RESYNC_SECONDS = 60.0
REFUSED_SECONDS, REFUSED_WRITE_SECONDS = 15.0, 1.0
CLOCK_STEP_SECONDS = 0.5
TURNS = 8
"""Passes that read the cluster, or write anything but a lower weight, at the same time."""


class Telemetry(Protocol):
    """What the reconciler asks of a metrics source."""

    async def read(self, request: ReadRequest) -> Reading:
        """Look at one rollout; never raises."""
        ...


class Reconciler:
    """Does passes over rollouts. Holds no client of its own making: everything it needs is handed in."""

    def __init__(
        self,
        api: KubeApi,
        telemetry: Mapping[str, Telemetry],
        *,
        clock: Callable[[], float],
        steady: Callable[[], float],
        metrics: Metrics,
        version: str,
        instance: str,
        at: FaultPoint,
        custom_queries: bool = False,
    ) -> None:
        self._api = api
        self._telemetry = telemetry
        self._clock = clock
        self._steady = steady
        self._metrics = metrics
        self._evidence = EvidenceStore(api, version)
        self._executor = Executor(api, at)
        self._instance = instance
        self._at = at
        self._custom_queries = custom_queries
        self._booted = clock(), steady()
        self._memories: dict[Key, Memory] = {}
        self._turns = Turns(TURNS)

    def memory(self, key: Key) -> Memory | None:
        """Give what is remembered of a rollout, for people who ask."""
        return self._memories.get(key)

    async def reconcile(self, key: Key) -> float | None:
        """Do one pass; returns the seconds until the next, None when there is nothing left to look after."""
        began = self._clock()
        try:
            again = await self._pass(key)
        except Exception:
            self._metrics.reconciles.labels("error").inc()
            raise
        self._metrics.reconciles.labels("ok").inc()
        self._metrics.duration.observe(max(self._clock() - began, 0.0))
        return again

    async def _pass(self, key: Key) -> float | None:
        namespace, name = key
        memory = self._memories.setdefault(key, Memory(looked=self._booted, changed=self._clock()))
        await self._overdue_rollback(memory)
        async with self._turns.take(patience(memory)):
            rollout = await self._api.get(ROLLOUTS, namespace, name)
            seen = None if rollout is None else await self._look(rollout, memory)
        if rollout is None or seen is None:
            await self._orphan(key)
            return None
        if isinstance(seen, Exception):
            return await self._refuse(rollout, memory, seen)
        plan, refused, view = seen
        state = memory.state
        if state is None:
            raise AssertionError("a plan comes with a state")
        self._notice_changes(rollout, view, memory)
        state = self._begun(memory, state)
        world = await self._world(rollout, plan, view, memory, state)
        if memory.decision is None:  # the first pass of this process
            state = recover(state, world, self._clock())
            world = await self._world(rollout, plan, view, memory, state)
        decision = decide(plan.spec, state, world, self._clock())
        plan = Plan.of(name, namespace, plan.spec, decision.state)
        memory.plan, memory.decision, memory.decided_at = plan, decision, self._clock()
        memory.newest = None if world.reading is None else world.reading.newest
        try:
            await self._carry_out(plan, view, decision, memory)
        except (Forbidden, Invalid, TemplateLost) as error:  # trying harder does not help: look again soon, and say it
            notice = Notice("Warning", "WriteRefused", str(error))
            again = REFUSED_SECONDS if decision.again is None else min(max(decision.again, REFUSED_WRITE_SECONDS), REFUSED_SECONDS)
            decision = replace(decision, reason=notice.reason, message=notice.message, notices=(notice,), again=again)
        await self._tell(rollout, world, decision, memory, refused)
        self._metrics.show(key, decision, memory.state.run if memory.state else None, self._clock(), memory.newest)
        again = RESYNC_SECONDS if decision.again is None else decision.again
        return min(again, RESYNC_SECONDS, until_settled(world.reading, self._clock()))

    # -- before the decision ----------------------------------------------------------------------------------------------

    async def _overdue_rollback(self, memory: Memory) -> None:
        """Write weight 0 before anything is read, while a rollback is not finished."""
        run = memory.state.run if memory.state is not None else None
        if run is not None and run.stage is Stage.ROLLING_BACK and memory.plan is not None:
            await lower_weight(self._api, memory.plan, 0, run.id)

    async def _orphan(self, key: Key) -> None:
        """Leave stable serving, at full weight, when the rollout is gone; then forget it."""
        namespace, name = key
        route = await self._api.get(HTTPROUTES, namespace, name)
        if route is not None and is_labelled(route, name):
            await self._release_route(route)
        self._memories.pop(key, None)
        self._metrics.forget(key)

    async def _release_route(self, route: Object) -> None:
        """Give all weight to stable, working from the route alone: the plan may never have been known to this process."""
        metadata = route["metadata"]
        rules = released_rules(route)
        if rules is None:
            log.warning(
                "route %s/%s of a rollout that is gone does not name stable: left as it is", metadata["namespace"], metadata["name"]
            )
        else:
            await self._api.merge_patch(HTTPROUTES, metadata["namespace"], metadata["name"], {"spec": {"rules": rules}})
        await stop_mirroring(self._api, metadata["namespace"], metadata["labels"][names.ROLLOUT])

    async def _look(self, rollout: Object, memory: Memory) -> tuple[Plan, Refused | None, View] | Exception:
        """Read what a decision needs of the cluster; gives the reason when this rollout is not to be worked on."""
        try:
            plan, refused = await self._plan(rollout, memory)
            view = await look(self._api, plan)
            if memory.state is None or memory.state.run is None:
                check_target(view)
            if memory.state is None or memory.state.stable is None:
                check_free(plan, view)
        except (Refused, UnusableTarget, CheckpointTooNew) as error:
            return error
        return plan, refused, view

    async def _plan(self, rollout: Object, memory: Memory) -> tuple[Plan, Refused | None]:
        """Give the plan to work by; raises `Refused`.

        A run under way is not left alone because its rollout was made unusable: it goes on, without rising, by the last spec that
        could be used, and what is wrong with the newest comes with the plan.
        """
        metadata = rollout["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        refused: Refused | None = None
        try:
            spec = await self._accepted(rollout, memory)
        except Refused as error:
            refused = error
            try:
                spec = salvaged(rollout.get("spec")) if memory.plan is None else memory.plan.spec.model_copy(update={"paused": True})
            except InvalidSpec:
                raise error from None
        plan = Plan.of(name, namespace, spec, memory.state or State())
        if memory.state is None or memory.state.uid != metadata["uid"]:
            loaded = await load(self._api, plan, metadata["uid"], now=self._clock())
            memory.state, memory.decision, memory.saved = loaded.state, None, None
            memory.problem = loaded.problem
            plan = Plan.of(name, namespace, spec, memory.state)
        memory.plan = plan
        if refused is not None and memory.state.run is None:
            raise refused
        return plan, refused

    async def _accepted(self, rollout: Object, memory: Memory) -> RolloutSpec:
        """Give the spec of a rollout that can be worked on; raises `Refused`."""
        try:
            spec = parse_spec(rollout.get("spec"))
        except InvalidSpec as error:
            raise Refused("InvalidSpec", str(error)) from error
        check_name(rollout["metadata"]["name"])
        if spec.analysis.source_name not in self._telemetry:
            known = ", ".join(sorted(self._telemetry)) or "none"
            raise Refused("UnknownSource", f"spec.analysis.sourceName {spec.analysis.source_name!r} is not configured; known: {known}")
        metadata = rollout["metadata"]
        check_queries(spec, metadata["namespace"], metadata["name"], allowed=self._custom_queries)
        uid, now = metadata["uid"], self._clock()
        if memory.alone[0] != uid or not 0 <= now - memory.alone[1] < RESYNC_SECONDS:
            # Not at each look: of many rollouts in a namespace every one would read all the others.
            check_alone(rollout, spec, await self._api.list(ROLLOUTS, rollout["metadata"]["namespace"]))
            memory.alone = uid, now
        return spec

    def _notice_changes(self, rollout: Object, view: View, memory: Memory) -> None:
        template = None if view.target is None else view.target["spec"]["template"]
        seen = (rollout["metadata"].get("generation"), template)
        now = self._clock()
        if seen != memory.seen or memory.changed > now:  # in the future: the clock was set back
            memory.seen, memory.changed = seen, now

    def _begun(self, memory: Memory, state: State) -> State:
        """Let nothing that was noted wait for a clock that was set back, nor seem older because it was set forward."""
        now, steady = self._clock(), self._steady()
        stepped = (now - memory.looked[0]) - (steady - memory.looked[1])
        memory.looked = now, steady
        if stepped > CLOCK_STEP_SECONDS:
            state = set_forward(state, now, stepped)
        elif stepped < -CLOCK_STEP_SECONDS:
            state = set_back(state, now, -stepped)
        if memory.lowering:
            state, memory.lowering = lowered(state, now), False
        memory.saved_at, memory.told_at = min(memory.saved_at, now), min(memory.told_at, now)
        return begun(state, now)

    def _started(self) -> float:
        """When this process began, by the clock as it is now: it may have been set since."""
        return self._clock() - (self._steady() - self._booted[1])

    async def _world(self, rollout: Object, plan: Plan, view: View, memory: Memory, state: State) -> World:
        run = state.run
        annotations = rollout["metadata"].get("annotations") or {}
        world = world_of(plan, view, candidate=None if run is None else run.candidate.revision, changed=memory.changed)
        reading = None
        # A run that somebody wants ended does not wait for what Prometheus has to say.
        asked = run is not None and requested_ending(run, plan.spec, annotations.get(names.ABORT, "")) is not None
        if run is not None and run.stage is not Stage.ROLLING_BACK and state.stable is not None and not asked:
            request = self._request(plan, view, run, world)
            # A source that the operator no longer knows is one that does not answer.
            source = self._telemetry.get(plan.latched.analysis.source_name)
            reading = None if source is None else await source.read(request)
        extras = {
            "reading": reading,
            "abort": annotations.get(names.ABORT, ""),
            "retry": annotations.get(names.RETRY, ""),
            "started": self._started(),
        }
        return World(**{**vars(world), **extras})

    def _request(self, plan: Plan, view: View, run: Run, world: World) -> ReadRequest:
        replicaset = view.replicaset(run.candidate.revision)
        prefixes = () if replicaset is None else (names.replicaset_pods(replicaset["metadata"]["name"]),)
        stable = world.settings[0] if world.settings else ""
        return ReadRequest.of(
            run,
            plan.latched.analysis,
            namespace=plan.namespace,
            rollout=plan.name,
            stable_revision=stable,
            candidate_pod_prefixes=prefixes,
            router_pod_prefix=names.router_pods(plan.name),
            stable_pod_prefix=names.stable_pods(plan.name, stable) if stable else "",
        )

    # -- after the decision -----------------------------------------------------------------------------------------------

    async def _carry_out(self, plan: Plan, view: View, decision: Decision, memory: Memory) -> None:
        """Carry out the actions, downward writes first; then remember.

        What lowers a run's weight is remembered before it is written: the write may fail, or succeed without an answer, and then a
        rollback is what every further pass begins with, and no sample of before may speak for a rise.
        """
        state = decision.state
        rolling = state.run is not None and state.run.stage is Stage.ROLLING_BACK
        lowering = state.run is not None and any(isinstance(action, LowerWeight) for action in decision.actions)
        if rolling or lowering:
            memory.state = state
        if rolling:
            memory.rolling_since = memory.rolling_since if memory.rolling_since is not None else memory.decided_at
        elif memory.rolling_since is not None:
            self._metrics.rollback.observe(max(memory.decided_at - memory.rolling_since, 0.0))
            memory.rolling_since = None
        raising = next((action for action in decision.actions if isinstance(action, RaiseWeight)), None)
        for action in decision.actions:
            if isinstance(action, LowerWeight):
                memory.lowering = lowering
                await self._executor.carry_out(plan, view, action)
                state, memory.lowering = lowered(state, self._clock()), False
        if lowering:
            memory.state = state
        for action in decision.actions:
            if not isinstance(action, LowerWeight | RaiseWeight):
                async with self._turns.take(patience(memory)):
                    await self._executor.carry_out(plan, view, action)
        if raising is not None:
            async with self._turns.take(patience(memory)):
                state = await self._raise(plan, view, state, raising)
        memory.state = state
        await self._remember(plan, memory, force=raising is not None)

    async def _raise(self, plan: Plan, view: View, state: State, action: RaiseWeight) -> State:
        """Write a weight upwards: intent, guarded write, done."""
        await self._at("before-intent")
        await save(self._api, plan, state)
        await self._at("after-intent")
        try:
            await self._executor.carry_out(plan, view, action)
        except Conflict:
            log.info("route of %s/%s changed meanwhile; looking again", plan.namespace, plan.name)
            return state.model_copy(update={"intent": None})
        await self._at("after-raise")
        return raised(state, self._clock())

    async def _remember(self, plan: Plan, memory: Memory, *, force: bool) -> None:
        """Write checkpoint and evidence: at each change of decision, and now and then."""
        state, now = memory.state, self._clock()
        if state is None:
            return
        changed = essence(state)
        if force or changed != memory.saved or now - memory.saved_at >= SAVE_SECONDS:
            async with self._turns.take(patience(memory)):
                await save(self._api, plan, state)
            memory.saved, memory.saved_at = changed, now
            await self._at("after-done" if force else "after-checkpoint")
        if state.chain is not None and state.chain.outbox:
            async with self._turns.take(patience(memory)):
                await self._evidence.append(plan, state.chain)
            memory.state = state.model_copy(update={"chain": state.chain.model_copy(update={"outbox": ()})})
            await self._at("after-evidence")

    async def _tell(self, rollout: Object, world: World, decision: Decision, memory: Memory, refused: Refused | None) -> None:
        unreadable = (Notice("Warning", "CheckpointUnreadable", memory.problem),) if memory.problem else ()
        memory.problem = ""
        for notice in (*unreadable, *decision.notices):
            log.info("%s/%s %s: %s", rollout["metadata"]["namespace"], rollout["metadata"]["name"], notice.reason, notice.message)
            async with self._turns.take(patience(memory)):
                await post(self._api, rollout, notice, self._clock(), self._instance)
        if memory.state is None:
            return
        refusal = None if refused is None else (refused.reason, str(refused))
        report = Report(rollout, memory.state, self._clock(), world, decision, refusal)
        await self._write_status(rollout, memory, status_of(report))

    async def _refuse(self, rollout: Object, memory: Memory, error: Exception) -> float:
        """Say why this rollout is not worked on. A weight that it has without a run is taken back all the same."""
        await self._keep_down(rollout, memory)
        reason = error.reason if isinstance(error, Refused) else type(error).__name__
        report = Report(rollout, memory.state or State(), self._clock(), refusal=(reason, str(error)))
        await self._write_status(rollout, memory, status_of(report))
        return REFUSED_SECONDS

    async def _keep_down(self, rollout: Object, memory: Memory) -> None:
        plan, state = memory.plan, memory.state
        if plan is None or state is None or state.stable is None or state.run is not None:
            return
        route = await self._api.get(HTTPROUTES, plan.namespace, plan.name)
        if route is not None and route_weight(plan, route) == 0:
            return
        await lower_weight(self._api, plan, 0)
        notice = Notice("Warning", "RouteRepaired", "the route was changed by someone else; it is back at weight 0")
        await post(self._api, rollout, notice, self._clock(), self._instance)

    async def _write_status(self, rollout: Object, memory: Memory, status: dict[str, Any]) -> None:
        before = rollout.get("status", {})
        now = self._clock()
        if comparable(before) == comparable(status) and (before == status or now - memory.told_at < SAVE_SECONDS):
            return
        memory.told_at = now
        # A merge patch deletes what it names as null; parts of the old status that the new one does not have are named so.
        patch = {**dict.fromkeys(before), **status}
        metadata = rollout["metadata"]
        try:
            async with self._turns.take(patience(memory)):
                await self._api.merge_patch(ROLLOUTS, metadata["namespace"], metadata["name"], {"status": patch}, subresource="status")
        except NotFound:
            return
