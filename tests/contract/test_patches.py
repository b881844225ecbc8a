"""Merge patch, JSON patch, `status`, `scale`, and what counts as a new generation."""

from __future__ import annotations

from typing import Any

import pytest

from kanarya.cluster.port import (
    CONFIGMAPS,
    DEPLOYMENTS,
    HTTPROUTES,
    ROLLOUTS,
    SERVICES,
    Conflict,
    Invalid,
    KubeApi,
    NotFound,
    Object,
    Resource,
)
from tests.contract.bodies import changed, config_map, deployment, http_route, rollout, route_status, service
from tests.contract.worlds import World


def generation(body: Object) -> int:
    value = body["metadata"]["generation"]
    assert isinstance(value, int)
    return value


async def test_merge_patch_merges_maps_and_null_takes_away(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(CONFIGMAPS, namespace, config_map(name, {"a": "1", "b": "2"}))

    new = await api.merge_patch(CONFIGMAPS, namespace, name, {"metadata": {"labels": {"x": "y"}}, "data": {"b": None, "c": "3"}})

    assert new["data"] == {"a": "1", "c": "3"}
    assert new["metadata"]["labels"] == {"x": "y"}


async def test_merge_patch_replaces_lists_whole(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(HTTPROUTES, namespace, http_route(name, 5))

    new = await api.merge_patch(HTTPROUTES, namespace, name, {"spec": {"rules": http_route(name, 25)["spec"]["rules"]}})

    assert [ref["weight"] for ref in new["spec"]["rules"][0]["backendRefs"]] == [75, 25]


async def test_merge_patch_guarded_by_version(api: KubeApi, namespace: str, name: str) -> None:
    made = await api.create(HTTPROUTES, namespace, http_route(name))
    guard = {"resourceVersion": made["metadata"]["resourceVersion"]}

    new = await api.merge_patch(HTTPROUTES, namespace, name, {"metadata": guard, "spec": http_route(name, 5)["spec"]})
    with pytest.raises(Conflict):
        await api.merge_patch(HTTPROUTES, namespace, name, {"metadata": guard, "spec": http_route(name, 10)["spec"]})
    with pytest.raises(Conflict):
        await api.merge_patch(HTTPROUTES, namespace, name, {"metadata": guard, "status": route_status(name)}, subresource="status")

    assert await api.get(HTTPROUTES, namespace, name) == new


async def test_patches_of_nothing(api: KubeApi, namespace: str, name: str) -> None:
    with pytest.raises(NotFound):
        await api.merge_patch(CONFIGMAPS, namespace, name, {"data": {"a": "b"}})
    with pytest.raises(NotFound):
        await api.merge_patch(HTTPROUTES, namespace, name, {"status": route_status(name)}, subresource="status")
    with pytest.raises(NotFound):
        await api.merge_patch(DEPLOYMENTS, namespace, name, {"spec": {"replicas": 1}}, subresource="scale")
    with pytest.raises(NotFound):
        await api.json_patch(CONFIGMAPS, namespace, name, [{"op": "test", "path": "/data", "value": {}}])


async def test_json_patch_with_a_test_that_holds(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(HTTPROUTES, namespace, http_route(name, 5))
    backends = "/spec/rules/0/backendRefs"

    new = await api.json_patch(
        HTTPROUTES,
        namespace,
        name,
        [
            {"op": "test", "path": f"{backends}/1/name", "value": f"{name}-candidate"},
            {"op": "replace", "path": f"{backends}/1/weight", "value": 0},
            {"op": "replace", "path": f"{backends}/0/weight", "value": 100},
        ],
    )

    assert [ref["weight"] for ref in new["spec"]["rules"][0]["backendRefs"]] == [100, 0]


@pytest.mark.parametrize(
    "operations",
    [
        pytest.param([{"op": "test", "path": "/data/key", "value": "other"}], id="another value"),
        pytest.param([{"op": "test", "path": "/data/none", "value": "value"}], id="no such field"),
        pytest.param(
            [{"op": "replace", "path": "/data/key", "value": "new"}, {"op": "test", "path": "/data/key", "value": "old"}],
            id="after a change",
        ),
    ],
)
async def test_json_patch_with_a_test_that_fails(api: KubeApi, namespace: str, name: str, operations: list[Any]) -> None:
    made = await api.create(CONFIGMAPS, namespace, config_map(name))

    with pytest.raises(Conflict):
        await api.json_patch(CONFIGMAPS, namespace, name, [*operations, {"op": "add", "path": "/data/new", "value": "x"}])

    assert await api.get(CONFIGMAPS, namespace, name) == made


async def test_json_patch_that_tests_the_version(api: KubeApi, namespace: str, name: str) -> None:
    made = await api.create(CONFIGMAPS, namespace, config_map(name))
    operations = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
        {"op": "add", "path": "/data/a", "value": "1"},
    ]

    await api.json_patch(CONFIGMAPS, namespace, name, operations)
    with pytest.raises(Conflict):
        await api.json_patch(CONFIGMAPS, namespace, name, operations)


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param({"op": "replace", "path": "/spec/none", "value": "x"}, id="replace in what is not there"),
        pytest.param({"op": "remove", "path": "/spec/none"}, id="remove what is not there"),
        pytest.param({"op": "bake", "path": "/data/key"}, id="unknown operation"),
    ],
)
async def test_json_patch_that_cannot_be_applied(api: KubeApi, namespace: str, name: str, operation: Object) -> None:
    await api.create(CONFIGMAPS, namespace, config_map(name))

    with pytest.raises(Invalid):
        await api.json_patch(CONFIGMAPS, namespace, name, [operation])


async def test_json_patch_replaces_a_member_that_is_not_there(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(CONFIGMAPS, namespace, config_map(name))

    new = await api.json_patch(CONFIGMAPS, namespace, name, [{"op": "replace", "path": "/data/new", "value": "x"}])

    assert new["data"] == {"key": "value", "new": "x"}


async def test_json_patch_to_a_refused_object_is_no_conflict(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(CONFIGMAPS, namespace, config_map(name))

    with pytest.raises(Invalid) as caught:
        await api.json_patch(
            CONFIGMAPS,
            namespace,
            name,
            [
                {"op": "test", "path": "/data/key", "value": "value"},
                {"op": "add", "path": "/metadata/labels", "value": {"x": "no label value!"}},
            ],
        )

    assert "no label value!" in str(caught.value)


async def custom_resources(world: World, name: str) -> list[tuple[Resource, Object, Object]]:
    """Return custom kinds that are installed, each with an object and a change of its spec."""
    kinds = [(HTTPROUTES, http_route(name), {"spec": http_route(name, 5)["spec"]})]
    if await world.has(ROLLOUTS):
        kinds.append((ROLLOUTS, rollout(name), {"spec": {"paused": True}}))
    return kinds


async def test_generation_of_custom_resources_counts_the_spec_only(world: World, name: str) -> None:
    api, namespace = world.api, world.namespace
    for resource, body, patch in await custom_resources(world, name):
        assert generation(await api.create(resource, namespace, body)) == 1
        labelled = await api.merge_patch(resource, namespace, name, {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}})
        assert generation(labelled) == 1
        assert generation(await api.merge_patch(resource, namespace, name, patch)) == 2
        assert generation(await api.merge_patch(resource, namespace, name, patch)) == 2


async def test_generation_of_deployments_counts_annotations_too(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(DEPLOYMENTS, namespace, deployment(name))

    labelled = await api.merge_patch(DEPLOYMENTS, namespace, name, {"metadata": {"labels": {"a": "b"}}})
    annotated = await api.merge_patch(DEPLOYMENTS, namespace, name, {"metadata": {"annotations": {"c": "d"}}})
    changed_spec = await api.merge_patch(DEPLOYMENTS, namespace, name, {"spec": {"minReadySeconds": 7}})

    assert [generation(body) for body in (labelled, annotated, changed_spec)] == [1, 2, 3]


async def test_generation_is_not_the_callers_to_set(api: KubeApi, namespace: str, name: str) -> None:
    made = await api.create(HTTPROUTES, namespace, changed(http_route(name), generation=40, uid="mine"))
    version = made["metadata"]["resourceVersion"]

    new = await api.replace(
        HTTPROUTES, namespace, changed(http_route(name, 5), resourceVersion=version, generation=50, creationTimestamp=None)
    )

    assert (generation(made), generation(new)) == (1, 2)
    assert made["metadata"]["uid"] != "mine"
    assert new["metadata"]["creationTimestamp"] == made["metadata"]["creationTimestamp"]


async def test_config_maps_and_services_have_no_generation(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(CONFIGMAPS, namespace, config_map(name))
    await api.create(SERVICES, namespace, service(name))

    new = [
        await api.merge_patch(CONFIGMAPS, namespace, name, {"data": {"a": "b"}}),
        await api.merge_patch(SERVICES, namespace, name, {"spec": {"selector": {"app": "other"}}}),
    ]

    assert all("generation" not in body["metadata"] for body in new)


async def test_status_and_object_are_written_apart(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(HTTPROUTES, namespace, http_route(name, 5))
    patch = {"metadata": {"labels": {"a": "b"}}, "spec": http_route(name, 50)["spec"], "status": route_status(name)}

    written = await api.merge_patch(HTTPROUTES, namespace, name, patch, subresource="status")

    assert written["status"] == route_status(name)
    assert written["spec"] == http_route(name, 5)["spec"]
    assert generation(written) == 1
    assert not written["metadata"].get("labels")

    for patched in (
        await api.merge_patch(HTTPROUTES, namespace, name, {"status": route_status(name, "Other")}),
        await api.json_patch(HTTPROUTES, namespace, name, [{"op": "remove", "path": "/status"}]),
        await api.replace(HTTPROUTES, namespace, changed(http_route(name, 5))),
    ):
        assert patched["status"] == route_status(name)


async def test_status_write_that_changes_nothing_is_no_write(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(HTTPROUTES, namespace, http_route(name))
    first = await api.merge_patch(HTTPROUTES, namespace, name, {"status": route_status(name)}, subresource="status")

    again = await api.merge_patch(HTTPROUTES, namespace, name, {"status": route_status(name)}, subresource="status")

    assert again == first


async def test_status_of_deployments_leaves_the_spec_alone(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(DEPLOYMENTS, namespace, deployment(name))

    written = await api.merge_patch(
        DEPLOYMENTS, namespace, name, {"spec": {"replicas": 3}, "status": {"observedGeneration": 1}}, subresource="status"
    )
    patched = await api.merge_patch(DEPLOYMENTS, namespace, name, {"status": {"observedGeneration": 99}})

    assert (written["spec"]["replicas"], generation(written)) == (0, 1)
    assert patched.get("status", {}).get("observedGeneration") != 99


async def test_kinds_without_status(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(CONFIGMAPS, namespace, config_map(name))

    with pytest.raises(NotFound):
        await api.merge_patch(CONFIGMAPS, namespace, name, {"status": {}}, subresource="status")
    with pytest.raises(NotFound):
        await api.merge_patch(CONFIGMAPS, namespace, name, {"spec": {"replicas": 1}}, subresource="scale")


async def test_scale_of_deployments(api: KubeApi, namespace: str, name: str) -> None:
    # Nobody pulls the image: the pods, if there is a controller at all, are gone with the Deployment.
    made = await api.create(DEPLOYMENTS, namespace, deployment(name))

    scale = await api.merge_patch(DEPLOYMENTS, namespace, name, {"spec": {"replicas": 1}}, subresource="scale")
    scaled = await api.get(DEPLOYMENTS, namespace, name)
    await api.delete(DEPLOYMENTS, namespace, name)

    assert (scale["apiVersion"], scale["kind"], scale["spec"]) == ("autoscaling/v1", "Scale", {"replicas": 1})
    assert scale["metadata"]["uid"] == made["metadata"]["uid"]
    assert scale["status"]["selector"] == f"app={name}"
    assert scaled is not None
    assert (scaled["spec"]["replicas"], generation(scaled)) == (1, 2)
    assert scaled["spec"]["template"] == made["spec"]["template"]


async def test_scale_to_the_same_is_no_new_generation(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(DEPLOYMENTS, namespace, deployment(name))

    await api.merge_patch(DEPLOYMENTS, namespace, name, {"spec": {"replicas": 0}}, subresource="scale")
    same = await api.get(DEPLOYMENTS, namespace, name)

    assert same is not None
    assert generation(same) == 1


async def test_scale_below_nothing_is_refused(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(DEPLOYMENTS, namespace, deployment(name))

    with pytest.raises(Invalid):
        await api.merge_patch(DEPLOYMENTS, namespace, name, {"spec": {"replicas": -1}}, subresource="scale")
    with pytest.raises(Conflict):
        await api.merge_patch(
            DEPLOYMENTS, namespace, name, {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 0}}, subresource="scale"
        )


async def test_scale_of_rollouts(world: World, name: str) -> None:
    for resource, body, _ in await custom_resources(world, name):
        if resource == ROLLOUTS:
            await world.api.create(resource, world.namespace, body)
            scale = await world.api.merge_patch(resource, world.namespace, name, {"spec": {"replicas": 5}}, subresource="scale")
            assert scale["spec"] == {"replicas": 5}
            scaled = await world.api.get(resource, world.namespace, name)
            assert scaled is not None
            assert scaled["spec"]["replicas"] == 5
