"""A run's way through its plan with nothing in the way but the readings: the operator's own decision, without a cluster.

`kanarya judge`, `kanarya simulate` and the benchmarks ask it. It holds no rule of its own: it shows `lifecycle.decide` a world in which
pods, Services and route are in order, from the first step on, and tells what came out in three words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from kanarya.api.rollout import LatchedSpec, RolloutSpec, latched
from kanarya.decision.counts import Reading
from kanarya.decision.ending import WOULD_PROMOTE
from kanarya.decision.lifecycle import carried_out, decide
from kanarya.decision.state import Identity, Run, Stage, State
from kanarya.decision.verdict import Verdict
from kanarya.decision.world import Pods, Route, Stable, Target, World

STABLE, CANDIDATE = Identity(revision="stable"), Identity(revision="candidate")


class Course(StrEnum):
    """What a look leads to."""

    ADVANCE = "Advance"
    """The next step begins; after the last one, or its soak: promotion."""
    HOLD = "Hold"
    ROLLBACK = "Rollback"


@dataclass(frozen=True)
class Answer:
    """What a look leads to, why, and the verdicts behind it by metric."""

    course: Course
    reason: str
    message: str
    verdicts: Mapping[str, Verdict]


@dataclass(frozen=True)
class Passage:
    """A run between two looks.

    Attributes
    ----------
    spec
        The rollout's spec.
    state
        What the last decision left behind.
    since
        Seconds from the run's beginning to that of its current step.
    ended
        The answer that ended the run; None while it goes on.
    """

    spec: RolloutSpec
    state: State
    world: World
    since: float = 0.0
    ended: Answer | None = None

    @classmethod
    def begin(cls, spec: RolloutSpec, *, forecast: bool = True) -> Self:
        """Begin with the first step, its weight on the route. Preflight lies behind.

        Without `forecast` verdicts do not say when there will be enough, which takes most of a look's time and decides nothing.
        """
        plan, replicas = LatchedSpec.model_validate(latched(spec)), spec.replicas or 1
        weight = 0 if plan.mode == "Observe" else plan.plan.steps[0].weight
        begun = Run.begun("candidate-1", CANDIDATE, 0.0)
        run = begun.model_copy(update={"stage": Stage.STEPPING, "spec": plan, "step": 0, "weight": weight})
        return cls(spec, State(replicas=replicas, stable=STABLE, run=run), in_order(replicas, weight, forecast=forecast))

    @property
    def step(self) -> int:
        """The current step, from 0; the soak counts as the step after the last."""
        run = self._run
        return run.step + (run.stage is not Stage.STEPPING)

    @property
    def steps(self) -> int:
        """How many steps there are, the soak included."""
        return len(self.spec.plan.steps) + (self.spec.plan.soak_seconds > 0)

    @property
    def weight(self) -> int:
        """The candidate's weight on the route."""
        return self._run.weight

    @property
    def _run(self) -> Run:
        if self.state.run is None:
            raise AssertionError("a passage has a run")
        return self.state.run

    def look(self, reading: Reading) -> tuple[Passage, Answer]:
        """Look once.

        Parameters
        ----------
        reading
            What was counted since the last look. `until`, and `newest` if anything was seen, are seconds since the step began, later than
            those of the look before.

        Raises
        ------
        ValueError
            When the run has ended.
        """
        if self.ended is not None:
            raise ValueError(f"the run has ended: {self.ended.reason}")
        now = self.since + reading.until
        newest = None if reading.newest is None else self.since + reading.newest
        before = self._run
        state = self.state
        if now <= before.watermark:  # a first look at 0 s counts, too
            state = state.model_copy(update={"run": before.model_copy(update={"watermark": now - 1.0})})
        custom = {
            name: replace(sight, until=self.since + sight.until, oldest=self.since + sight.oldest) for name, sight in reading.custom.items()
        }
        reading = replace(reading, until=now, newest=newest, newest_counted=newest, custom=custom)
        world = replace(self.world, reading=reading)
        decision = decide(self.spec, state, world, now)
        state = carried_out(decision, now)
        run = state.run
        if run is None:
            raise AssertionError("a run ends by promotion or rollback, and neither is carried out here")

        def answer(course: Course, reason: str) -> Answer:
            message = run.message if course is Course.ROLLBACK else decision.message
            return Answer(course, reason, message, dict(decision.verdicts.items()))

        if run.stage is Stage.PROMOTING or (run.outcome == "Observed" and run.reason == WOULD_PROMOTE):
            over = answer(Course.ADVANCE, decision.reason)
            return replace(self, ended=over), over
        if run.stage is Stage.ROLLING_BACK:
            over = answer(Course.ROLLBACK, run.outcome if run.outcome in ("Interrupted", "Expired") else run.reason)
            return replace(self, ended=over), over
        if (run.step, run.stage) == (before.step, before.stage):
            return replace(self, state=state), answer(Course.HOLD, decision.reason)
        following = replace(self, state=state, world=in_order(state.replicas, run.weight, forecast=self.world.forecast), since=now)
        return following, answer(Course.ADVANCE, decision.reason)


def in_order(replicas: int, weight: int, *, stable: Identity = STABLE, candidate: Identity = CANDIDATE, forecast: bool = True) -> World:
    """Give a cluster in which everything is as the run needs it."""
    return World(
        target=Target(candidate, replicas, changed=-1.0),
        pods=Pods(ready=replicas),
        stables={stable.revision: Stable(stable, replicas, replicas)},
        stable_service=stable.revision,
        candidate_service=candidate.revision,
        stable_endpoints=replicas,
        route=Route(weight, intact=True, accepted=True, resource_version="1"),
        settings=(stable.revision, candidate.revision),
        settings_intact=True,
        started=-1.0,
        forecast=forecast,
    )
