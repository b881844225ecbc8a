"""One life: the story is told, then everything heals, and the rollout must come to a proper end."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import Counter
from dataclasses import dataclass, field
from time import process_time

from kanarya.cluster import names
from kanarya.cluster.port import ROLLOUTS
from tests.world import loop
from tests.world.happenings import Happenings, happen, heal, label_all
from tests.world.oracle.overdue import TICK_SECONDS
from tests.world.service import NAME
from tests.world.story import Story
from tests.world.traffic import Model
from tests.world.world import World

ADOPTION_SECONDS = 60.0
PATIENCE_SECONDS = 240.0
"""After the last fault, beyond the plan's own time."""
RETRIES = 3
PEOPLE_SECONDS = 70.0
"""After so long people look after a rollout that holds."""


@dataclass(frozen=True)
class Result:
    """What became of a life."""

    story: Story
    violations: tuple[str, ...]
    ending: str
    timeline: tuple[str, ...]
    exercised: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    outcomes: tuple[str, ...] = ()
    virtual: float = 0.0
    seconds: float = 0.0

    def text(self) -> str:
        return "\n".join([*self.violations, f"seed {self.story.seed}, ended: {self.ending}", *self.timeline, "", self.story.text()])


def live(story: Story, *, people: bool = True) -> Result:
    """Live one life in virtual time. With `people`, somebody helps where the product is known to wait for them, or to fail."""
    logging.disable(logging.CRITICAL)
    gc.disable()  # a life is short, and makes more garbage than anything else
    began = process_time()
    try:
        return loop.run(_live(story, began, people=people))
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)


async def _live(story: Story, began: float, *, people: bool) -> Result:
    world = World(story)
    world.oracle.lenient = people
    world.install()
    violations = world.oracle.violations
    watching = world.spawn(_watch(world))
    for event in sorted(story.events, key=lambda event: event.at):
        await asyncio.sleep(max(event.at - world.now(), 0.0))
        if violations:
            break
        happen(world, event)
    ending = "broken"
    if not violations:
        await asyncio.sleep(max(world.calm_at - world.now(), 0.0))
    if not violations:
        heal(world)
        ending = await _end(world, people=people)
    watching.cancel()
    world.ending = True
    for operator in [*world.operators]:
        operator.kill("in the end")
    if not violations:
        world.oracle.finish()
    await asyncio.sleep(0.1)
    outcomes = tuple(f"{entry['outcome']} {entry['reason']}" for entry in world.checkpoint().get("history", []))
    points = Counter({point: count for point, count in world.points_crashed.items() if point != "in the end"})
    return Result(
        story, tuple(violations), ending, tuple(world.timeline), world.exercised, points, outcomes, world.now(), process_time() - began
    )


async def _watch(world: World) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        world.traffic.flow()
        world.oracle.tick()


async def _end(world: World, *, people: bool) -> str:
    """Wait for the proper end; gives how it ended."""
    plan = world.spec()["plan"]
    patience = sum(step["durationSeconds"] for step in plan["steps"]) + plan.get("soakSeconds", 0) + PATIENCE_SECONDS
    for attempt in range(RETRIES + 1):
        deadline = world.now() + patience
        while world.now() < deadline:
            await asyncio.sleep(TICK_SECONDS)
            if world.oracle.violations:
                return "broken"
            ended = _ended(world)
            if ended:
                return await _after(world, ended)
            if _rejected(world):
                break
            if people:
                _help(world, calm=world.now() - deadline + patience)
        else:
            world.oracle.violated(0, f"no end within {patience:.0f} s")
            return "parked"
        legitimate = bool(world.story.events[1:]) or _looked_drifted(world)
        if not legitimate:
            world.oracle.violated(0, "a sound candidate was taken back though nothing went wrong")
        if attempt < RETRIES:
            world.tell("retry")
            world.annotate(names.RETRY, world.checkpoint()["lastRun"])
            await asyncio.sleep(1.0)
    # A limit that README tells: while copies to stable fail, mirroring to it is suspended, and nothing can be compared.
    if world.stable_is_sound():
        world.oracle.violated(0, f"a sound candidate was taken back {RETRIES + 1} times in calm weather")
    return "rejected"


def _ended(world: World) -> str:
    """Give the proper end that is reached; empty while none is."""
    document = world.checkpoint()
    if document.get("run") or world.weight() != 0 or document.get("stable") is None:
        return ""
    wanted, sound = world.revision(world.desired), _is_sound(world)
    if document["stable"]["revision"] == wanted:
        return "promoted"
    if document.get("rejected") == wanted and not _retrying(world) and (not sound or world.story.spec.get("mode") == "Observe"):
        return "taken back"
    return ""


def _help(world: World, *, calm: float) -> None:
    """Do what people do about a rollout that is right to wait for them."""
    if world.status().get("reason") == "NameTaken":
        label_all(world)
    run = world.checkpoint().get("run") or {}
    if calm < PEOPLE_SECONDS or _is_sound(world):
        return
    stable = (world.checkpoint().get("stable") or {}).get("version", "v1")
    if run.get("reason") == "DriftAboveLimit" and world.wanted_abort != run["id"]:
        world.wanted_abort = run["id"]
        world.tell("abort")
        world.annotate(names.ABORT, run["id"])
    if run.get("stage", "Preflight") == "Preflight" and world.desired != stable:
        world.tell("back to stable's template")
        world.release(stable)
        if not world.checkpoint().get("stable"):  # an adoption that never ends holds on to its clone, whatever the target does
            Happenings(world).delete("stable")


def _is_sound(world: World) -> bool:
    return world.models.get(f"model:{world.desired}", Model()).is_sound


def _looked_drifted(world: World) -> bool:
    """Whether the last run ended by the PSI as counted: among some hundred requests that are what they should be, it is large now and then."""
    return (world.spec()["analysis"]["method"], world.checkpoint()["history"][-1]["reason"]) == ("Threshold", "DriftAboveLimit")


def _rejected(world: World) -> bool:
    document = world.checkpoint()
    over = not document.get("run") and world.weight() == 0 and document.get("rejected") == world.revision(world.desired)
    return over and not _retrying(world)


def _retrying(world: World) -> bool:
    """Whether somebody has asked for another run of the last one's revision, which has still to begin."""
    annotations = (world.api.peek(ROLLOUTS, NAME) or {"metadata": {}})["metadata"].get("annotations", {})
    return bool(annotations.get(names.RETRY, "-") == world.checkpoint().get("lastRun"))


async def _after(world: World, ended: str) -> str:
    """Go on for a while: the end must last."""
    for _ in range(60):
        await asyncio.sleep(TICK_SECONDS)
        if world.oracle.violations:
            return "broken"
    trusted = world.revision(world.desired) in world.oracle.serving.trusted
    if ended == "promoted" and not _is_sound(world) and world.desired not in world.degraded and not trusted:
        world.oracle.violated(1, "a bad candidate was promoted")
    if _ended(world) != ended:
        world.oracle.violated(0, f"the end did not last: {ended}")
    return ended
