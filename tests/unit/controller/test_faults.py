"""Crashes at every point, calls that fail or hang, and clocks: what is written first, and what never twice."""

from __future__ import annotations

from itertools import pairwise

import pytest

from kanarya.cluster import names
from kanarya.cluster.execute import FAULT_POINTS
from kanarya.cluster.fake import Call
from kanarya.cluster.port import (
    CONFIGMAPS,
    EVENTS,
    HTTPROUTES,
    SERVICES,
    Conflict,
    Unavailable,
)
from kanarya.decision.counts import Missing
from kanarya.decision.replay import first_difference
from tests.unit.controller.simulation import KEY, NAME, NAMESPACE, Simulation, releasing

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("point", FAULT_POINTS)
async def test_a_crash_at_any_point_of_a_good_release_repeats_nothing_that_matters(point: str) -> None:
    sim = await Simulation().adopted()
    await sim.release("v2")
    crashes = 0
    for tick in range(900):
        if tick % 45 == 0:
            sim.crash_at = point
        before = len(sim.passed)
        await sim.tick()
        crashes += point in sim.passed[before:] and not sim.crash_at
        status = (await sim.rollout()).get("status", {})
        if status.get("history"):
            break
    sim.crash_at = ""
    assert crashes
    assert status["history"][-1]["outcome"] == "Succeeded"
    entries = await sim.evidence(status["history"][-1]["run"])
    assert [item["step"] for item in entries if item["kind"] == "StepEntered"] == [1, 2, 3, 4, 5]
    assert first_difference(entries) is None
    times = [item["at"] for item in entries if item["kind"] in ("StepEntered", "WeightRestored")]
    assert all(later >= earlier for earlier, later in pairwise(times))


@pytest.mark.parametrize("point", FAULT_POINTS)
async def test_a_crash_at_any_point_of_a_rollback_still_ends_at_zero(point: str) -> None:
    sim = await releasing(10)
    sim.traffic.errors = 0.5
    sim.crash_at = point
    entry = await sim.ended()
    assert entry["outcome"] == "RolledBack"
    assert await sim.weight() == 0


async def test_weight_zero_is_written_though_everything_else_fails() -> None:
    sim = await releasing(10)

    async def only_routes(call: Call) -> None:
        if call.verb in ("create", "merge_patch", "json_patch", "replace", "delete") and call.resource != HTTPROUTES:
            raise Unavailable("injected")

    sim.traffic.errors = 0.5
    sim.fault = only_routes
    for _ in range(6):
        await sim.tick()
    assert await sim.weight() == 0
    sim.fault = None
    assert (await sim.ended())["outcome"] == "RolledBack"


async def test_the_way_down_waits_for_no_other_write_of_its_pass() -> None:
    sim = await releasing(10)

    async def services_fail(call: Call) -> None:
        if call.resource is SERVICES and call.verb not in ("get", "list"):
            raise Unavailable("injected")

    route = await sim.api.get(HTTPROUTES, NAMESPACE, NAME)
    assert route is not None
    for backend, weight in zip(route["spec"]["rules"][0]["backendRefs"], (20, 80), strict=True):
        backend["weight"] = weight
    await sim.api.merge_patch(HTTPROUTES, NAMESPACE, NAME, {"spec": route["spec"]})
    await sim.api.delete(SERVICES, NAMESPACE, names.stable_service(NAME))
    sim.fault = services_fail
    assert isinstance(await sim.tick(), Unavailable)
    assert await sim.weight() == 10


async def test_a_decided_rollback_is_written_before_anything_is_read() -> None:
    sim = await releasing(10)
    failing = True

    async def routes_fail(call: Call) -> None:
        if failing and call.verb == "merge_patch" and call.resource == HTTPROUTES:
            raise Unavailable("injected")

    sim.traffic.errors = 0.5
    sim.fault = routes_fail
    for _ in range(5):
        await sim.tick()
    assert await sim.weight() == 10
    failing = False

    async def nothing_can_be_read(call: Call) -> None:
        if call.verb in ("get", "list"):
            raise Unavailable("injected")

    sim.fault = nothing_can_be_read
    sim.traffic.errors = 0.0
    assert isinstance(await sim.tick(), Unavailable)
    sim.fault = None
    assert await sim.weight() == 0


async def test_a_raise_is_announced_in_the_checkpoint_before_it_is_on_the_route() -> None:
    sim = await releasing()
    announced: list[tuple[int, int]] = []

    async def look(call: Call) -> None:
        if call.resource is HTTPROUTES and call.verb == "merge_patch" and "resourceVersion" in call.body["metadata"]:
            weight = call.body["spec"]["rules"][0]["backendRefs"][1]["weight"]
            announced.append((weight, (await sim.checkpoint())["intent"]))

    sim.fault = look
    assert (await sim.ended())["outcome"] == "Succeeded"
    assert announced == [(weight, weight) for weight in (10, 25, 50, 100)]


async def test_an_upward_write_is_lost_to_somebody_who_was_faster() -> None:
    sim = await releasing()
    once = True

    async def conflict(call: Call) -> None:
        nonlocal once
        if once and call.resource == HTTPROUTES and call.verb == "merge_patch" and "resourceVersion" in call.body["metadata"]:
            once = False
            raise Conflict("injected")

    sim.fault = conflict
    while once:
        await sim.tick()
    assert (await sim.weight(), (await sim.rollout())["status"]["run"]["weight"]) == (5, 5)
    assert (await sim.ended())["outcome"] == "Succeeded"
    assert "RouteRepaired" not in await sim.events()
    assert sim.weights == [0, 5, 10, 25, 50, 100, 0]


async def test_prometheus_gone_holds_and_says_so() -> None:
    sim = await releasing(10)
    sim.traffic.missing = {"*": Missing.SOURCE_DOWN}
    for _ in range(60):
        await sim.tick()
    status = (await sim.rollout())["status"]
    assert (status["run"]["weight"], status["reason"]) == (10, "SourceDown")
    sim.traffic.missing = {}
    assert (await sim.ended())["outcome"] == "Succeeded"


async def test_a_clock_that_is_set_back_holds_nothing_up_and_hides_nothing() -> None:
    sim = await Simulation().adopted()
    await sim.release("v2")
    await sim.tick()
    sim.set_clock(-3600)
    await sim.until(lambda status: (status.get("run") or {}).get("weight") == 5, limit=30)
    await sim.until(lambda status: (status.get("run") or {}).get("weight") == 10, limit=30)
    sim.set_clock(-3600)
    sim.traffic.errors = 0.5
    for _ in range(10):
        await sim.tick()
    assert await sim.weight() == 0


async def test_a_clock_set_back_between_two_runs_brings_no_sample_again() -> None:
    sim = await Simulation().adopted()
    await sim.tick()
    sim.set_clock(-40)
    await sim.tick()
    at = sim.now
    await sim.release("v2")
    await sim.until(lambda status: (status.get("run") or {}).get("weight") == 5, limit=150)
    assert sim.now - 2 > at + 40


async def test_a_process_goes_by_no_sample_of_before_though_the_clock_was_set_forward_since_it_began() -> None:
    sim = await releasing(5)
    for _ in range(8):
        await sim.tick()
    sim.boot()
    sim.set_clock(60)
    await sim.tick()  # the newest sample is 2 s old, the process 1 s
    assert await sim.weight() == 5
    await sim.until(lambda status: (status.get("run") or {}).get("weight") == 10, limit=3)


async def test_a_clock_that_was_set_forward_before_the_first_look_makes_no_earlier_sample_count() -> None:
    sim = await releasing(5)
    entered = sim.now
    sim.boot()
    sim.set_clock(60)
    await sim.tick()
    memory = sim.reconciler.memory(KEY)
    assert memory is not None
    assert memory.state is not None
    assert memory.state.run is not None
    assert memory.state.run.weight_since > entered + 60  # what Prometheus calls `entered` is a minute before the weight was set


async def test_an_unreadable_checkpoint_is_told_after_the_weight_is_down() -> None:
    sim = await releasing(25)
    await sim.api.merge_patch(CONFIGMAPS, NAMESPACE, names.checkpoint(NAME), {"data": {"checkpoint.json": "{"}})
    sim.boot()

    async def no_events(call: Call) -> None:
        if call.resource == EVENTS:
            assert await sim.weight() == 0

    sim.fault = no_events
    await sim.tick()
    assert await sim.weight() == 0
    assert "CheckpointUnreadable" in await sim.events()
