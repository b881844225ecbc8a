"""A rollout played through in virtual time against the pure decision: no API server, no Prometheus, only values.

The traffic is deterministic: events come at their exact rate, so that a test's expectation can be worked out by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from kanarya.api.rollout import RolloutSpec, parse_spec
from kanarya.decision.actions import (
    DeleteStable,
    EnsureStable,
    LowerWeight,
    PointCandidate,
    PointStable,
    RaiseWeight,
    ScaleTarget,
    WriteSettings,
)
from kanarya.decision.counts import Attempts, Counts, Drift, Missing, Reading
from kanarya.decision.draft import Decision
from kanarya.decision.lifecycle import decide, raised
from kanarya.decision.state import Identity, Run, State
from kanarya.decision.world import Pods, Route, Stable, Target, World

A, B, C = Identity(revision="aaa", version="v1"), Identity(revision="bbb", version="v2"), Identity(revision="ccc", version="v3")
REFERENCE = {"spread_bp": (100.0,) * 10 + (0.0,)}


def spec(**changes: Any) -> RolloutSpec:
    """Give a spec with short steps; `changes` replace whole parts of it, in their JSON form."""
    document: dict[str, Any] = {
        "targetRef": {"name": "fraud"},
        "serviceRef": {"name": "fraud"},
        "replicas": 2,
        "plan": {"steps": [{"weight": weight, "durationSeconds": 10} for weight in (5, 10, 25, 50, 100)]},
        "analysis": {"method": "Threshold", "intervalSeconds": 1, "minSamples": 50},
        "scaleDownDelaySeconds": 30,
    }
    return parse_spec({**document, **changes})


@dataclass
class Traffic:
    """Requests per second, and what becomes of the candidate's; of stable's, `stable_errors` fail. `compared` is a share of attempts."""

    rate: float = 100.0
    errors: float = 0.0
    stable_errors: float = 0.0
    slow: float = 0.0
    very_slow: float = 0.0
    mismatches: float = 0.0
    compared: float = 1.0
    shifted: bool = False
    copied: bool = True
    missing: dict[str, Missing] = field(default_factory=dict)
    said: str = ""


@dataclass
class Play:
    """The world, and the operator's memory, moved on second by second."""

    spec: RolloutSpec = field(default_factory=spec)
    traffic: Traffic = field(default_factory=Traffic)
    now: float = 1000.0
    state: State = field(default_factory=lambda: State(uid="u"))
    target: Target | None = field(default_factory=lambda: Target(A, 2, 0.0))
    world: World = field(default_factory=lambda: World(target=None))
    ready: bool = True
    started: float = 0.0
    decisions: list[Decision] = field(default_factory=list)
    weights: list[tuple[float, int]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    last_sample: float | None = None
    history_lost: bool = False

    @property
    def run(self) -> Run:
        assert self.state.run is not None
        return self.state.run

    @property
    def weight(self) -> int:
        route = self.world.route
        return 0 if route is None or route.weight is None else route.weight

    def notices(self) -> list[str]:
        return [notice.reason for decision in self.decisions for notice in decision.notices]

    def steps(self) -> list[int]:
        return [entry["step"] for entry in self.entries if entry["kind"] == "StepEntered"]

    def release(self, identity: Identity) -> None:
        assert self.target is not None
        self.target = Target(identity, self.target.replicas, self.now)

    def look(self) -> World:
        """Give the world as the operator sees it now."""
        replicas = 0 if self.target is None else self.target.replicas
        return replace(
            self.world,
            target=self.target,
            pods=Pods(ready=replicas if self.ready else 0, restarts=self.world.pods.restarts, crash_looping=self.world.pods.crash_looping),
            reading=self.reading(),
            started=self.started,
        )

    def reading(self) -> Reading | None:
        run = self.state.run
        if run is None or self.world.abort == run.id:  # nobody looks at a run that is to end anyway
            return None
        until = self.now - 2
        if self.last_sample is not None:
            until = min(until, self.last_sample)
        seconds = max(until - max(run.watermark, run.weight_since), 0.0)
        drift_seconds = max(until - run.drift_watermark, 0.0)
        live = self.traffic.rate * seconds * self.weight / 100
        total = self.traffic.rate * seconds
        mirror = total - live if self.traffic.copied else 0.0
        if ("*" in self.traffic.missing) and self.traffic.missing["*"] is Missing.SOURCE_DOWN:
            return Reading(until=run.watermark, missing=self.traffic.missing)

        def attempts(n: float) -> Attempts:
            t = self.traffic
            return Attempts(n, n * t.errors, {"80": n * (t.slow + t.very_slow), "120": n * t.very_slow})

        bins = [total * drift_seconds / seconds / 10 if seconds else 0.0] * 10
        if self.traffic.shifted:
            bins = [0.0] * 5 + [2 * value for value in bins[:5]]
        return Reading(
            until=max(until, run.watermark),
            counts=Counts(
                attempts(live),
                attempts(mirror),
                Attempts(total, total * self.traffic.stable_errors, {}),
                live + mirror,
                (live + mirror) * self.traffic.compared,
                (live + mirror) * self.traffic.compared * self.traffic.mismatches,
            ),
            drift=Drift({"spread_bp": (*bins, 0.0)}, REFERENCE),
            newest=until,
            newest_counted=until,
            missing=self.traffic.missing,
            detail=self.traffic.said,
            history_lost=self.history_lost,
        )

    def tick(self, seconds: float = 1.0) -> Decision:
        """Move on, look, decide and carry out."""
        self.now += seconds
        decision = decide(self.spec, self.state, self.look(), self.now)
        self.decisions.append(decision)
        state = decision.state
        for action in decision.actions:
            self.apply(action)
        if any(isinstance(action, RaiseWeight) for action in decision.actions):
            state = raised(state, self.now)
        if state.chain is not None:
            self.entries += state.chain.outbox
            state = state.model_copy(update={"chain": state.chain.model_copy(update={"outbox": ()})})
        self.state = state
        return decision

    def until(self, stop: Any, limit: int = 400) -> Decision:
        """Tick until `stop(play)` holds."""
        for _ in range(limit):
            decision = self.tick()
            if stop(self):
                return decision
        raise AssertionError(f"not reached in {limit} s; last: {self.decisions[-1].reason}: {self.decisions[-1].message}")

    def adopted(self) -> Play:
        """Play until the first revision is adopted and the target is scaled down."""
        self.until(lambda play: play.state.stable is not None and play.target is not None and play.target.replicas == 0)
        return self

    def ended(self) -> str:
        """Play until the run under way has ended; gives its outcome."""
        runs = len(self.state.history)
        self.until(lambda play: len(play.state.history) > runs)
        return self.state.history[-1].outcome

    def apply(self, action: Any) -> None:
        world = self.world
        match action:
            case LowerWeight(weight, rolled_back):
                self.world = replace(world, route=self.route(weight, rolled_back))
                self.weights.append((self.now, weight))
            case RaiseWeight(weight, version):
                assert world.route is not None
                assert version == world.route.resource_version
                self.world = replace(world, route=self.route(weight, world.route.rolled_back))
                self.weights.append((self.now, weight))
            case EnsureStable(revision, replicas):
                assert self.target is not None
                known = {identity.revision: identity for identity in (A, B, C)}[revision]
                self.world = replace(world, stables={**world.stables, revision: Stable(known, replicas, replicas)})
            case DeleteStable(revision):
                self.world = replace(world, stables={key: value for key, value in world.stables.items() if key != revision})
            case PointStable(revision):
                assert self.weight in (0, 100) or world.stable_service is None or self.run.stage.value == "RollingBack"
                available = world.stables[revision].available if revision in world.stables else 0
                self.world = replace(world, stable_service=revision, stable_endpoints=available, stale_endpoints=0)
            case PointCandidate(revision):
                self.world = replace(world, candidate_service=revision)
            case WriteSettings(stable, candidate):
                self.world = replace(world, settings=(stable, candidate), settings_intact=True)
            case ScaleTarget(replicas):
                assert self.target is not None
                self.target = replace(self.target, replicas=replicas)

    def route(self, weight: int, rolled_back: str) -> Route:
        version = "1" if self.world.route is None else str(int(self.world.route.resource_version) + 1)
        return Route(weight, True, True, version, rolled_back)

    def edit_route(self, weight: int) -> None:
        """Let somebody else write the route."""
        assert self.world.route is not None
        version = str(int(self.world.route.resource_version) + 1)
        self.world = replace(self.world, route=replace(self.world.route, weight=weight, resource_version=version))


def at_weight(weight: int) -> Any:
    return lambda play: play.state.run is not None and play.state.run.weight == weight


def started(traffic: Traffic | None = None, **changes: Any) -> Play:
    """A rollout adopted, and a new revision under way at 5 %; `traffic` from there on."""
    play = Play(**changes).adopted()
    play.release(B)
    play.until(at_weight(5))
    play.traffic = traffic or play.traffic
    return play
