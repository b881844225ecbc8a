"""One look at the cluster, as what a decision may know."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kanarya.cluster import objects, observe
from kanarya.cluster.fake import FakeApi
from kanarya.cluster.objects import UnusableTarget
from kanarya.cluster.observe import View, check_target, current_revision, world_of
from kanarya.cluster.port import DEPLOYMENTS, PODS, REPLICASETS, Object, Resource
from kanarya.decision.state import Identity
from kanarya.decision.world import Pods, Stable, World
from tests.unit.cluster_objects import bodies
from tests.unit.cluster_objects.bodies import NAMESPACE, endpoints, plan, pod, replicaset, route, stable, target, view


def world(**changes: Any) -> World:
    return world_of(plan(), view(**changes), candidate="bbb", changed=5.0)


def test_a_calm_rollout() -> None:
    seen = world()
    assert seen.target is not None
    assert (seen.target.identity, seen.target.replicas, seen.target.changed) == (objects.identity("bbb", bodies.template()), 2, 5.0)
    assert seen.pods == Pods(ready=2)
    assert seen.stables == {"aaa": Stable(Identity(revision="aaa", version="v1", images=("registry:5000/team/model:v1",)), 2, 2)}
    assert (seen.stable_service, seen.candidate_service) == ("aaa", "bbb")
    assert (seen.stable_endpoints, seen.stale_endpoints) == (2, 0)
    assert seen.route is not None
    assert (seen.route.weight, seen.route.intact, seen.route.accepted, seen.route.resource_version) == (0, True, True, "7")
    assert (seen.settings, seen.settings_intact) == (("aaa", "bbb"), True)
    assert (seen.selecting, seen.service_exists) == ((), True)


def test_nothing_there() -> None:
    seen = world_of(plan(), View(), candidate=None, changed=0.0)
    assert seen == World(target=None, service_exists=False)


# -- the target's revision ------------------------------------------------------------------------------------------------


def test_no_revision_while_the_controller_lags() -> None:
    assert current_revision(view(target=target(revision=2, generation=5, observed=4))) is None
    no_status = target(revision=2)
    del no_status["status"]
    assert current_revision(view(target=no_status)) is None
    assert current_revision(view(target=None)) is None


def test_no_revision_until_the_replicaset_bears_the_deployments_number() -> None:
    assert current_revision(view(target=target(revision=3))) is None
    unnumbered = target()
    unnumbered["metadata"].pop("annotations")
    assert current_revision(view(target=unnumbered)) is None
    unhashed = replicaset("bbb", revision=2)
    unhashed["metadata"]["labels"].pop("pod-template-hash")
    assert current_revision(view(replicasets=[unhashed])) is None


def test_going_back_to_an_older_template_is_that_older_revision() -> None:
    back = [replicaset("aaa", revision=3), replicaset("bbb", revision=2)]
    known = current_revision(view(target=target(revision=3), replicasets=back))
    assert known is not None
    assert known.revision == "aaa"


async def test_replicasets_of_another_owner_are_not_looked_at() -> None:
    api = FakeApi()
    made = await api.create(DEPLOYMENTS, NAMESPACE, typed(DEPLOYMENTS, target(revision=2)))
    uid = made["metadata"]["uid"]
    for body in (replicaset("aaa", owner=uid), replicaset("bbb", revision=2, owner=uid), replicaset("evil", revision=2, owner="other")):
        await api.create(REPLICASETS, NAMESPACE, typed(REPLICASETS, body))
    orphan = replicaset("lost", revision=2)
    orphan["metadata"].pop("ownerReferences")
    await api.create(REPLICASETS, NAMESPACE, typed(REPLICASETS, orphan))
    for name, pod_hash in (("one", "bbb"), ("two", "evil")):
        await api.create(PODS, NAMESPACE, typed(PODS, pod(name, pod_hash)))

    seen = await observe.look(api, plan())

    assert [body["metadata"]["name"] for body in seen.replicasets] == ["fraud-aaa", "fraud-bbb"]
    assert seen.replicaset("evil") is None
    assert seen.replicaset("aaa") is not None
    assert world_of(plan(), seen, candidate="bbb", changed=0.0).pods.ready == 1


def typed(resource: Resource, body: Object) -> Object:
    return {"apiVersion": resource.api_version, "kind": resource.kind, **deepcopy(body)}


# -- pods -----------------------------------------------------------------------------------------------------------------


def test_only_pods_of_the_candidates_own_revision_count() -> None:
    dying = pod("dying", "bbb")
    dying["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    pods = [pod("a", "aaa", restarts=9, waiting="CrashLoopBackOff"), pod("b", "bbb"), pod("c", "bbb", ready=False, restarts=1), dying]
    assert world(pods=pods).pods == Pods(ready=1, restarts=1)
    assert world_of(plan(), view(pods=pods), candidate=None, changed=0.0).pods == Pods()


def test_a_crash_loop_is_named() -> None:
    pods = [pod("one", "bbb"), pod("two", "bbb", ready=False, restarts=4, waiting="CrashLoopBackOff")]
    assert world(pods=pods).pods == Pods(ready=1, restarts=4, crash_looping="two", stuck="two: CrashLoopBackOff")
    assert world(pods=[pod("one", "bbb", ready=False, waiting="ContainerCreating")]).pods == Pods()


def test_why_a_pod_does_not_start_is_told() -> None:
    unplaced = pod("one", "bbb", ready=False)
    unplaced["status"]["conditions"].append({"type": "PodScheduled", "status": "False", "reason": "Unschedulable"})
    waits = [pod("two", "bbb", ready=False, waiting="ContainerCreating"), pod("three", "bbb", ready=False, waiting="ImagePullBackOff")]
    assert world(pods=waits).pods.stuck == "three: ImagePullBackOff"
    assert world(pods=[*waits[:1], unplaced]).pods.stuck == "one: Unschedulable"
    assert world(pods=[pod("other", "aaa", ready=False, waiting="ErrImagePull")]).pods.stuck == ""
    assert len(world(pods=[pod("four", "bbb", waiting="x" * 5000)]).pods.stuck) < 100


def test_a_restart_that_the_end_of_a_node_brought_is_not_the_candidates() -> None:
    lost, failed = pod("one", "bbb", restarts=1), pod("two", "bbb", restarts=1)
    lost["status"]["containerStatuses"][0]["lastState"] = {"terminated": {"exitCode": 255, "reason": "Unknown"}}
    failed["status"]["containerStatuses"][0]["lastState"] = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    assert world(pods=[lost, failed]).pods == Pods(ready=2, restarts=1)


def test_a_crash_loop_before_the_containers_start_is_named_too() -> None:
    looping = pod("one", "bbb", ready=False)
    looping["status"]["initContainerStatuses"] = [{"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]
    assert world(pods=[looping]).pods.crash_looping == "one"


def test_a_pod_without_status_is_not_ready() -> None:
    assert world(pods=[{"metadata": {"name": "new", "labels": {"pod-template-hash": "bbb"}}}]).pods == Pods()


# -- stable ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "rolling"),
    [
        ({}, False),
        ({"available": 1}, False),
        ({"updated": 1, "older": 1}, True),
        ({"updated": 1, "older": 2, "available": 3}, True),
        # The surge: one old and one new pod are available, and the second new one is not there yet.
        ({"updated": 2, "older": 1, "available": 2}, True),
        ({"updated": 2, "older": 1, "available": 3}, True),
    ],
)
def test_a_stable_rolls_until_no_pod_of_an_older_template_is_left(changes: dict[str, Any], rolling: bool) -> None:
    seen = world(stables=[stable(**changes)]).stables["aaa"]
    assert (seen.rolling, seen.available) == (rolling, changes.get("available", 2))


def test_a_template_that_its_controller_has_not_seen_may_still_roll() -> None:
    unseen = stable()
    unseen["metadata"]["generation"] = 2
    assert world(stables=[unseen]).stables["aaa"].rolling
    fresh = stable()
    fresh.pop("status")
    assert world(stables=[fresh]).stables["aaa"].rolling
    assert world(stables=[fresh]).stables["aaa"].available == 0


def test_stables_that_go_or_lost_their_name_are_not_there() -> None:
    going, nameless = stable(), stable()
    going["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    nameless["metadata"]["labels"].pop("kanarya.dev/revision")
    assert world(stables=[going, nameless]).stables == {}


def test_endpoints_of_other_revisions_are_stale() -> None:
    mixed = [
        endpoints("fraud-stable-aaa-1-x"),
        endpoints("fraud-stable-bbb-1-x", "fraud-bbb-1", "fraud-stable-aaaa-1-x"),
        endpoints("fraud-stable-aaa-1-y", ready=False),
        endpoints("fraud-stable-aaa-1-z", ready=None),
        {"metadata": {"name": "empty"}, "endpoints": None},
        {"metadata": {"name": "none"}},
        {"endpoints": [{"addresses": ["10.0.0.1"]}]},
    ]
    seen = world(endpoints=mixed)
    assert (seen.stable_endpoints, seen.stale_endpoints) == (2, 4)


def test_endpoints_of_the_longest_names_are_known() -> None:
    long = "n" * 40
    longest = replace(plan(), name=long)
    selector = objects.stable_selector(longest, "0123456789")
    pods = [f"{long}-stable-0123456789-abcdefghij"[:58] + "xyz12"]
    services = {f"{long}-stable": objects.service(longest, f"{long}-stable", selector, "http")}
    seen = world_of(longest, view(services=services, endpoints=[endpoints(*pods)]), candidate=None, changed=0.0)
    assert (seen.stable_endpoints, seen.stale_endpoints) == (1, 0)


# -- Services and settings ------------------------------------------------------------------------------------------------

EDITS: dict[str, Callable[[Object], Any]] = {
    "selector widened": lambda spec: spec["selector"].popitem(),
    "selector narrowed": lambda spec: spec["selector"].update(zone="a"),
    "selector gone": lambda spec: spec.pop("selector"),
    "selector null": lambda spec: spec.update(selector=None),
    "port": lambda spec: spec["ports"][0].update(port=81),
    "port name": lambda spec: spec["ports"][0].update(name="web"),
    "target port": lambda spec: spec["ports"][0].update(targetPort=9090),
    "protocol": lambda spec: spec["ports"][0].update(protocol="UDP"),
    "second port": lambda spec: spec["ports"].append({"name": "more", "port": 1}),
    "no ports": lambda spec: spec.update(ports=[]),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("name", ["fraud-stable", "fraud-candidate"])
def test_a_track_service_that_was_changed_is_not_ours(name: str, edit: str) -> None:
    services = view().services
    changed = services[name]
    assert changed is not None
    EDITS[edit](changed["spec"])
    seen = world(services=services)
    assert {"fraud-stable": seen.stable_service, "fraud-candidate": seen.candidate_service}[name] is None
    assert (seen.stable_service, seen.candidate_service) != (None, None)


def test_a_port_that_only_an_edited_stable_tells_is_left_alone() -> None:
    services, edited = view().services, stable()
    edited["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 1}, {"containerPort": 2}]
    body = services["fraud-stable"]
    assert body is not None
    body["spec"]["ports"][0]["targetPort"] = 9090
    assert world(services=services, replicasets=[], stables=[edited]).stable_service == "aaa"
    assert world(services=services, replicasets=[], stables=[stable()]).stable_service is None
    assert world(services=services, replicasets=[replicaset("aaa")], stables=[edited]).stable_service is None


def test_services_that_are_not_there() -> None:
    seen = world(services={"fraud-stable": None, "fraud-candidate": None, "fraud": None})
    assert (seen.stable_service, seen.candidate_service, seen.service_exists) == (None, None, False)
    assert (seen.stable_endpoints, seen.stale_endpoints) == (0, 0)


def test_a_clients_service_that_selects_the_targets_pods_is_named() -> None:
    services = {**view().services, "fraud": {"spec": {"selector": {"app": "fraud"}}}}
    assert world(services=services).selecting == ("fraud",)
    assert world(services=services, target=None).selecting == ()


def settings_with(change: Callable[[Any], Any]) -> Object:
    document = objects.settings_document(plan(), "aaa", "bbb", 1)
    change(document)
    return objects.config_map(plan(), "fraud-router", "settings.json", document)


def test_changed_settings_are_noticed() -> None:
    seen = world(settings=settings_with(lambda document: document.update(mirrorPercent=1)))
    assert (seen.settings, seen.settings_intact) == (("aaa", "bbb"), False)
    older = world(settings=settings_with(lambda document: document.update(routeGeneration=0)))
    assert older.settings_intact


@pytest.mark.parametrize(
    "settings_body",
    [
        None,
        {"data": {"settings.json": "{"}},
        {"data": {"settings.json": "[]"}},
        {"data": {"settings.json": "[" * 200_000}},
        {"data": {"settings.json": '{"tracks": null}'}},
        {"data": {"settings.json": '{"tracks": {"stable": null, "candidate": null}}'}},
        {"data": {"settings.json": '{"tracks": {"stable": {"revision": "aaa"}}}'}},
    ],
)
def test_settings_that_cannot_be_read(settings_body: Object | None) -> None:
    seen = world(settings=settings_body)
    assert (seen.settings, seen.settings_intact) == (None, False)


# -- the target may be refused --------------------------------------------------------------------------------------------


def test_targets_that_cannot_be_served_from_are_refused() -> None:
    check_target(view())
    check_target(view(target=None))
    expressions = target()
    expressions["spec"]["selector"]["matchExpressions"] = [{"key": "a", "operator": "Exists"}]
    with pytest.raises(UnusableTarget, match="use matchLabels only"):
        check_target(view(target=expressions))
    with pytest.raises(UnusableTarget, match="a stable Deployment of Kanarya itself"):
        check_target(view(target=stable()))
    with pytest.raises(UnusableTarget, match="none is named http"):
        check_target(view(target=target(pods=bodies.template(ports=[]))))


# -- hostile objects ------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2**53) | st.text("ab-{}[]", max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["revision", "stable", "candidate", "tracks", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
TEXTS = st.text(max_size=12)
LABELS = st.dictionaries(
    st.sampled_from(["kanarya.dev/revision", "kanarya.dev/track", "kanarya.dev/rollout", "pod-template-hash", "app", "part"]),
    TEXTS,
    max_size=6,
)
BACKENDS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["fraud-stable", "fraud-candidate", "other"])},
        optional={"weight": st.integers(0, 10**6), "port": st.integers(1, 65535), "filters": st.just([{"type": "RequestMirror"}])},
    ),
    max_size=4,
)
CONDITIONS = st.lists(
    st.fixed_dictionaries(
        {"type": TEXTS, "status": st.sampled_from(["True", "False"])}, optional={"observedGeneration": st.integers(0, 9)}
    ),
    max_size=3,
)


@settings(max_examples=100, deadline=None)
@given(document=JSON, labels=LABELS, annotations=LABELS, backends=BACKENDS, conditions=CONDITIONS, selector=st.none() | LABELS)
def test_whatever_may_stand_in_the_cluster_is_read_without_an_error(
    document: Any, labels: dict[str, str], annotations: dict[str, str], backends: list[Object], conditions: list[Object], selector: Any
) -> None:
    """Everything that the API server lets people write into objects that we read."""
    body = route()
    body["spec"]["rules"] = [{"backendRefs": backends}]
    body["metadata"] |= {"labels": labels, "annotations": annotations}
    body["status"] = {"parents": [{"controllerName": "kanarya.dev/ml-router", "conditions": conditions}]}
    other = stable()
    other["metadata"] |= {"labels": labels, "annotations": annotations}
    other["spec"]["template"]["metadata"]["labels"] = labels
    seen = world(
        route=body,
        settings={"data": {"settings.json": json.dumps(document)}},
        stables=[other],
        services={
            name: {"metadata": {}, "spec": {"selector": selector, "ports": [{"port": 80, "name": "http"}]}} for name in view().services
        },
        pods=[{"metadata": {"name": "p", "labels": labels}, "status": {"conditions": conditions}}],
        target=target(pods={"metadata": {"labels": labels}, "spec": bodies.template()["spec"]}),
        replicasets=[{"metadata": {"name": "r", "labels": labels, "annotations": annotations}, "spec": {"template": bodies.template()}}],
    )
    assert seen.route is not None
    if seen.route.intact:
        assert [backend["name"] for backend in backends] == ["fraud-stable", "fraud-candidate"]
