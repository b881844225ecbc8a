"""The whole operator against objects made wrong in mid-run: it says what to change, goes on, never rises, and comes down."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from kanarya.cluster import names
from kanarya.cluster.port import CONFIGMAPS, DEPLOYMENTS, HTTPROUTES, ROLLOUTS, SERVICES, Object, Resource
from kanarya.decision.replay import first_difference
from tests.unit.controller.simulation import KEY, NAME, NAMESPACE, Simulation, template
from tests.unit.hostile import wrong

pytestmark = pytest.mark.slow


async def releasing(weight: int = 10, **options: Any) -> Simulation:
    sim = await Simulation(**options).adopted()
    await sim.release("v2")
    await sim.until(lambda status: (status.get("run") or {}).get("weight") == weight)
    return sim


async def accepted(sim: Simulation, name: str = NAME) -> tuple[str, str, str]:
    body = await sim.api.get(ROLLOUTS, NAMESPACE, name)
    assert body is not None
    entry = next(entry for entry in body["status"]["conditions"] if entry["type"] == "Accepted")
    return entry["status"], entry["reason"], entry["message"]


async def change_spec(sim: Simulation, path: str, value: Any) -> None:
    """Write a spec that an API server with today's definition would refuse, as one with an older definition would not."""
    operation = {"op": "add", "path": f"/spec/{path}", "value": value}
    await sim.api.json_patch(ROLLOUTS, NAMESPACE, NAME, [operation])


async def copied(sim: Simulation, resource: Resource, original: str, **metadata: Any) -> Object:
    body = deepcopy(await sim.api.get(resource, NAMESPACE, original))
    assert body is not None
    for key in ("uid", "resourceVersion", "creationTimestamp", "generation"):
        body["metadata"].pop(key, None)
    body.pop("status", None)
    body["metadata"] |= metadata
    return body


# -- a spec that becomes unusable -----------------------------------------------------------------------------------------

SPOILT: dict[str, tuple[str, Any, str]] = {
    "steps that fall": ("plan/steps", [{"weight": 50}, {"weight": 5}], "InvalidSpec"),
    "an analysis of another type": ("analysis", 5, "InvalidSpec"),
    "a source that nobody configured": ("analysis", {"sourceName": "elsewhere"}, "UnknownSource"),
    "no target": ("targetRef", None, "InvalidSpec"),
}


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("case", SPOILT)
async def test_a_run_whose_rollout_is_spoilt_holds_is_judged_and_comes_down(case: str, restart: bool) -> None:
    path, value, reason = SPOILT[case]
    sim = await releasing()
    await change_spec(sim, path, value)
    if restart:
        sim.boot()
    for _ in range(15):
        await sim.tick()
    assert (await accepted(sim))[:2] == ("False", reason)
    if restart and case == "no target":
        assert await sim.weight() == 10  # nothing says whose run this is
        return
    status = (await sim.rollout())["status"]
    assert (await sim.weight(), status["reason"], status["run"]["weight"]) == (10, "Paused", 10)
    assert next(entry for entry in status["conditions"] if entry["type"] == "Ready")["status"] == "True"
    sim.traffic.errors = 0.5
    assert (await sim.ended())["reason"] == "ErrorsAboveAbort"
    assert sim.weights == [0, 5, 10, 0]
    await sim.tick()
    assert (await sim.rollout())["status"]["summary"] == "Refused"
    assert (await sim.rollout())["status"]["history"]


async def test_an_abort_is_heard_though_the_spec_is_spoilt() -> None:
    sim = await releasing()
    await change_spec(sim, "plan", {"steps": "none"})
    await sim.annotate(names.ABORT, (await sim.rollout())["status"]["run"]["id"])
    assert (await sim.ended())["outcome"] == "Aborted"
    assert await sim.weight() == 0


async def test_a_run_whose_rollout_is_mended_goes_on() -> None:
    sim = await releasing()
    await change_spec(sim, "analysis", {"sourceName": "elsewhere"})
    for _ in range(15):
        await sim.tick()
    await change_spec(sim, "analysis", {"method": "Threshold", "intervalSeconds": 1, "minSamples": 50})
    assert (await sim.ended())["outcome"] == "Succeeded"
    assert (await accepted(sim))[:2] == ("True", "Valid")


async def test_a_source_that_the_operator_lost_is_one_that_is_down() -> None:
    spec = {
        "analysis": {
            "method": "Threshold",
            "intervalSeconds": 1,
            "minSamples": 50,
            "missingData": {"sourceDown": {"action": "Rollback", "afterSeconds": 30}},
        }
    }
    sim = await releasing(spec=spec)
    sim.sources = ()
    sim.boot()
    entry = await sim.ended()
    assert (entry["outcome"], entry["reason"]) == ("RolledBack", "SourceDown")
    assert await sim.weight() == 0


# -- a target that becomes unusable ---------------------------------------------------------------------------------------


def two_ports(body: Object) -> None:
    body["spec"]["containers"][0]["ports"] = [{"containerPort": 1}, {"containerPort": 2}]


def labels_of_stable(body: Object) -> None:
    body["metadata"]["labels"] |= {names.ROLLOUT: NAME, names.TRACK: "stable", names.REVISION: "x"}


def endless_image(body: Object) -> None:
    body["spec"]["containers"][0]["image"] = "model:" + "v" * 2000


@pytest.mark.parametrize("spoil", [two_ports, labels_of_stable, endless_image])
async def test_a_template_that_cannot_be_served_ends_the_run_before_it_is_refused(spoil: Callable[[Object], None]) -> None:
    sim = await releasing()
    body = template("v3")
    spoil(body)
    await sim.api.json_patch(DEPLOYMENTS, NAMESPACE, NAME, [{"op": "replace", "path": "/spec/template", "value": body}])
    entry = await sim.ended()
    assert (entry["outcome"], entry["reason"]) == ("Superseded", "NewerRevision")
    assert await sim.weight() == 0
    for _ in range(3):
        assert await sim.tick() is None
    status, reason, message = await accepted(sim)
    assert (status, reason) == ("False", "UnusableTarget")
    assert 30 < len(message) < 300
    await sim.release("v4")
    assert (await sim.ended())["outcome"] == "Succeeded"


# -- objects of others ----------------------------------------------------------------------------------------------------

ODD_SPECS: tuple[Any, ...] = (
    None,
    {},
    [],
    "x",
    {"targetRef": None},
    {"targetRef": [NAME]},
    {"targetRef": {"name": 5}, "serviceRef": "fraud"},
    {"x": wrong.DEEP},
)


async def test_malformed_rollouts_of_others_harm_nobody() -> None:
    sim = await releasing()
    for number, spec in enumerate(ODD_SPECS):
        metadata = {"name": f"a{number}", "namespace": NAMESPACE}
        body = {"apiVersion": ROLLOUTS.api_version, "kind": ROLLOUTS.kind, "metadata": metadata, "spec": spec}
        await sim.api.create(ROLLOUTS, NAMESPACE, body)
        await sim.reconciler.reconcile((NAMESPACE, f"a{number}"))
        status, reason, message = await accepted(sim, f"a{number}")
        assert (status, reason) == ("False", "InvalidSpec")
        assert "spec" in message
    assert (await sim.ended())["outcome"] == "Succeeded"


@pytest.mark.parametrize(
    ("resource", "name", "body"),
    [
        (HTTPROUTES, NAME, {"spec": {"hostnames": ["shop.test"], "rules": [{"backendRefs": [{"name": "shop", "port": 80, "weight": 1}]}]}}),
        (SERVICES, f"{NAME}-stable", {"spec": {"selector": {"app": "db"}, "ports": [{"port": 5432}]}}),
        (SERVICES, f"{NAME}-candidate", {"spec": {"selector": {"app": "db"}, "ports": [{"port": 5432}]}}),
        (CONFIGMAPS, f"{NAME}-router", {"data": {"shop": "open"}}),
        (CONFIGMAPS, f"{NAME}-run", {"data": {"shop": "open"}}),
    ],
)
async def test_what_others_have_under_our_names_is_not_touched(resource: Resource, name: str, body: Object) -> None:
    sim = Simulation(router=False)
    theirs = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name, "namespace": NAMESPACE}, **body}
    made = await sim.api.create(resource, NAMESPACE, theirs)
    await sim.install()
    sim.controllers()
    await sim.reconciler.reconcile(KEY)
    status, reason, message = await accepted(sim)
    assert (status, reason) == ("False", "NameTaken")
    assert f"{resource.kind} {name} is there already" in message
    assert await sim.api.get(resource, NAMESPACE, name) == made
    assert (await sim.target())["spec"]["replicas"] == 2
    await sim.api.delete(resource, NAMESPACE, name)
    sim.router = True
    await sim.until(lambda status: bool(status.get("stable")))


async def test_a_deployment_with_our_labels_does_not_keep_a_rollout_from_being_adopted() -> None:
    sim = Simulation()
    await sim.install()
    body = await copied(sim, DEPLOYMENTS, NAME, name="copy", labels={**names.labels(NAME), names.TRACK: "stable", names.REVISION: "zzz"})
    body["spec"]["template"]["metadata"]["labels"] = body["spec"]["selector"]["matchLabels"] = {"app": "copy"}
    await sim.api.create(DEPLOYMENTS, NAMESPACE, body)
    await sim.until(lambda status: bool(status.get("stable")))
    assert "zzz" not in str((await sim.rollout())["status"])


async def test_a_target_called_like_a_router_is_refused() -> None:
    sim = await Simulation().adopted()
    for rollout, target in (("cards", f"{NAME}-router"), ("query", "query-router")):
        metadata = {"name": rollout, "namespace": NAMESPACE}
        spec = {"targetRef": {"name": target}, "serviceRef": {"name": rollout}}
        body = {"apiVersion": ROLLOUTS.api_version, "kind": ROLLOUTS.kind, "metadata": metadata, "spec": spec}
        await sim.api.create(ROLLOUTS, NAMESPACE, body)
        await sim.reconciler.reconcile((NAMESPACE, rollout))
        status, reason, message = await accepted(sim, rollout)
        assert (status, reason) == ("False", "TargetTaken")
        assert "its pods would be taken for routers" in message


@pytest.mark.parametrize("name", ["1fraud", "fraud.eu"])
async def test_a_name_of_which_no_service_can_be_made_is_refused(name: str) -> None:
    sim = await Simulation().adopted()
    body = await copied(sim, ROLLOUTS, NAME, name=name)
    body["spec"] |= {"targetRef": {"name": "other"}, "serviceRef": {"name": "other"}}
    await sim.api.create(ROLLOUTS, NAMESPACE, body)
    await sim.reconciler.reconcile((NAMESPACE, name))
    assert (await accepted(sim, name))[1] == "InvalidName"


# -- annotations ----------------------------------------------------------------------------------------------------------


async def test_annotations_of_200_kb_and_of_other_runs_do_nothing() -> None:
    sim = await releasing()
    run = (await sim.rollout())["status"]["run"]["id"]
    odd = {names.ABORT: run + " " + "x" * 100_000, names.RETRY: "\n\u202e" * 20_000, "kanarya.dev/unknown": "y" * 20_000}
    for key, value in odd.items():
        await sim.annotate(key, value)
    for _ in range(5):
        assert await sim.tick() is None
    assert await sim.weight() == 10
    await sim.annotate(names.ABORT, run)
    assert (await sim.ended())["outcome"] == "Aborted"


# -- evidence -------------------------------------------------------------------------------------------------------------


def not_json(_: Any) -> Any:
    return "{"


def a_list(_: Any) -> Any:
    return "[]"


def without_entries(document: Any) -> Any:
    return json.dumps({**document, "entries": 5})


def odd_entries(document: Any) -> Any:
    return json.dumps({**document, "entries": [None, 5, {"sequence": "x"}, {"sequence": True}, {"sequence": 10**9}]})


def a_hole(document: Any) -> Any:
    return json.dumps({**document, "entries": document["entries"][1:]})


def endless(document: Any) -> Any:
    written = {"data": {"evidence.json": json.dumps({**document, "note": ""})}}
    return json.dumps({**document, "note": "x" * (2**20 - len(json.dumps(written)) - 50)})  # as much as a body may have


@pytest.mark.parametrize("spoil", [not_json, a_list, without_entries, odd_entries, a_hole, endless])
async def test_evidence_that_was_spoilt_does_not_stop_the_run_and_does_not_verify(spoil: Callable[[Any], Any]) -> None:
    sim = await releasing()
    run = (await sim.rollout())["status"]["run"]["id"]
    name = names.evidence(NAME, run, 1)
    body = await sim.api.get(CONFIGMAPS, NAMESPACE, name)
    assert body is not None
    before = await sim.evidence(run)
    text = spoil(json.loads(body["data"]["evidence.json"]))
    await sim.api.merge_patch(CONFIGMAPS, NAMESPACE, name, {"data": {"evidence.json": text}})
    sim.traffic.errors = 0.5
    entry = await sim.ended()
    assert entry["outcome"] == "RolledBack"
    assert await sim.weight() == 0
    after = await sim.evidence(run)
    later = [item for item in after if isinstance(item.get("sequence"), int) and before[-1]["sequence"] < item["sequence"] < 10**9]
    assert later[-1]["hash"] == entry["evidenceHead"]
    whole = spoil is endless
    assert (first_difference(after) is None) is whole


@pytest.mark.parametrize("ours", [False, True], ids=["foreign", "ours"])
@pytest.mark.parametrize("immutable", [False, True])
async def test_the_names_of_parts_may_be_taken(ours: bool, immutable: bool) -> None:
    sim = await Simulation().adopted()
    await sim.release("v2")
    await sim.until(lambda status: bool(status.get("run")))
    run = (await sim.rollout())["status"]["run"]["id"]
    labels = {**names.labels(NAME), names.RUN: run} if ours else {}
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"theirs": "kept"}, "immutable": immutable}
    metadata = {"name": names.evidence(NAME, run, 1), "namespace": NAMESPACE, "labels": labels}
    await sim.api.create(CONFIGMAPS, NAMESPACE, {**theirs, "metadata": metadata})
    entry = await sim.ended()
    assert entry["outcome"] == "Succeeded"
    kept = await sim.api.get(CONFIGMAPS, NAMESPACE, names.evidence(NAME, run, 1))
    assert kept is not None
    assert kept["data"] == {"theirs": "kept"}
    entries = await sim.evidence(run)
    assert first_difference(entries) is None
    assert entries[-1]["hash"] == entry["evidenceHead"]


# -- settings, stable, route ----------------------------------------------------------------------------------------------


async def test_no_weight_rises_while_the_routers_settings_are_not_ours() -> None:
    sim = await releasing()
    softer = json.dumps({"schemaVersion": 1})
    for _ in range(15):
        await sim.api.merge_patch(CONFIGMAPS, NAMESPACE, names.settings(NAME), {"data": {"settings.json": softer}})
        await sim.tick()
    assert await sim.weight() == 10
    sim.traffic.errors = 0.5
    assert (await sim.ended())["outcome"] == "RolledBack"


async def test_a_checkpoint_whose_stable_is_not_there_does_not_move_the_service() -> None:
    sim = await releasing()
    revision, selector = (await sim.stables())[0], (await service(sim))["spec"]["selector"]
    document = wrong.replaced(await sim.checkpoint(), ("stable", "revision"), "zzz")
    await sim.api.merge_patch(CONFIGMAPS, NAMESPACE, names.checkpoint(NAME), {"data": {"checkpoint.json": json.dumps(document)}})
    sim.boot()
    for _ in range(3):
        await sim.tick()
    assert await sim.weight() == 0
    assert (await service(sim))["spec"]["selector"] == selector
    assert (await sim.rollout())["status"]["stable"]["revision"] == revision
    assert (await sim.ended())["outcome"] == "Succeeded"


async def service(sim: Simulation) -> Object:
    body = await sim.api.get(SERVICES, NAMESPACE, names.stable_service(NAME))
    assert body is not None
    return body


@pytest.mark.parametrize("weight", ["10", 1.5, -5, 10**30])
async def test_a_route_of_another_shape_is_put_right_and_let_go(weight: Any) -> None:
    sim = await releasing()
    path = "/spec/rules/0/backendRefs/1/weight"
    await sim.api.json_patch(HTTPROUTES, NAMESPACE, NAME, [{"op": "add", "path": path, "value": weight}])
    await sim.reconciler.reconcile(KEY)
    assert await sim.weight() in (0, 1, 10)
    assert "RouteRepaired" in await sim.events()
    await sim.api.json_patch(HTTPROUTES, NAMESPACE, NAME, [{"op": "add", "path": path, "value": weight}])
    await sim.api.delete(ROLLOUTS, NAMESPACE, NAME)
    assert await sim.reconciler.reconcile(KEY) is None
