"""What Kanarya writes, and how it knows its own work again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kanarya.cluster import objects
from kanarya.cluster.objects import UnusableTarget
from kanarya.cluster.port import Object
from kanarya.decision.counts import Counts
from kanarya.decision.state import Identity, Run, State
from tests.unit.cluster_objects import bodies
from tests.unit.cluster_objects.bodies import plan, route, stable, target, template

REFERENCE = Path(__file__).resolve().parents[3] / "docs/reference/objects.md"


def backends(body: Object) -> list[Object]:
    found: list[Object] = body["spec"]["rules"][0]["backendRefs"]
    return found


def test_the_routes_spec_has_every_default_written_out() -> None:
    assert objects.route_spec(plan(), 5) == {
        "parentRefs": [{"group": "", "kind": "Service", "name": "fraud", "port": 80}],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "backendRefs": [
                    {"group": "", "kind": "Service", "name": "fraud-stable", "port": 80, "weight": 95},
                    {"group": "", "kind": "Service", "name": "fraud-candidate", "port": 80, "weight": 5},
                ],
            }
        ],
    }


def test_weights_sum_to_the_plans_total() -> None:
    thousand = plan(plan={"weightTotal": 1000, "steps": [{"weight": 1}, {"weight": 1000}]})
    assert [backend["weight"] for backend in backends(objects.route(thousand, 1))] == [999, 1]


def test_a_rollback_is_recorded_on_the_route_in_the_same_write() -> None:
    assert objects.route(plan(), 0, "bbb-1")["metadata"]["annotations"] == {"kanarya.dev/rolled-back": "bbb-1"}
    assert "annotations" not in objects.route(plan(), 0)["metadata"]


@pytest.mark.parametrize("weight", [0, 5, 50, 100])
def test_what_we_write_is_intact_at_every_weight(weight: int) -> None:
    assert objects.route_weight(plan(), route(weight)) == weight
    assert objects.route_intact(plan(), route(weight))


def test_weights_are_read_by_the_backends_names() -> None:
    body = route(30)
    backends(body).reverse()
    assert objects.route_weight(plan(), body) == 30
    assert not objects.route_intact(plan(), body)


def test_a_weight_that_is_left_out_is_1_as_the_gateway_api_has_it() -> None:
    body = route(30)
    del backends(body)[1]["weight"]
    assert objects.route_weight(plan(), body) == 1


EDITS: dict[str, Callable[[Object], Any]] = {
    "parent": lambda body: body["spec"]["parentRefs"][0].update(name="other"),
    "second parent": lambda body: body["spec"]["parentRefs"].append({"kind": "Gateway", "name": "public"}),
    "host": lambda body: body["spec"].update(hostnames=["example.org"]),
    "path": lambda body: body["spec"]["rules"][0]["matches"][0]["path"].update(value="/v2"),
    "filter": lambda body: body["spec"]["rules"][0].update(filters=[{"type": "RequestMirror"}]),
    "timeout": lambda body: body["spec"]["rules"][0].update(timeouts={"request": "1s"}),
    "one weight": lambda body: backends(body)[0].update(weight=1),
    "port": lambda body: backends(body)[0].update(port=81),
    "kind": lambda body: backends(body)[0].update(kind="InferencePool"),
    "namespace": lambda body: backends(body)[0].update(namespace="elsewhere"),
    "order": lambda body: backends(body).reverse(),
    "label taken": lambda body: body["metadata"]["labels"].pop("kanarya.dev/rollout"),
    "label of another": lambda body: body["metadata"]["labels"].update({"kanarya.dev/rollout": "other"}),
    "labels gone": lambda body: body["metadata"].pop("labels"),
}
WEIGHT_LOST: dict[str, Callable[[Object], Any]] = {
    "second rule": lambda body: body["spec"]["rules"].append(body["spec"]["rules"][0]),
    "no rules": lambda body: body["spec"].update(rules=[]),
    "rules gone": lambda body: body["spec"].pop("rules"),
    "spec gone": lambda body: body.pop("spec"),
    "no backends": lambda body: body["spec"]["rules"][0].pop("backendRefs"),
    "third backend": lambda body: backends(body).append({"name": "third", "weight": 5}),
    "backend replaced": lambda body: backends(body)[1].update(name="other"),
    "backend missing": lambda body: backends(body).pop(),
    "weight null": lambda body: backends(body)[0].update(weight=None),
}


@pytest.mark.parametrize("edit", [*EDITS, *WEIGHT_LOST])
def test_each_foreign_edit_of_the_route_is_noticed(edit: str) -> None:
    body = route(30)
    {**EDITS, **WEIGHT_LOST}[edit](body)
    assert not objects.route_intact(plan(), body)
    assert objects.route_weight(plan(), body) == (30 if edit in EDITS else None)


def test_labels_and_annotations_of_others_do_no_harm() -> None:
    body = route(30)
    body["metadata"]["labels"]["team"] = "risk"
    body["metadata"]["annotations"] = {"note": "x"}
    assert objects.route_intact(plan(), body)


def test_a_route_is_accepted_by_our_router_for_this_generation_only() -> None:
    def conditions(body: Object) -> list[Object]:
        found: list[Object] = body["status"]["parents"][0]["conditions"]
        return found

    assert objects.route_accepted(route(generation=3))
    assert not objects.route_accepted(route(accepted=False))
    edited = route(generation=3)
    edited["metadata"]["generation"] = 4
    assert not objects.route_accepted(edited)
    other = route()
    other["status"]["parents"][0]["controllerName"] = "istio.io/gateway-controller"
    assert not objects.route_accepted(other)
    unresolved = route()
    conditions(unresolved)[1]["status"] = "False"
    assert not objects.route_accepted(unresolved)
    half = route()
    conditions(half).pop()
    assert not objects.route_accepted(half)
    two = route()
    two["status"]["parents"].insert(0, other["status"]["parents"][0])
    assert objects.route_accepted(two)


def test_the_track_services_select_their_revisions_pods() -> None:
    assert objects.stable_selector(plan(), "aaa") == {
        "kanarya.dev/rollout": "fraud",
        "kanarya.dev/track": "stable",
        "kanarya.dev/revision": "aaa",
    }
    assert objects.candidate_selector(target(), "bbb") == {**bodies.SELECTOR, "pod-template-hash": "bbb"}
    body = objects.service(plan(serviceRef={"name": "fraud", "port": 8080}), "fraud-stable", {"a": "b"}, "http")
    assert body["spec"]["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP", "targetPort": "http"}]
    assert body["metadata"]["labels"] == {"kanarya.dev/rollout": "fraud", "app.kubernetes.io/managed-by": "kanarya"}


@pytest.mark.parametrize(
    ("ports", "port"),
    [
        ([{"name": "http", "containerPort": 4010}], "http"),
        ([{"name": "metrics", "containerPort": 9090}, {"name": "http", "containerPort": 4010}], "http"),
        ([{"containerPort": 4010}], 4010),
        ([{"name": "grpc", "containerPort": 9000}], 9000),
    ],
)
def test_the_model_port_is_the_one_named_http_else_the_only_one(ports: list[Object], port: int | str) -> None:
    assert objects.model_port(template(ports=ports)) == port


@pytest.mark.parametrize("ports", [[], [{"containerPort": 1}, {"containerPort": 2}]])
def test_a_model_port_that_cannot_be_told_is_refused_with_advice(ports: list[Object]) -> None:
    with pytest.raises(UnusableTarget, match=f"{len(ports)} container ports and none is named http: name the model's port http"):
        objects.model_port(template(ports=ports))


def test_the_model_port_may_be_in_any_container() -> None:
    body = template(ports=[])
    body["spec"]["containers"].append({"name": "proxy", "image": "p", "ports": [{"containerPort": 8000}]})
    del body["spec"]["containers"][0]["ports"]
    assert objects.model_port(body) == 8000


@pytest.mark.parametrize(
    ("selector", "selected"),
    [({"app": "fraud"}, True), ({**bodies.SELECTOR}, True), ({"app": "router"}, False), ({}, False), (None, False)],
)
def test_whether_a_service_selects_the_targets_pods(selector: dict[str, str] | None, selected: bool) -> None:
    assert objects.selects({"spec": {"selector": selector}}, template()) is selected
    assert not objects.selects(None, template())


@pytest.mark.parametrize(
    ("image", "label", "version"),
    [
        ("model:v1", "", "v1"),
        ("registry:5000/team/model:v2", "", "v2"),
        ("registry:5000/team/model", "", ""),
        ("model:v3@sha256:abc", "", "v3"),
        ("model@sha256:abc", "", ""),
        ("model:v1", "1.8.1", "1.8.1"),
    ],
)
def test_the_version_for_people(image: str, label: str, version: str) -> None:
    body = template(labels={"app.kubernetes.io/version": label} if label else None)
    body["spec"]["containers"][0]["image"] = image
    assert objects.identity("aaa", body) == Identity(revision="aaa", version=version, images=(image,))


def test_stable_pods_keep_their_labels_but_those_by_which_the_target_would_adopt_them() -> None:
    found = bodies.replicaset("aaa", pods=template(labels={"app.kubernetes.io/version": "v1"}))["spec"]["template"]
    found["metadata"]["creationTimestamp"] = None
    before = json.dumps(found)
    made = objects.stable_template(plan(), target(), found, "aaa")
    assert made["metadata"] == {
        "labels": {
            "team": "risk",
            "app.kubernetes.io/version": "v1",
            "kanarya.dev/rollout": "fraud",
            "kanarya.dev/track": "stable",
            "kanarya.dev/revision": "aaa",
        }
    }
    assert made["spec"] == found["spec"]
    assert json.dumps(found) == before, "what was read is not changed"
    assert not bodies.SELECTOR.items() & made["metadata"]["labels"].items()


def test_a_stable_deployment_selects_its_own_pods_and_knows_itself() -> None:
    body = stable("aaa", replicas=3)
    assert body["metadata"]["name"] == "fraud-stable-aaa"
    assert body["spec"]["replicas"] == 3
    assert body["spec"]["selector"]["matchLabels"].items() <= body["spec"]["template"]["metadata"]["labels"].items()
    assert body["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert objects.stable_identity(body) == Identity(revision="aaa", version="v1", images=("registry:5000/team/model:v1",))
    assert objects.template_intact(body)
    body["spec"]["template"]["metadata"]["creationTimestamp"] = None  # as old API servers send it
    assert objects.template_intact(body)


@pytest.mark.parametrize(
    "edit",
    [
        lambda body: body["spec"]["template"]["spec"]["containers"][0].update(image="model:evil"),
        lambda body: body["spec"]["template"]["spec"].update(hostNetwork=True),
        lambda body: body["spec"]["template"]["metadata"].update(annotations={"kubectl.kubernetes.io/restartedAt": "now"}),
        lambda body: body["metadata"]["annotations"].pop("kanarya.dev/template-digest"),
        lambda body: body["metadata"].pop("annotations"),
    ],
)
def test_a_changed_stable_is_noticed(edit: Callable[[Object], Any]) -> None:
    body = stable()
    edit(body)
    assert not objects.template_intact(body)


@pytest.mark.parametrize("images", ["", "null", "5", "{", "[" * 100_000])
def test_a_stable_whose_marks_were_spoiled_is_still_known_by_its_revision(images: str) -> None:
    body = stable()
    body["metadata"]["annotations"]["kanarya.dev/images"] = images
    known = objects.stable_identity(body)
    assert known is not None
    assert (known.revision, known.images) == ("aaa", ())
    del body["metadata"]["labels"]["kanarya.dev/revision"]
    assert objects.stable_identity(body) is None


def test_the_settings_have_the_fields_of_the_reference() -> None:
    (text,) = re.findall(r"```json\n(\{\"schemaVersion\": 1, \"rollout\".*?)```", REFERENCE.read_text(encoding="utf-8"), re.DOTALL)
    example = json.loads(text)
    ours = objects.settings_document(plan(), "7d4b9c", "5f6c8d", 3)
    assert ours.keys() == example.keys()
    assert {**ours, "latencyBucketsMilliseconds": 0} == {**example, "latencyBucketsMilliseconds": 0}
    assert ours["latencyBucketsMilliseconds"] == sorted(ours["latencyBucketsMilliseconds"])
    assert {80, 120} <= set(ours["latencyBucketsMilliseconds"])
    assert objects.settings_document(plan(), "7d4b9c", None, 3)["tracks"]["candidate"]["revision"] is None


def test_the_settings_follow_the_spec() -> None:
    analysis = {"latency": {"sloMilliseconds": 81, "abortMilliseconds": 333}, "match": {"tolerance": 0.25}}
    ours = objects.settings_document(plan(analysis=analysis, traffic={"mirrorPercent": 7, "fallback": "None"}), "aaa", None, 1)
    assert {81, 333} <= set(ours["latencyBucketsMilliseconds"])
    assert (ours["mirrorTimeoutMilliseconds"], ours["matchTolerance"]) == (666, 0.25)
    assert (ours["mirrorPercent"], ours["fallback"]) == (7, "None")
    assert (ours["matchCompare"], ours["matchRelativeTolerance"], ours["stickyHeader"]) == ("Score", 0, None)
    match = {"compare": "Label", "relativeTolerance": 0.1}
    ours = objects.settings_document(plan(analysis={"match": match}, traffic={"stickyHeader": "x-user"}), "aaa", None, 1)
    assert (ours["matchCompare"], ours["matchRelativeTolerance"], ours["stickyHeader"]) == ("Label", 0.1, "x-user")


def test_a_run_keeps_to_what_it_latched() -> None:
    now, later = plan(), plan(traffic={"mirrorPercent": 7}, plan={"weightTotal": 1000, "steps": [{"weight": 1000}]})
    times = dict.fromkeys(("started", "weight_since", "step_since", "watermark", "drift_since", "drift_watermark"), 0.0)
    run = Run(id="bbb-1", candidate=Identity(revision="bbb"), spec=now.latched, counts=Counts(), **times)
    kept = objects.Plan.of("fraud", "shop", later.spec, State(run=run))
    assert (kept.total, kept.latched.traffic.mirror_percent) == (100, 100)
    assert objects.Plan.of("fraud", "shop", later.spec, State()).total == 1000


@pytest.mark.parametrize(
    "body", [None, {}, {"data": None}, {"data": {}}, {"data": {"k": None}}, {"data": {"k": "{"}}, {"data": {"k": "[" * 200_000}}]
)
def test_documents_that_cannot_be_read_are_none(body: Object | None) -> None:
    assert objects.read_document(body, "k") is None
