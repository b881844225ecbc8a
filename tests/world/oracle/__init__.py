"""The judge of a life: every promise, checked after every event from what really happened.

Nothing here asks the product's own judgement, but for `first_difference`, which is the promise of replay itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from kanarya.cluster.fake import Call
from kanarya.cluster.port import CONFIGMAPS, DEPLOYMENTS, HTTPROUTES, SERVICES, Object, Resource
from tests.world.operators import ACTOR, LATE, Operator, Pass
from tests.world.oracle.memory import Memory
from tests.world.oracle.overdue import Overdue
from tests.world.oracle.serving import Serving
from tests.world.oracle.writes import Writes

if TYPE_CHECKING:
    from tests.world.world import World


def _own_fault(check: Callable[..., None]) -> Callable[..., None]:
    """Keep an error of the oracle from reaching the operator, which would take it for a fault of the cluster."""

    @wraps(check)
    def guarded(*arguments: Any, **named: Any) -> None:
        try:
            check(*arguments, **named)
        except Exception as error:  # noqa: BLE001 -- it is raised when the life is over
            asyncio.get_running_loop().call_exception_handler({"message": "the oracle broke", "exception": error})

    return guarded


MOST_TOLD = 3
"""The first violation ends the life; a few more may come before it has ended."""


class Oracle:
    """All the checks, and what they found. A life ends with its first violation."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.violations: list[str] = []
        self.touched: dict[str, float] = {}
        """When a story last laid hands on a thing, by its word for it."""
        self.lenient = True
        """What is known to be wrong, and kept as a failing story in `test_stories.py`, is passed over."""
        self.several = False
        """More than one operator was alive at some time."""
        self.writes, self.serving, self.memory, self.overdue = Writes(self), Serving(self), Memory(self), Overdue(self)

    def violated(self, invariant: int, what: str) -> None:
        if len(self.violations) == MOST_TOLD:
            return
        self.violations.append(f"invariant {invariant}: {what}")
        self.world.tell(f"BROKEN {what}")

    def touch(self, *things: str, lasting: float = 0.0) -> None:
        """Note that somebody who is not the operator lays hands on things, now and for some seconds."""
        until = self.world.now() + lasting
        self.touched |= {thing: max(until, self.touched.get(thing, until)) for thing in things}

    def since_touched(self, *things: str) -> float:
        """Seconds since the last of these things was touched, negative while one is; infinite when none ever was."""
        return self.world.now() - max(self.touched.get(thing, float("-inf")) for thing in things)

    def summary(self) -> str:
        run = self.world.checkpoint().get("run")
        weight = self.world.weight()
        said = f"{run['id']} {run['stage']} {run['step'] + 1} at {run['weight']}" if run else "no run"
        return f"route {weight}; {said}; {self.world.status().get('reason', '')}"

    # -- what it is told --------------------------------------------------------------------------------------------------

    def booted(self, operator: Operator) -> None:
        self.several = self.several or len(self.world.operators) > 1
        self.writes.booted()

    @_own_fault
    def pass_began(self, one: Pass) -> None:
        self.memory.pass_began(one)

    @_own_fault
    def call_arrives(self, one: Pass | None, call: Call) -> None:
        self.writes.call_arrives(one, call)

    @_own_fault
    def pass_ended(self, one: Pass, error: Exception | None) -> None:
        self.memory.pass_ended(one, error)

    @_own_fault
    def changed(self, resource: Resource, old: Object | None, new: Object | None) -> None:
        actor = ACTOR.get()
        operator = next((one for one in self.world.operators if one.name == actor), None)
        if resource == HTTPROUTES:
            self.writes.route_changed(operator, old, new)
        elif resource == DEPLOYMENTS and operator is not None:
            self.serving.deployment_changed(old, new)
        elif resource == SERVICES and new is not None and (operator is not None or actor == LATE):
            self.serving.service_changed(new, late=operator is None)
        elif resource == CONFIGMAPS and (operator is not None or actor == LATE):
            self.memory.config_map_changed(old, new, late=operator is None)

    def tick(self) -> None:
        """Look at what only time tells."""
        self.overdue.tick()

    def finish(self) -> None:
        self.memory.finish()
