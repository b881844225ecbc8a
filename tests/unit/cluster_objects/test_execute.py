"""Carrying out actions on the API server in memory."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from kanarya.cluster import objects
from kanarya.cluster.execute import FAULT_POINTS, Executor, TemplateLost, lower_weight, raise_weight
from kanarya.cluster.fake import FakeApi
from kanarya.cluster.observe import View, look
from kanarya.cluster.port import (
    CONFIGMAPS,
    DEPLOYMENTS,
    HTTPROUTES,
    REPLICASETS,
    SERVICES,
    Conflict,
    Invalid,
    NotFound,
    Object,
    Resource,
)
from kanarya.decision.actions import (
    Action,
    DeleteStable,
    EnsureStable,
    LowerWeight,
    PointCandidate,
    PointStable,
    RaiseWeight,
    ScaleTarget,
    WriteSettings,
)
from tests.unit.cluster_objects import bodies
from tests.unit.cluster_objects.bodies import NAME, NAMESPACE, plan, replicaset, target


class Cluster:
    """A target with two revisions, and an executor."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.points: list[str] = []
        self.executor = Executor(self.api, self._at)

    async def _at(self, point: str) -> None:
        self.points.append(point)

    async def create(self, resource: Resource, body: Object) -> Object:
        return await self.api.create(resource, NAMESPACE, {"apiVersion": resource.api_version, "kind": resource.kind, **deepcopy(body)})

    async def install(self) -> Cluster:
        uid = (await self.create(DEPLOYMENTS, target(revision=2)))["metadata"]["uid"]
        for body in (replicaset("aaa", owner=uid), replicaset("bbb", revision=2, owner=uid)):
            await self.create(REPLICASETS, body)
        return self

    async def do(self, action: Action, view: View | None = None) -> None:
        await self.executor.carry_out(plan(), view or await look(self.api, plan()), action)

    async def get(self, resource: Resource, name: str) -> Any:
        return await self.api.get(resource, NAMESPACE, name)

    async def weight(self) -> int | None:
        return objects.route_weight(plan(), await self.get(HTTPROUTES, NAME))


@pytest.fixture
async def cluster() -> Cluster:
    return await Cluster().install()


async def test_lowering_makes_a_route_that_is_missing(cluster: Cluster) -> None:
    await cluster.do(LowerWeight(0))
    body = await cluster.get(HTTPROUTES, NAME)
    assert objects.route_intact(plan(), body)
    assert await cluster.weight() == 0
    assert cluster.points == ["before-lower", "after-lower"]


async def test_lowering_is_one_write_whatever_stands_there(cluster: Cluster) -> None:
    strange = objects.route(plan(), 50)
    strange["metadata"].pop("labels")
    strange["spec"]["rules"].append({"backendRefs": [{"name": "evil"}]})
    strange["spec"]["parentRefs"] = [{"name": "other"}]
    await cluster.create(HTTPROUTES, strange)
    cluster.api.calls.clear()

    await lower_weight(cluster.api, plan(), 0, "bbb-1")

    assert [call.verb for call in cluster.api.calls] == ["merge_patch"]
    body = await cluster.get(HTTPROUTES, NAME)
    assert objects.route_intact(plan(), body)
    assert body["metadata"]["annotations"]["kanarya.dev/rolled-back"] == "bbb-1"


async def test_raising_is_guarded_by_the_route_it_was_decided_on(cluster: Cluster) -> None:
    await cluster.do(LowerWeight(0))
    version = (await cluster.get(HTTPROUTES, NAME))["metadata"]["resourceVersion"]
    await cluster.do(RaiseWeight(5, version))
    assert await cluster.weight() == 5
    with pytest.raises(Conflict):
        await raise_weight(cluster.api, plan(), 10, version)
    assert await cluster.weight() == 5
    await cluster.api.delete(HTTPROUTES, NAMESPACE, NAME)
    with pytest.raises(NotFound):
        await raise_weight(cluster.api, plan(), 10, version)


async def test_stable_is_cloned_from_the_targets_replicaset_once(cluster: Cluster) -> None:
    await cluster.do(EnsureStable("aaa", 2))
    first = await cluster.get(DEPLOYMENTS, "fraud-stable-aaa")
    assert objects.template_intact(first)
    await cluster.do(EnsureStable("aaa", 2))
    assert await cluster.get(DEPLOYMENTS, "fraud-stable-aaa") == first
    await cluster.do(EnsureStable("aaa", 3))
    assert (await cluster.get(DEPLOYMENTS, "fraud-stable-aaa"))["spec"]["replicas"] == 3
    assert set(cluster.points) == {"before-action", "after-action"}


async def test_a_stable_that_appeared_meanwhile_is_a_conflict(cluster: Cluster) -> None:
    before = await look(cluster.api, plan())
    await cluster.do(EnsureStable("aaa", 2))
    with pytest.raises(Conflict, match="appeared meanwhile"):
        await cluster.do(EnsureStable("aaa", 2), before)


async def test_a_stable_that_appears_between_looking_and_creating_is_a_conflict(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await look(cluster.api, plan())
    await cluster.do(EnsureStable("aaa", 2))

    async def nothing(*_: Any) -> None:
        return None

    monkeypatch.setattr(cluster.api, "get", nothing)
    with pytest.raises(Conflict, match="appeared meanwhile"):
        await cluster.do(EnsureStable("aaa", 2), before)


async def test_a_stable_that_lost_our_labels_gets_them_back(cluster: Cluster) -> None:
    await cluster.do(EnsureStable("aaa", 2))
    labelled = (await cluster.get(DEPLOYMENTS, "fraud-stable-aaa"))["metadata"]["labels"]
    await cluster.api.merge_patch(DEPLOYMENTS, NAMESPACE, "fraud-stable-aaa", {"metadata": {"labels": None}})
    await cluster.do(EnsureStable("aaa", 2))
    assert (await cluster.get(DEPLOYMENTS, "fraud-stable-aaa"))["metadata"]["labels"] == labelled


async def test_labels_are_given_back_though_the_template_is_in_no_replicaset_any_more(cluster: Cluster) -> None:
    await cluster.do(EnsureStable("aaa", 2))
    await cluster.api.merge_patch(DEPLOYMENTS, NAMESPACE, "fraud-stable-aaa", {"metadata": {"labels": None}})
    await cluster.api.delete(REPLICASETS, NAMESPACE, "fraud-aaa")
    await cluster.api.delete(DEPLOYMENTS, NAMESPACE, NAME)
    await cluster.do(EnsureStable("aaa", 2))
    assert (await cluster.get(DEPLOYMENTS, "fraud-stable-aaa"))["metadata"]["labels"] == objects.stable_labels(plan(), "aaa")


async def test_a_deployment_of_somebody_else_with_stables_name_is_not_touched(cluster: Cluster) -> None:
    await cluster.create(DEPLOYMENTS, {**target(), "metadata": {"name": "fraud-stable-aaa"}})
    before = await cluster.get(DEPLOYMENTS, "fraud-stable-aaa")
    with pytest.raises(Invalid, match="is not Kanarya's"):
        await cluster.do(EnsureStable("aaa", 2))
    assert await cluster.get(DEPLOYMENTS, "fraud-stable-aaa") == before


async def spoil(cluster: Cluster) -> None:
    """Somebody changes stable's template, and adds to it."""
    evil = [{"name": "evil", "image": "evil"}]
    patch = {"spec": {"template": {"spec": {"containers": evil, "hostNetwork": True}}}}
    await cluster.api.merge_patch(DEPLOYMENTS, NAMESPACE, "fraud-stable-aaa", patch)


async def test_a_spoiled_stable_is_put_right_whole(cluster: Cluster) -> None:
    await cluster.do(EnsureStable("aaa", 2))
    await spoil(cluster)
    await cluster.do(EnsureStable("aaa", 2))
    body = await cluster.get(DEPLOYMENTS, "fraud-stable-aaa")
    assert objects.template_intact(body)
    assert "hostNetwork" not in body["spec"]["template"]["spec"]


async def test_a_stable_without_its_marks_gets_them_back(cluster: Cluster) -> None:
    await cluster.do(EnsureStable("aaa", 2))
    await cluster.api.merge_patch(DEPLOYMENTS, NAMESPACE, "fraud-stable-aaa", {"metadata": {"annotations": None}, "spec": {"replicas": 7}})
    await cluster.do(EnsureStable("aaa", 2))
    body = await cluster.get(DEPLOYMENTS, "fraud-stable-aaa")
    assert objects.template_intact(body)
    assert body["spec"]["replicas"] == 2


async def test_the_stable_service_keeps_the_port_of_stables_own_pods(cluster: Cluster) -> None:
    await cluster.do(EnsureStable("aaa", 2))
    newer = (await cluster.get(DEPLOYMENTS, NAME))["spec"]["template"]
    newer["spec"]["containers"][0]["ports"] = [{"containerPort": 5000}]
    await cluster.api.json_patch(DEPLOYMENTS, NAMESPACE, NAME, [{"op": "replace", "path": "/spec/template", "value": newer}])
    await cluster.do(PointStable("aaa"))
    assert (await cluster.get(SERVICES, "fraud-stable"))["spec"]["ports"] == objects.service_ports(plan(), "http")
    await cluster.api.delete(DEPLOYMENTS, NAMESPACE, NAME)
    await cluster.do(PointStable("bbb"))
    selector = (await cluster.get(SERVICES, "fraud-stable"))["spec"]["selector"]
    assert selector == objects.stable_selector(plan(), "bbb")


async def own_replicaset(cluster: Cluster, pod_hash: str, template: Object) -> None:
    """What the Deployment controller makes of the stable Deployment."""
    body = deepcopy(template)
    body["metadata"]["labels"]["pod-template-hash"] = pod_hash
    labels = body["metadata"]["labels"]
    metadata = {"name": f"fraud-stable-aaa-{pod_hash}", "namespace": NAMESPACE, "labels": labels}
    await cluster.create(REPLICASETS, {"metadata": metadata, "spec": {"selector": {"matchLabels": labels}, "template": body}})


async def test_without_the_targets_replicaset_stable_is_put_right_from_its_own(cluster: Cluster) -> None:
    await cluster.do(EnsureStable("aaa", 2))
    good = (await cluster.get(DEPLOYMENTS, "fraud-stable-aaa"))["spec"]["template"]
    await spoil(cluster)
    bad = (await cluster.get(DEPLOYMENTS, "fraud-stable-aaa"))["spec"]["template"]
    await own_replicaset(cluster, "bad", bad)
    await own_replicaset(cluster, "good", good)
    await cluster.api.delete(REPLICASETS, NAMESPACE, "fraud-aaa")

    await cluster.do(EnsureStable("aaa", 2))

    assert (await cluster.get(DEPLOYMENTS, "fraud-stable-aaa"))["spec"]["template"] == good


async def test_a_template_that_nobody_has_any_more_is_said_to_be_lost(cluster: Cluster) -> None:
    with pytest.raises(TemplateLost, match="revision ccc: raise revisionHistoryLimit"):
        await cluster.do(EnsureStable("ccc", 2))
    await cluster.do(EnsureStable("aaa", 2))
    await spoil(cluster)
    await own_replicaset(cluster, "bad", (await cluster.get(DEPLOYMENTS, "fraud-stable-aaa"))["spec"]["template"])
    await cluster.api.delete(REPLICASETS, NAMESPACE, "fraud-aaa")
    with pytest.raises(TemplateLost):
        await cluster.do(EnsureStable("aaa", 2))
    assert cluster.points[-1] == "before-action"


async def test_the_track_services_are_made_and_pointed(cluster: Cluster) -> None:
    await cluster.do(PointStable("aaa"))
    await cluster.do(PointCandidate("bbb"))
    assert (await cluster.get(SERVICES, "fraud-stable"))["spec"]["selector"] == objects.stable_selector(plan(), "aaa")
    await cluster.api.merge_patch(SERVICES, NAMESPACE, "fraud-stable", {"spec": {"selector": {"evil": "x"}, "ports": []}})

    await cluster.do(PointStable("bbb"))

    spec = (await cluster.get(SERVICES, "fraud-stable"))["spec"]
    assert spec["selector"] == objects.stable_selector(plan(), "bbb")
    assert spec["ports"] == objects.service_ports(plan(), "http")
    seen = await look(cluster.api, plan())
    assert seen.services["fraud-candidate"] is not None


async def test_settings_are_written_for_the_routes_generation(cluster: Cluster) -> None:
    await cluster.do(WriteSettings("aaa", None))
    assert await settings_of(cluster) == objects.settings_document(plan(), "aaa", None, 0)
    await cluster.do(LowerWeight(0))
    await cluster.do(WriteSettings("aaa", "bbb"))
    assert await settings_of(cluster) == objects.settings_document(plan(), "aaa", "bbb", 1)


async def settings_of(cluster: Cluster) -> Any:
    return objects.read_document(await cluster.get(CONFIGMAPS, "fraud-router"), "settings.json")


async def test_the_target_is_scaled_through_its_scale_subresource_alone(cluster: Cluster) -> None:
    cluster.api.calls.clear()
    await cluster.do(ScaleTarget(0))
    (call,) = cluster.api.calls
    assert (call.resource, call.subresource, call.body) == (DEPLOYMENTS, "scale", {"spec": {"replicas": 0}})
    assert (await cluster.get(DEPLOYMENTS, NAME))["spec"]["replicas"] == 0


async def test_deleting_a_stable_twice_is_fine(cluster: Cluster) -> None:
    await cluster.do(EnsureStable("aaa", 2))
    await cluster.do(DeleteStable("aaa"))
    await cluster.do(DeleteStable("aaa"))
    assert await cluster.get(DEPLOYMENTS, "fraud-stable-aaa") is None


async def test_without_a_target_services_wait_but_the_weight_goes_down(cluster: Cluster) -> None:
    await cluster.do(LowerWeight(0))
    version = (await cluster.get(HTTPROUTES, NAME))["metadata"]["resourceVersion"]
    await cluster.do(RaiseWeight(50, version))
    await cluster.api.delete(DEPLOYMENTS, NAMESPACE, NAME)
    await cluster.do(PointStable("aaa"))
    await cluster.do(PointCandidate("bbb"))
    await cluster.do(LowerWeight(0))
    assert await cluster.weight() == 0
    assert await cluster.get(SERVICES, "fraud-stable") is None
    with pytest.raises(TemplateLost):
        await cluster.do(EnsureStable("aaa", 2))


async def test_every_action_done_twice_changes_nothing_the_second_time(cluster: Cluster) -> None:
    actions: list[Action] = [
        LowerWeight(0, "bbb-1"),
        EnsureStable("aaa", 2),
        PointStable("aaa"),
        PointCandidate("bbb"),
        WriteSettings("aaa", None),
        ScaleTarget(2),
        DeleteStable("zzz"),
    ]
    for action in actions:
        await cluster.do(action)
    before = await everything(cluster)
    for action in actions:
        await cluster.do(action)
    assert await everything(cluster) == before
    assert set(cluster.points) < set(FAULT_POINTS)


async def everything(cluster: Cluster) -> list[Any]:
    return [await cluster.api.list(resource, NAMESPACE) for resource in (HTTPROUTES, DEPLOYMENTS, SERVICES, CONFIGMAPS)]


def test_the_helpers_agree_with_the_builders() -> None:
    assert objects.template_intact(bodies.stable())
