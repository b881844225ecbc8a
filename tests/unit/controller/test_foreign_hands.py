"""Objects of ours that somebody else changes or deletes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kanarya.cluster import names
from kanarya.cluster.fake import Call
from kanarya.cluster.port import (
    CONFIGMAPS,
    DEPLOYMENTS,
    HTTPROUTES,
    SERVICES,
    Object,
    Resource,
    Unavailable,
)
from tests.unit.controller.simulation import NAME, NAMESPACE, Simulation, releasing


async def test_foreign_edits_are_repaired_and_reported() -> None:
    sim = await Simulation().adopted()
    (revision,) = await sim.stables()
    stable = names.stable_deployment(NAME, revision)
    change = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "evil:1"}]
    await sim.api.json_patch(DEPLOYMENTS, NAMESPACE, stable, change)
    await sim.api.merge_patch(SERVICES, NAMESPACE, names.stable_service(NAME), {"spec": {"selector": {"evil": "yes"}}})
    await sim.api.merge_patch(CONFIGMAPS, NAMESPACE, names.settings(NAME), {"data": {"settings.json": "{}"}})
    await sim.api.json_patch(HTTPROUTES, NAMESPACE, NAME, [{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 70}])
    await sim.tick()
    await sim.tick()
    body = await sim.api.get(DEPLOYMENTS, NAMESPACE, stable)
    service = await sim.api.get(SERVICES, NAMESPACE, names.stable_service(NAME))
    settings = await sim.api.get(CONFIGMAPS, NAMESPACE, names.settings(NAME))
    assert body is not None
    assert service is not None
    assert settings is not None
    assert body["spec"]["template"]["spec"]["containers"][0]["image"] == "model:v1"
    assert "evil" not in service["spec"]["selector"]
    assert json.loads(settings["data"]["settings.json"])["tracks"]["stable"]["revision"] == revision
    assert await sim.weight() == 0
    assert {"StableRepaired", "RouteRepaired"} <= set(await sim.events())


async def _edit_weight(sim: Simulation, weight: int) -> None:
    path = "/spec/rules/0/backendRefs/1/weight"
    await sim.api.json_patch(HTTPROUTES, NAMESPACE, NAME, [{"op": "replace", "path": path, "value": weight}])


async def test_no_sample_from_before_a_lower_weight_was_written_allows_a_rise() -> None:
    sim = await releasing(10)

    async def slow_write(call: Call) -> None:
        if call.resource is HTTPROUTES and call.verb == "merge_patch":
            sim.now += 3

    await _edit_weight(sim, 80)
    sim.fault = slow_write
    await sim.tick()
    assert await sim.weight() == 10
    assert (await sim.checkpoint())["run"]["proofSince"] == sim.now


async def test_a_lower_weight_that_was_written_without_an_answer_counts_from_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    sim = await releasing(10)
    merge_patch = sim.api.merge_patch

    async def lost(resource: Resource, *arguments: Any, **named: Any) -> Object:
        answer = await merge_patch(resource, *arguments, **named)
        if resource is HTTPROUTES:
            raise Unavailable("the answer was lost")
        return answer

    await _edit_weight(sim, 80)
    with monkeypatch.context() as patch:
        patch.setattr(sim.api, "merge_patch", lost)
        assert isinstance(await sim.tick(), Unavailable)
    assert await sim.weight() == 10
    await sim.tick(7.0)
    assert (await sim.checkpoint())["run"]["proofSince"] == sim.now


async def test_a_deleted_route_comes_back_at_zero_and_the_step_is_earned_again() -> None:
    sim = await releasing(25)
    await sim.api.delete(HTTPROUTES, NAMESPACE, NAME)
    await sim.tick()
    assert await sim.weight() == 0
    assert (await sim.ended())["outcome"] == "Succeeded"
