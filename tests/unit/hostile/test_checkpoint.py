"""A checkpoint with anything wrong in it: left aside, or harmless. Never a failing look, never a higher weight, always a way down."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from kanarya.cluster import names, objects
from kanarya.cluster.fake import FakeApi
from kanarya.cluster.port import CONFIGMAPS
from kanarya.cluster.store import CheckpointTooNew, load
from kanarya.decision.lifecycle import recover
from kanarya.decision.plausible import implausible
from kanarya.decision.state import Stage, State
from tests.unit.cluster_objects.bodies import plan
from tests.unit.controller.simulation import NAME, NAMESPACE, Simulation
from tests.unit.decision.play import B, C, Play, Traffic
from tests.unit.hostile import wrong
from tests.unit.hostile.wrong import Path

pytestmark = pytest.mark.slow

Document = dict[str, Any]


@cache
def at_ten() -> tuple[Play, str]:
    """A run at weight 10 after one that was taken back, and its checkpoint."""
    play = Play().adopted()
    play.release(B)
    play.traffic = Traffic(errors=0.5)
    play.ended()
    play.traffic = Traffic()
    play.release(C)
    play.until(lambda p: p.weight == 10)
    for _ in range(4):
        play.tick()
    state = play.state.model_copy(update={"scale_down_at": play.now + 5, "retired": {"old": play.now + 5}})
    chain = play.state.chain
    assert chain is not None
    outbox = {"chain": chain.model_copy(update={"outbox": tuple(play.entries[-2:])})}
    return play, state.model_copy(update=outbox).model_dump_json(by_alias=True)


def checkpoint() -> Document:
    document: Document = json.loads(at_ten()[1])
    return document


def read(document: Any) -> State | None:
    """Read a checkpoint as the store does; None when it is left aside."""
    try:
        state = State.model_validate_json(json.dumps(document), strict=True)
    except ValueError:
        return None
    return None if implausible(state, at_ten()[0].now) else state


def started_with(state: State) -> Play:
    """The operator begins with this state, in the world that the true one was from."""
    play = copy.deepcopy(at_ten()[0])
    play.decisions, play.weights = [], []
    play.started = play.now
    play.state = recover(state, play.look(), play.now)
    return play


def check_harmless(state: State) -> None:
    play = started_with(state)
    for _ in range(3):
        play.tick()
    assert play.weight <= 10
    play.traffic = Traffic(errors=0.5)
    play.until(lambda p: p.weight == 0, limit=30)
    assert max((weight for _, weight in play.weights), default=0) <= 10


def places(document: Document) -> list[Path]:
    """Every path, but only some of the latched spec, which its own model checks, and of evidence, which its hashes check.

    Of a list, the first item stands for the others.
    """
    deep: dict[wrong.Path, int] = {("run", "spec"): 3, ("chain", "outbox"): 4}
    found = [path for path in wrong.paths(document) if len(path) <= deep.get(path[:2], 9) and not set(path) & set(range(1, 99))]
    return [*found, ("run", "spec", "plan", "steps"), ("run", "spec", "plan", "weightTotal")]


def test_the_checkpoint_itself_is_believed() -> None:
    state = read(checkpoint())
    assert state is not None
    play = started_with(state)
    play.traffic = Traffic()
    assert play.ended() == "Succeeded"


@pytest.mark.parametrize("path", places(checkpoint()), ids=wrong.written)
def test_any_value_at_any_path_is_left_aside_or_harmless(path: Path) -> None:
    good = checkpoint()
    believed = {type(value): read(wrong.replaced(good, path, value)) for value in wrong.FEW}  # one of each type is played through
    for state in (*believed.values(), read(wrong.without(good, path))):
        if state is not None:
            check_harmless(state)


MISFITS: dict[str, tuple[str, Any]] = {
    "a run without a stable": ("stable", None),
    "a run without a spec": ("run.spec", None),
    "a run without its evidence": ("chain", None),
    "evidence of another run": ("chain.run", "ccc-2"),
    "a step beyond the plan": ("run.step", 5),
    "no step": ("run.step", -1),
    "the weight of a later step": ("run.weight", 25),
    "a weight beyond the total": ("run.weight", 101),
    "a weight below 0": ("run.weight", -5),
    "a plan with fewer steps": ("run.spec.plan.steps", [{"weight": 100, "durationSeconds": 10}]),
    "a run that only observes, with weight": ("run.spec.mode", "Observe"),
    "a rollback without outcome": ("run.stage", "RollingBack"),
    "a soak in mid-plan": ("run.stage", "Soaking"),
    "a promotion in mid-plan": ("run.stage", "Promoting"),
    "a Preflight with weight": ("run.stage", "Preflight"),
    "a time to come": ("run.weightSince", 1e9),
    "a step from before the run": ("run.stepSince", 1.0),
    "a run of another revision": ("run.id", "bbb-1"),
    "a run id of 5,000 digits": ("run.id", "ccc-" + "9" * 5000),
    "more errors than requests": ("run.counts.candidateLive.errors", 1e9),
    "more slow requests than requests": ("run.counts.candidateMirror.slower.120", 1e9),
    "more requests than there can be": ("run.counts.candidateLive.requests", 1e9),
    "more inputs than there can be": ("run.drift.current.spread_bp.0", 1e9),
    "a latency that is none": ("run.counts.stable.slower", {"fast": 0.0}),
    "more comparisons than requests": ("run.counts.compared", 1e9),
    "bins that are not those of the reference": ("run.drift.current.spread_bp", [1.0]),
    "a reason that is a sentence": ("run.reason", "why not"),
    "a history with an odd reason": ("history.0.reason", "R" * 65),
    "the candidate as stable": ("stable.revision", "ccc"),
    "a revision that is a path": ("stable.revision", "../../etc"),
    "a billion replicas": ("replicas", 10**9),
    "attempts beyond number": ("attempts", 10**12),
    "stable to be deleted in the year 30000": ("retired.old", 9e11),
    "evidence that was changed": ("chain.outbox.0.at", 5.0),
    "evidence with a hole": ("chain.outbox.0.sequence", 1),
    "evidence with another head": ("chain.head", "0" * 64),
    "an older schema than the first": ("schemaVersion", 0),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_together_is_left_aside(misfit: str) -> None:
    dotted, value = MISFITS[misfit]
    path = tuple(int(part) if part == "0" else part for part in dotted.split("."))
    wrong.at(checkpoint(), path)
    assert read(wrong.replaced(checkpoint(), path, value)) is None


# -- through the whole operator -------------------------------------------------------------------------------------------


async def releasing() -> Simulation:
    sim = await Simulation().adopted()
    await sim.release("v2")
    await sim.until(lambda status: (status.get("run") or {}).get("weight") == 10)
    return sim


async def put(sim: Simulation, text: str) -> None:
    await sim.api.merge_patch(CONFIGMAPS, NAMESPACE, names.checkpoint(NAME), {"data": {"checkpoint.json": text}})
    sim.boot()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: json.dumps(wrong.replaced(document, ("run", "step"), 10**6)),
        lambda document: json.dumps(wrong.replaced(document, ("run", "weightSince"), math.nan)),
        lambda document: json.dumps(wrong.replaced(document, ("stable",), None)),
        lambda document: json.dumps({**document, "schemaVersion": "99"}),
        lambda _: "[" * 100_000,
        lambda _: '"' + "x" * 900_000 + '"',
    ],
    ids=["step", "NaN", "no stable", "version", "nested", "large"],
)
async def test_the_rollout_goes_on_from_zero_and_says_so(spoil: Callable[[Document], str]) -> None:
    sim = await releasing()
    await put(sim, spoil(await sim.checkpoint()))
    await sim.tick()
    assert await sim.weight() == 0
    assert "CheckpointUnreadable" in await sim.events()
    await sim.until(lambda status: (status.get("run") or {}).get("weight") == 5)


async def test_one_that_lost_its_labels_and_all_it_said_is_still_the_rollouts_own() -> None:
    sim = await releasing()
    gone: Document = {"metadata": {"labels": None}, "data": {"checkpoint.json": None}}
    await sim.api.merge_patch(CONFIGMAPS, NAMESPACE, names.checkpoint(NAME), gone)
    sim.boot()
    await sim.tick()
    assert await sim.weight() == 0
    await sim.until(lambda status: (status.get("run") or {}).get("weight") == 5)


@pytest.mark.parametrize("version", [True, "1", "99", 1.5, None, -1, 0, [], {}, math.nan])
async def test_a_schema_version_of_any_type_is_unreadable(version: Any) -> None:
    assert await problem_of(json.dumps({**checkpoint(), "schemaVersion": version}))


@pytest.mark.parametrize("version", [2, 2**63, 10**30])
async def test_a_larger_schema_version_is_a_newer_operator(version: int) -> None:
    with pytest.raises(CheckpointTooNew, match="upgrade the operator"):
        await problem_of(json.dumps({**checkpoint(), "schemaVersion": version}))


@pytest.mark.parametrize("text", ["", "null", "[]", "NaN", "{" * 5000, '{"run": ' * 300 + "1" + "}" * 300, "\x00", "1" * 5000])
async def test_what_is_no_checkpoint_at_all_is_unreadable(text: str) -> None:
    assert await problem_of(text)


async def problem_of(text: str) -> str:
    """Load a checkpoint; gives the sentence on what is wrong with it."""
    api = FakeApi()
    body = objects.config_map(plan(), names.checkpoint(NAME), "checkpoint.json", {})
    body["data"]["checkpoint.json"] = text
    await api.create(CONFIGMAPS, NAMESPACE, body)
    loaded = await load(api, plan(), "u", now=at_ten()[0].now)
    assert loaded.state == State(uid="u")
    assert len(loaded.problem) < 500
    return loaded.problem


async def test_the_checkpoint_of_another_rollout_carries_no_run() -> None:
    sim = await releasing()
    await put(sim, json.dumps({**await sim.checkpoint(), "uid": "another"}))
    await sim.tick()
    assert await sim.weight() == 0
    assert (await sim.ended())["outcome"] == "Succeeded"


@pytest.mark.parametrize("errors", [0.0, 0.5])
@pytest.mark.parametrize("mode", ["Live", "Observe"])
async def test_every_checkpoint_that_the_operator_writes_is_one_it_believes(mode: str, errors: float) -> None:
    sim = Simulation(spec={"mode": mode, "plan": {"steps": [{"weight": w, "durationSeconds": 5} for w in (0, 10, 100)], "soakSeconds": 5}})
    await sim.install()
    stages: set[Stage] = set()
    for tick in range(120):
        if tick == 30:
            await sim.release("v2")
        if tick == 60:
            sim.traffic.errors = errors
        await sim.tick()
        state = State.model_validate_json(json.dumps(await sim.checkpoint()), strict=True)
        assert implausible(state, sim.now) == ""
        stages |= {state.run.stage} if state.run else set()
    assert {Stage.PREFLIGHT, Stage.STEPPING} <= stages
