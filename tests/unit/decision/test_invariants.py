"""The promises of docs/decisions hold whatever happens, in whatever order: random stories, checked after every tick.

A story is a list of events, each followed by some seconds. When a promise breaks, Hypothesis prints the shortest story that breaks it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from kanarya.decision.actions import EnsureStable, LowerWeight, PointStable, RaiseWeight
from kanarya.decision.counts import Missing
from kanarya.decision.draft import Decision
from kanarya.decision.evidence import GENESIS
from kanarya.decision.lifecycle import decide, raised, recover
from kanarya.decision.replay import first_difference
from kanarya.decision.state import Run, Stage, State
from kanarya.decision.verdict import Kind
from kanarya.decision.world import World
from tests.unit.decision.play import A, B, C, Play, Traffic, spec

pytestmark = pytest.mark.slow

BLOCKING = ("errors", "latency", "match")
IDENTITIES = (A, B, C)


def as_text(state: State) -> str:
    """Give the checkpoint."""
    return json.dumps(state.model_dump(mode="json", by_alias=True))


@dataclass
class Watched(Play):
    """A play that checks every decision, and what carrying it out did to the world."""

    starting: float = 0.0
    """How long a new stable takes until its pods are available."""
    due: dict[str, float] = field(default_factory=dict)
    fate: str = ""
    """Where the operator dies in its next pass, or that its next upward write meets a conflict."""

    def apply(self, action: Any) -> None:
        known = self.world.stables
        if isinstance(action, EnsureStable) and self.target is None:
            # Without the target a stable can be resized and repaired, but none can be built.
            return self.stables({action.revision: {"replicas": action.replicas, "available": action.replicas, "intact": True}})
        super().apply(action)
        if isinstance(action, EnsureStable) and self.starting and action.revision not in known:
            self.due[action.revision] = self.now + self.starting
            self.stables({action.revision: {"available": 0}})
        return None

    def stables(self, changes: dict[str, dict[str, Any]]) -> None:
        known = self.world.stables
        new = {key: replace(stable, **changes.get(key, {})) for key, stable in known.items()}
        self.world = replace(self.world, stables=new)

    def look(self) -> World:
        for revision in [revision for revision, due in self.due.items() if due <= self.now]:
            del self.due[revision]
            self.stables({revision: {"available": 2}})
        return super().look()

    def tick(self, seconds: float = 1.0) -> Decision:
        self.now += seconds
        before, weight = self.state, self.weight
        decision = decide(self.spec, before, self.look(), self.now)
        self.decisions.append(decision)
        fate, self.fate = self.fate, ""
        state = self.carry_out(decision, fate)
        if fate not in ("", "conflict"):
            self.started = self.now
            saved = before if state is None else state
            state = recover(State.model_validate(json.loads(as_text(saved))), self.look(), self.now)
        assert state is not None
        if state.chain is not None:
            self.entries += state.chain.outbox
            state = state.model_copy(update={"chain": state.chain.model_copy(update={"outbox": ()})})
        self.state = state
        # A process that died with the route ahead of its checkpoint lowers it at the first look of the next one.
        self.check(before, weight, decision, died=fate in ("before everything", "after raising"))
        return decision

    def carry_out(self, decision: Decision, fate: str) -> State | None:
        """Do what was decided, as far as fate lets the operator; gives the last checkpoint, None when it is the one before."""
        if fate == "before everything":
            return None
        for action in decision.actions:
            if isinstance(action, LowerWeight):
                self.apply(action)
        if fate == "after lowering":
            return None
        for action in decision.actions:
            if not isinstance(action, LowerWeight | RaiseWeight):
                self.apply(action)
        if fate == "before the checkpoint":
            return None
        for action in decision.actions:
            if isinstance(action, RaiseWeight):
                if fate == "conflict":
                    return decision.state.model_copy(update={"intent": None})
                if fate == "after the intent":
                    return decision.state
                self.apply(action)
                return decision.state if fate == "after raising" else raised(decision.state, self.now)
        return decision.state

    def check(self, before: State, weight: int, decision: Decision, *, died: bool) -> None:
        run = before.run
        raises = [action for action in decision.actions if isinstance(action, RaiseWeight)]
        lowers = [action for action in decision.actions if isinstance(action, LowerWeight)]
        good = bool(decision.verdicts) and all(decision.verdicts[metric].kind is Kind.GOOD for metric in BLOCKING)
        # (a) Up needs proof, of this very look.
        assert all(action.weight <= weight for action in lowers), "a downward write raised the weight"
        if raises:
            assert run is not None
            assert self.state.run is None or not self.state.run.observing, "a run that only observes was given weight"
            first = run.stage is Stage.PREFLIGHT and run.step == -1 and run.weight == 0
            assert good or first, f"raised without proof: {decision.verdicts}"
            assert not lowers
        assert self.weight <= weight or raises, f"the weight rose from {weight} to {self.weight} with no RaiseWeight"
        # (b) Nothing on the candidate while there is no run, or one that is being taken back.
        after = self.state.run
        if (after is None or after.stage is Stage.ROLLING_BACK) and not died:
            assert self.weight == 0, f"weight {self.weight} without a run"
        elif after is not None and not died:
            assert self.weight <= after.weight, f"the route has {self.weight}, the run has earned {after.weight}"
        # (c) A breach or an abort is answered in the decision that sees it.
        bad = any(verdict.kind is Kind.BAD for metric, verdict in decision.verdicts.items() if metric in BLOCKING)
        aborted = run is not None and self.world.abort == run.id
        if bad or aborted:
            assert any(action.weight == 0 for action in lowers) or weight == 0, f"no way back from {weight}: {decision.actions}"
        # (e) Stable moves by success alone, to the candidate that earned it.
        if before.stable is not None and before.stable != self.state.stable:
            assert self.state.history[-1].outcome == "Succeeded"
            assert run is not None
            assert self.state.stable == run.candidate
        # (h) The stable Service gets the candidate's revision only while all traffic is on the candidate anyway.
        for action in decision.actions:
            if isinstance(action, PointStable) and run is not None and action.revision == run.candidate.revision:
                assert weight == 100, f"stable was switched to the candidate at weight {weight}"
        # (g) Nothing is lost in the checkpoint.
        assert State.model_validate(json.loads(as_text(self.state))) == self.state

    def chain_holds(self) -> None:
        """(f) The evidence of each run is unbroken and judges to the same verdicts; (d) its steps come in order."""
        for run in self.runs():
            difference = first_difference(run)
            assert difference is None, difference
            steps = [entry["step"] for entry in run if entry["kind"] == "StepEntered"]
            assert steps == list(range(1, len(steps) + 1)), f"steps out of order: {steps}"

    def runs(self) -> list[list[dict[str, Any]]]:
        runs: list[list[dict[str, Any]]] = []
        for entry in self.entries:
            if entry["previous"] == GENESIS:
                runs.append([])
            runs[-1].append(entry)
        return runs


@dataclass(frozen=True)
class Event:
    """Something that happens, and for how long time goes on after it: so many looks, so many seconds apart."""

    name: str
    argument: Any = None
    looks: int = 1
    apart: float = 1.0

    def __str__(self) -> str:
        what = self.name if self.argument is None else f"{self.name} {self.argument}"
        return f"{what}; {self.looks} looks, {self.apart:g} s apart"


def set_traffic(play: Play, **changes: Any) -> None:
    play.traffic = replace(play.traffic, **changes)


def restart(play: Play, _: Any) -> None:
    """The process dies and comes back: it has the checkpoint, and what the route says."""
    play.started = play.now
    play.state = recover(State.model_validate(json.loads(as_text(play.state))), play.look(), play.now)


def restart_after(play: Watched, event: Any) -> None:
    """The route changes while no operator runs."""
    name, argument = event
    EVENTS[name](play, argument)
    restart(play, None)


def edit_route(play: Play, weight: Any) -> None:
    if play.world.route is not None:
        play.edit_route(weight)


def spoil_route(play: Play, weight: Any) -> None:
    """Somebody writes a route that is not of our making: with other backends (None), or with ours and more."""
    if play.world.route is not None:
        play.edit_route(weight)
        assert play.world.route is not None
        play.world = replace(play.world, route=replace(play.world.route, intact=False))


def accept_route(play: Play, accepted: Any) -> None:
    if play.world.route is not None:
        play.world = replace(play.world, route=replace(play.world.route, accepted=accepted))


def abort(play: Play, _: Any) -> None:
    play.world = replace(play.world, abort=play.state.run.id if play.state.run else "")


def retry(play: Play, _: Any) -> None:
    play.world = replace(play.world, retry=play.state.last_run)


def pods(play: Play, changes: Any) -> None:
    play.world = replace(play.world, pods=replace(play.world.pods, **changes))


def restart_pods(play: Play, count: Any) -> None:
    pods(play, {"restarts": play.world.pods.restarts + count})


def edit_spec(play: Play, changes: Any) -> None:
    play.spec = play.spec.model_copy(update=changes)


def harm_stable(play: Watched, changes: Any) -> None:
    play.stables(dict.fromkeys(play.world.stables, changes))


def remove_target(play: Play, _: Any) -> None:
    play.target = None


def target(play: Play, identity: Any) -> None:
    """Helm writes a template; after a deletion it makes the Deployment anew."""
    if play.target is None:
        play.target = replace(Play().target, identity=identity, changed=play.now)  # type: ignore[type-var]
    play.release(identity)


def forget_stable_service(play: Play, _: Any) -> None:
    play.world = replace(play.world, stable_service=None, stable_endpoints=0)


EVENTS: dict[str, Callable[[Watched, Any], None]] = {
    "go on": lambda play, _: None,
    "new revision": lambda play, _: None,
    "errors": lambda play, rate: set_traffic(play, errors=rate),
    "slow": lambda play, rate: set_traffic(play, slow=rate),
    "very slow": lambda play, rate: set_traffic(play, very_slow=rate),
    "mismatches": lambda play, rate: set_traffic(play, mismatches=rate),
    "drift": lambda play, shifted: set_traffic(play, shifted=shifted),
    "rate": lambda play, rate: set_traffic(play, rate=rate),
    "missing": lambda play, missing: set_traffic(play, missing=missing),
    "all is well": lambda play, _: setattr(play, "traffic", Traffic()),
    "template": target,
    "target deleted": remove_target,
    "route edited": edit_route,
    "route spoiled": spoil_route,
    "route deleted": lambda play, _: setattr(play, "world", replace(play.world, route=None)),
    "route accepted": accept_route,
    "pods ready": lambda play, ready: setattr(play, "ready", ready),
    "pods crash": lambda play, pod: pods(play, {"crash_looping": pod}),
    "pods restart": restart_pods,
    "abort": abort,
    "retry": retry,
    "operator restarts": restart,
    "operator away": restart_after,
    "fate": lambda play, fate: setattr(play, "fate", fate),
    "checkpoint lost": lambda play, _: setattr(play, "state", State(uid="u")),
    "spec": edit_spec,
    "stable changed": harm_stable,
    "stable service deleted": forget_stable_service,
}

FATES = ["conflict", "before everything", "after lowering", "before the checkpoint", "after the intent", "after raising"]
RATES = st.sampled_from([0.0, 0.0, 0.015, 0.06, 0.5])
QUICK = {"steps": [{"weight": weight, "durationSeconds": 4} for weight in (0, 50, 100)]}
SPECS = {
    "default": spec(),
    "quick": spec(plan=QUICK),
    "soak": spec(plan={**QUICK, "soakSeconds": 20}),
    "observe": spec(plan=QUICK, mode="Observe"),
}
ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "errors": RATES,
    "slow": RATES,
    "very slow": RATES,
    "mismatches": RATES,
    "drift": st.booleans(),
    "rate": st.sampled_from([0.0, 2.0, 100.0, 5000.0]),
    "missing": st.dictionaries(st.sampled_from(["*", *BLOCKING, "drift"]), st.sampled_from(list(Missing)), max_size=2),
    "template": st.sampled_from(IDENTITIES),
    "route edited": st.sampled_from([0, 5, 10, 30, 100]),
    "route spoiled": st.sampled_from([None, 0, 40, 100]),
    "route accepted": st.booleans(),
    "pods ready": st.booleans(),
    "pods crash": st.sampled_from(["", "pod-1"]),
    "pods restart": st.integers(1, 2),
    "spec": st.fixed_dictionaries(
        {},
        optional={
            "paused": st.booleans(),
            "mode": st.sampled_from(["Live", "Observe"]),
            "replicas": st.integers(1, 3),
            "plan": st.sampled_from([entry.plan for entry in SPECS.values()]),
        },
    ),
    "operator away": st.sampled_from(
        [("route edited", 0), ("route edited", 30), ("route edited", 100), ("route spoiled", 40), ("route deleted", None)]
    ),
    "fate": st.sampled_from(FATES),
    "stable changed": st.fixed_dictionaries(
        {}, optional={"available": st.integers(0, 2), "intact": st.booleans(), "rolling": st.booleans()}
    ),
}
EVENT = st.sampled_from(sorted({*EVENTS} - {"new revision"})).flatmap(
    lambda name: st.builds(
        Event,
        st.just(name),
        ARGUMENTS.get(name, st.none()),
        looks=st.integers(0, 8),
        apart=st.sampled_from([0.0, 1.0, 1.0, 1.0, 5.0, 30.0, 120.0]),
    )
)
Act = tuple[int, list[Event]]
"""How many seconds a new revision is left in peace, and what happens then."""
ACTS = st.lists(st.tuples(st.integers(0, 65), st.lists(EVENT, min_size=1, max_size=4)), min_size=1, max_size=3)


def summary(run: Run | None) -> str:
    return "no run" if run is None else f"{run.id} {run.stage} step {run.step + 1} weight {run.weight}: {run.reason}"


def tell(plan: str, acts: list[Act]) -> None:
    """Play each act with a new revision, in a world in which all is well when the act begins."""
    play = Watched(spec=SPECS[plan])
    play.adopted()
    play.starting = 10.0
    for number, (calm, events) in enumerate(acts):
        heal(play)
        target(play, IDENTITIES[(number + 1) % 3])
        for event in [Event("new revision", looks=14), Event("go on", looks=calm), *events]:
            happen(play, event)
    play.chain_holds()


def heal(play: Watched) -> None:
    play.traffic, play.ready, play.fate = Traffic(), True, ""
    pods(play, {"crash_looping": ""})
    accept_route(play, accepted=True)
    play.world = replace(play.world, abort="", retry="")
    play.spec = play.spec.model_copy(update={"paused": False})


def happen(play: Watched, event: Event) -> None:
    EVENTS[event.name](play, event.argument)
    for _ in range(event.looks):
        before = play.weight
        try:
            play.tick(event.apart)
        finally:
            note(f"{play.now:7.0f}  {event.name:22} weight {before:3} -> {play.weight:3}  {summary(play.state.run)}")


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example("quick", [(8, [Event("operator away", ("route edited", 30), 1, 30.0)])]).via("a restart while promoting, at less than full weight")
@example("default", [(0, [Event("route deleted", None, 1, 120.0)])]).via("an entry of evidence is due just when the counts begin again")
@example("default", [(0, [Event("checkpoint lost", None, 0), Event("target deleted")])]).via("nothing is left but the route")
@given(st.sampled_from(sorted(SPECS)), ACTS)
def test_the_promises_hold_in_every_story(plan: str, acts: list[Act]) -> None:
    tell(plan, acts)
