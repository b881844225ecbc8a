"""Objects of the cluster in any shape: read without an error, never taken for ours when they are not."""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from kanarya.cluster import names, objects
from kanarya.cluster.objects import UnusableTarget
from kanarya.cluster.observe import NameTaken, View, check_free, check_target, world_of
from kanarya.cluster.port import Object
from kanarya.decision.world import Route, World
from tests.unit.cluster_objects import bodies
from tests.unit.cluster_objects.bodies import NAME, plan, replicaset, route, service, stable, target, view
from tests.unit.hostile import wrong
from tests.unit.hostile.wrong import Path


def world(**changes: Any) -> World:
    return world_of(plan(), view(**changes), candidate="bbb", changed=5.0)


def seen(body: Object) -> Route:
    found = world(route=body).route
    assert found is not None
    return found


# -- the route ------------------------------------------------------------------------------------------------------------

ROUTE_PATHS = [path for path in wrong.paths(route(10)) if path[0] != "metadata"]


@pytest.mark.parametrize("path", ROUTE_PATHS, ids=wrong.written)
def test_a_route_of_any_shape_is_not_ours_and_stops_nothing(path: Path) -> None:
    good = route(10)
    assert (seen(good).weight, seen(good).intact) == (10, True)
    for changed in (*(wrong.replaced(good, path, value) for value in wrong.FEW), wrong.without(good, path)):
        found = seen(changed)
        assert found.weight is None or found.weight >= 0
        if changed.get("spec") != good["spec"]:
            assert not found.intact or changed["spec"] == objects.route_spec(plan(), found.weight or 0)
        left = objects.released_rules(changed)
        if left is not None:
            shares = {str(backend["name"]): backend["weight"] for rule in left for backend in rule["backendRefs"]}
            assert shares["fraud-stable"] > 0
            assert set(shares.values()) <= {0, shares["fraud-stable"]}


def test_a_route_with_thousands_of_backends_or_one_named_twice_is_not_ours() -> None:
    crowd = route(10)
    backends = crowd["spec"]["rules"][0]["backendRefs"]
    backends += [{**backends[1], "name": f"other-{number}"} for number in range(5000)]
    assert (seen(crowd).weight, seen(crowd).intact) == (None, False)
    twice = route(0)
    twice["spec"]["rules"][0]["backendRefs"] += [{**twice["spec"]["rules"][0]["backendRefs"][1], "weight": 50}]
    assert not seen(twice).intact


def test_a_route_that_does_not_name_stable_is_left_alone_when_its_rollout_goes() -> None:
    """All weights 0 would be an outage."""
    stranger = route(10)
    stranger["spec"]["rules"][0]["backendRefs"] = [{"name": "stranger", "weight": 1}]
    assert objects.released_rules(stranger) is None
    rules = objects.released_rules(route(10))
    assert rules is not None
    assert [backend["weight"] for backend in rules[0]["backendRefs"]] == [100, 0]


# -- settings -------------------------------------------------------------------------------------------------------------

SETTINGS = objects.settings_document(plan(), "aaa", "bbb", 1)


@pytest.mark.parametrize("path", list(wrong.paths(SETTINGS)), ids=wrong.written)
def test_settings_with_any_value_are_not_intact_and_stop_nothing(path: Path) -> None:
    for value in wrong.FEW:
        changed = wrong.replaced(SETTINGS, path, value)
        found = world(settings={"data": {"settings.json": json.dumps(changed)}})
        if changed != SETTINGS and path != ("routeGeneration",):
            assert not found.settings_intact or found.settings != ("aaa", "bbb")


@pytest.mark.parametrize("data", [None, {}, [], "x", {"settings.json": None}, {"settings.json": 5}, {"settings.json": "[" * 100_000}])
def test_a_config_map_without_a_document(data: Any) -> None:
    assert objects.read_document({"data": data}, "settings.json") is None


# -- what is left out -----------------------------------------------------------------------------------------------------

REQUIRED = {"metadata", "name", "resourceVersion", "uid", "spec", "selector", "template", "containers", "0"}
"""What the API server keeps nobody from leaving out of objects of its own kinds is not tried."""


def optional(body: Object) -> list[Path]:
    return [path for path in wrong.paths(body) if str(path[-1]) not in REQUIRED]


@pytest.mark.parametrize("part", ["target", "replicasets", "stables", "pods", "endpoints", "services"])
def test_whatever_may_be_left_out_is_not_missed(part: str) -> None:
    whole = view()
    held = getattr(whole, part)
    for key in held if isinstance(held, dict) else range(len(held)) if isinstance(held, list) else [None]:
        body = held if key is None else held[key]
        for path in optional(body):
            changed = deepcopy(held)
            less = wrong.without(body, path)
            if key is None:
                changed = less
            else:
                changed[key] = less
            assert look_over(replace(whole, **{part: changed}))


def look_over(whole: View) -> World:
    for check in (check_target, lambda seen: check_free(plan(), seen)):
        with suppress(UnusableTarget):
            check(whole)
    return world_of(plan(), whole, candidate="bbb", changed=0.0)


# -- marks of stable ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [names.VERSION, names.IMAGES, names.TEMPLATE_DIGEST])
def test_annotations_of_stable_may_hold_anything(key: str) -> None:
    for text in (*(value for value in wrong.TEXTS if isinstance(value, str)), "[" * 50_000, "[[1], null]", '"x"', "1e400", "x" * 200_000):
        body = stable()
        body["metadata"]["annotations"][key] = text
        (found,) = world(stables=[body]).stables.values()
        assert found.identity.revision == "aaa"
        assert found.identity.version.isprintable()
        assert found.intact is (key != names.TEMPLATE_DIGEST)


@pytest.mark.parametrize("name", ["fraud-stable-zzz", "stable-copy", "fraud-stable-aaa-2"])
def test_a_deployment_that_only_has_our_labels_is_not_stable(name: str) -> None:
    foreign = deepcopy(stable())
    foreign["metadata"]["name"] = name
    foreign["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"
    for order in ([foreign, stable()], [stable(), foreign]):
        found = world(stables=order).stables
        assert list(found) == ["aaa"]
        assert found["aaa"].intact
    assert world(stables=[foreign]).stables == {}


# -- references to what is not the user's own -----------------------------------------------------------------------------


@pytest.mark.parametrize("key", [names.ROLLOUT, names.TRACK, names.REVISION])
def test_a_target_whose_pods_would_be_stables_is_refused(key: str) -> None:
    with pytest.raises(UnusableTarget, match="take it out of the template"):
        check_target(view(target=target(pods=bodies.template(labels={key: "stable"}))))


def test_a_target_with_an_image_that_no_registry_has_is_refused() -> None:
    pods = bodies.template("v" * 1100)
    with pytest.raises(UnusableTarget, match="more than 1024 characters") as caught:
        check_target(view(target=target(pods=pods)))
    assert len(str(caught.value)) < 200


def test_a_track_service_of_any_rollout_is_no_service_of_clients() -> None:
    check_free(plan(), view())
    other = {"metadata": {"name": "fraud", "labels": names.labels("cards")}, "spec": {"selector": {}, "ports": [{"port": 80}]}}
    with pytest.raises(NameTaken, match=r"name the Service that clients call in spec\.serviceRef"):
        check_free(plan(), view(services={**view().services, "fraud": other}))


@pytest.mark.parametrize("mine", ["fraud-stable", "fraud-candidate", "fraud-router", "fraud"])
@pytest.mark.parametrize("labels", [None, {}, {"app": "x"}, {names.ROLLOUT: "cards"}])
def test_objects_of_others_with_our_names_are_never_taken_over(mine: str, labels: dict[str, str] | None) -> None:
    whole = view()
    if mine == "fraud":
        body = route(0)
        body["metadata"]["labels"] = labels
        whole = replace(whole, route=body)
    elif mine == "fraud-router":
        whole = replace(whole, settings={"metadata": {"name": mine, "labels": labels}, "data": {"own": "data"}})
    else:
        body = service(mine, {"app": "x"})
        body["metadata"]["labels"] = labels
        whole = replace(whole, services={**whole.services, mine: body})
    with pytest.raises(NameTaken, match=f"{mine} is there already"):
        check_free(plan(), whole)


# -- texts that people will see -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["v\n2026 INFO all is well", "v\x1b[2J", "v\u202e1", "v\x00", "v\r", "v\u2028"])
def test_a_version_forges_no_line_and_moves_no_cursor(text: str) -> None:
    pods = bodies.template()
    pods["spec"]["containers"][0]["image"] = f"model:{text}"
    found = objects.identity("bbb", pods)
    assert found.version.isprintable()
    assert found.version.startswith("v")
    assert objects.identity("bbb", replicaset("bbb")["spec"]["template"]).version == "v1"


def test_names_made_of_the_longest_ones_fit() -> None:
    rollout, revision = "n" * 40, "0123456789"
    made = (names.stable_service(rollout), names.candidate_service(rollout), names.stable_deployment(rollout, revision))
    assert max(map(len, made)) <= 63
    assert len(names.evidence(rollout, f"{revision}-1000000", 512)) <= 253
    assert NAME == "fraud"
