"""Somebody else edits what the operator owns, in the middle of a run: repaired, reported, and never noticed by a client."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from examples import lab
from examples.lab import ModelService, get
from tests.e2e.conftest import Serving, check_end, no_client_error, quick_spec, weights_entered

REPAIR_SECONDS = 10.0

Patch = list[dict[str, Any]]


def edit(service: ModelService, kind: str, name: str, *operations: dict[str, Any]) -> None:
    """Write as a person would: unguarded, under their own name."""
    lab.kubectl("patch", "-n", service.namespace, kind, name, "--type=json", "--field-manager=somebody", "-p", json.dumps(operations))


def replace(path: str, value: object) -> dict[str, Any]:
    return {"op": "replace", "path": path, "value": value}


def weights(candidate: int) -> Patch:
    backends = "/spec/rules/0/backendRefs"
    return [replace(f"{backends}/0/weight", 100 - candidate), replace(f"{backends}/1/weight", candidate)]


def extra_backend() -> Patch:
    backend = {"group": "", "kind": "Service", "name": "elsewhere", "port": 80, "weight": 30}
    return [{"op": "add", "path": "/spec/rules/0/backendRefs/-", "value": backend}]


def backends(service: ModelService) -> dict[str, int]:
    """Give the route's backends and their weights; nothing while there is no route."""
    items = get(service.namespace, "httproute")["items"]
    return {backend["name"]: backend["weight"] for route in items for backend in route["spec"]["rules"][0]["backendRefs"]}


def test_a_foreign_edit_of_the_route_is_repaired(serving: Serving) -> None:
    service = serving(spec=quick_spec(50, 100, seconds=8))
    service.release("v1.8.1")

    def repaired(change: Callable[[], object], weight: int) -> None:
        """Make a change once the run has its weight; see the route repaired at `weight`, and the step earned again."""
        service.wait_weight(50, 60)
        count = repairs(service)
        change()
        lab.eventually(lambda: repairs(service) > count, "the Event RouteRepaired", REPAIR_SECONDS)
        assert list(backends(service)) == ["fraud-stable", "fraud-candidate"]
        assert backends(service)["fraud-candidate"] in (weight, 50)

    repaired(lambda: edit(service, "httproute", "fraud", *weights(90)), 50)
    repaired(lambda: edit(service, "httproute", "fraud", *weights(20)), 20)
    repaired(lambda: edit(service, "httproute", "fraud", *extra_backend()), 0)
    repaired(lambda: lab.kubectl("delete", "-n", service.namespace, "httproute", "fraud"), 0)
    entries = check_end(service, "Succeeded", "Promoted")
    assert weights_entered(entries) == [50, 100]
    found = [item["found"] for item in entries if item["kind"] == "RouteRepaired"]
    assert found == [90, 20, 0, 0]
    assert [item["weight"] for item in entries if item["kind"] == "WeightRestored"] == [50, 50, 50]
    # Without a run nothing is looked at but once a minute, unless an event says so: here of a route that is no longer labelled ours.
    edit(service, "httproute", "fraud", replace("/metadata/labels", {}), *weights(50))
    lab.eventually(lambda: backends(service) == {"fraud-stable": 100, "fraud-candidate": 0}, "weight 0", REPAIR_SECONDS, 0.2)
    assert get(service.namespace, "httproute", "fraud")["metadata"]["labels"]["kanarya.dev/rollout"] == "fraud"
    no_client_error(service)


def repairs(service: ModelService) -> int:
    return sum(word == "RouteRepaired" for word, _ in service.events())


@pytest.mark.parametrize("track", ["stable", "candidate"])
def test_a_foreign_edit_of_a_tracks_service_is_repaired(serving: Serving, track: str) -> None:
    service = serving(spec=quick_spec(10, 50, 100, seconds=8))
    service.release("v1.8.1")
    service.wait_weight(50)
    see_repaired(service, f"fraud-{track}", "/spec/selector", {"app": "somewhere-else"})
    lab.eventually(lambda: "ServiceRepaired" in dict(service.events()), "the Event ServiceRepaired", REPAIR_SECONDS)
    entries = check_end(service, "Succeeded", "Promoted")
    assert weights_entered(entries) == [10, 50, 100]
    # Without a run nothing is looked at but once a minute, unless an event says so.
    see_repaired(service, f"fraud-{track}", "/spec/selector", {"app": "somewhere-else"})
    if track == "candidate":  # clients would notice that of stable
        see_repaired(service, "fraud-candidate", "/spec/ports/0/targetPort", 9)
    before = service.stats()["answered"]
    lab.eventually(lambda: service.stats()["answered"] > before + 100, "more answers", 30)
    no_client_error(service)


def see_repaired(service: ModelService, name: str, path: str, value: object) -> None:
    before = get(service.namespace, "service", name)["spec"]
    edit(service, "service", name, replace(path, value))
    lab.eventually(lambda: get(service.namespace, "service", name)["spec"] == before, f"{path} as it was", REPAIR_SECONDS, 0.2)


def test_a_foreign_edit_of_the_stable_deployment_is_repaired(serving: Serving) -> None:
    service = serving(spec=quick_spec(10, 50, 100, seconds=8))
    service.release("v1.8.1")
    service.wait_weight(10)
    name = f"fraud-stable-{service.status()['stable']['revision']}"
    before = get(service.namespace, "deploy", name)["spec"]
    container = "/spec/template/spec/containers/0"
    for change in (
        replace(f"{container}/image", "kanarya/inference:mine"),
        replace(f"{container}/env", [{"name": "KANARYA_FAULT_ERROR_RATE", "value": "1"}]),
        replace("/spec/replicas", 1),
    ):
        edit(service, "deploy", name, change)
        lab.eventually(lambda: get(service.namespace, "deploy", name)["spec"] == before, f"{change['path']} as it was", REPAIR_SECONDS, 0.2)
    # The same Event is posted once a minute: the first two edits share it.
    lab.eventually(lambda: {"StableRepaired", "StableScaled"} <= dict(service.events()).keys(), "both Events", REPAIR_SECONDS)
    check_end(service, "Succeeded", "Promoted")
    no_client_error(service)
