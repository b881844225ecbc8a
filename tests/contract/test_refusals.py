"""What is refused, and every class of error."""

from __future__ import annotations

import pytest

from kanarya.cluster.port import (
    CONFIGMAPS,
    DEPLOYMENTS,
    HTTPROUTES,
    SERVICES,
    Forbidden,
    Invalid,
    KubeApi,
    Object,
    Resource,
    Unavailable,
)
from tests.contract.bodies import changed, config_map, deployment, service
from tests.contract.worlds import World


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        (CONFIGMAPS, "Upper"),
        (CONFIGMAPS, "under_score"),
        (CONFIGMAPS, "-dash"),
        (CONFIGMAPS, "a..b"),
        (CONFIGMAPS, "n" * 254),
        (SERVICES, "n" * 64),
        (SERVICES, "with.dot"),
        (DEPLOYMENTS, "n" * 254),
    ],
)
async def test_bad_names(api: KubeApi, namespace: str, resource: Resource, name: str) -> None:
    body = {CONFIGMAPS: config_map("x"), SERVICES: service("x"), DEPLOYMENTS: deployment("x")}[resource]

    with pytest.raises(Invalid):
        await api.create(resource, namespace, changed(body, name=name))


async def test_longest_names(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(CONFIGMAPS, namespace, config_map(name.ljust(253, "x")))
    await api.create(SERVICES, namespace, service(name.ljust(63, "x"), {"app": name}))


@pytest.mark.parametrize(
    "labels",
    [{"key": "v" * 64}, {"key": "a b"}, {"key": "-a"}, {"k" * 64: "v"}, {"a/b/c": "v"}, {"Upper.dev/x": "v"}, {"": "v"}],
)
async def test_bad_labels(api: KubeApi, namespace: str, name: str, labels: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        await api.create(CONFIGMAPS, namespace, config_map(name, labels=labels))


async def test_bad_labels_in_a_patch_and_in_a_selector(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(CONFIGMAPS, namespace, config_map(name))

    with pytest.raises(Invalid):
        await api.merge_patch(CONFIGMAPS, namespace, name, {"metadata": {"labels": {"a": "v" * 64}}})
    with pytest.raises(Invalid):
        await api.create(SERVICES, namespace, service(name, {"app": "v" * 64}))


async def test_longest_labels(api: KubeApi, namespace: str, name: str) -> None:
    labels = {"kanarya.dev/" + "k" * 63: "v" * 63, "empty": ""}

    assert (await api.create(CONFIGMAPS, namespace, config_map(name, labels=labels)))["metadata"]["labels"] == labels


async def test_annotations_have_a_size(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(CONFIGMAPS, namespace, changed(config_map(name), annotations={"a": "x" * 200_000}))

    with pytest.raises(Invalid):
        await api.merge_patch(CONFIGMAPS, namespace, name, {"metadata": {"annotations": {"b": "x" * 100_000}}})


@pytest.mark.parametrize(
    "data",
    [{"a": "x" * 1_048_576}, {"a key": "x"}, {"": "x"}, {"a": 1}, "no map"],
    ids=["too long", "bad key", "no key", "no string", "no map"],
)
async def test_bad_data_of_config_maps(api: KubeApi, namespace: str, name: str, data: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        await api.create(CONFIGMAPS, namespace, config_map(name, data))


async def test_a_request_beyond_all_limits_is_invalid(api: KubeApi, namespace: str, name: str) -> None:
    with pytest.raises(Invalid):
        await api.create(CONFIGMAPS, namespace, config_map(name, {"a": "x" * 4_000_000}))


@pytest.mark.parametrize(
    "patch",
    [{"data": {"key": "new"}}, {"data": {"more": "x"}}, {"data": None}, {"immutable": False}, {"immutable": None}],
    ids=["changed", "added", "removed", "thawed", "thawed by null"],
)
async def test_immutable_config_maps(api: KubeApi, namespace: str, name: str, patch: Object) -> None:
    made = await api.create(CONFIGMAPS, namespace, config_map(name, immutable=True))

    with pytest.raises(Invalid):
        await api.merge_patch(CONFIGMAPS, namespace, name, patch)

    assert await api.get(CONFIGMAPS, namespace, name) == made


async def test_immutable_config_maps_can_be_labelled_and_deleted(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(CONFIGMAPS, namespace, config_map(name))
    await api.merge_patch(CONFIGMAPS, namespace, name, {"data": {"key": "last"}, "immutable": True})

    new = await api.merge_patch(CONFIGMAPS, namespace, name, {"metadata": {"labels": {"a": "b"}}})
    await api.delete(CONFIGMAPS, namespace, name)

    assert (new["data"], new["metadata"]["labels"]) == ({"key": "last"}, {"a": "b"})


async def test_a_deployments_selector_is_immutable(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(DEPLOYMENTS, namespace, deployment(name))
    other = {"app": "other"}

    with pytest.raises(Invalid):
        await api.merge_patch(
            DEPLOYMENTS,
            namespace,
            name,
            {"spec": {"selector": {"matchLabels": other}, "template": {"metadata": {"labels": other}}}},
        )


async def test_a_deployments_selector_must_match_its_template(api: KubeApi, namespace: str, name: str) -> None:
    body = deployment(name)
    body["spec"]["template"]["metadata"]["labels"] = {"app": "other"}

    with pytest.raises(Invalid):
        await api.create(DEPLOYMENTS, namespace, body)


async def test_messages_say_why_within_bounds(api: KubeApi, namespace: str, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        await api.create(CONFIGMAPS, namespace, config_map(name, labels={"key": "wrong value!"}))

    assert "wrong value!" in str(caught.value)
    assert len(str(caught.value)) < 1200


async def test_no_rights_and_no_answer(world: World, name: str) -> None:
    for api, error in ((await world.refused(), Forbidden), (await world.unreachable(), Unavailable)):
        for call in (
            api.get(CONFIGMAPS, world.namespace, name),
            api.list(CONFIGMAPS, world.namespace),
            api.create(CONFIGMAPS, world.namespace, config_map(name)),
            api.replace(HTTPROUTES, world.namespace, config_map(name)),
            api.merge_patch(CONFIGMAPS, world.namespace, name, {}),
            api.json_patch(CONFIGMAPS, world.namespace, name, []),
            api.delete(CONFIGMAPS, world.namespace, name),
        ):
            with pytest.raises(error):
                await call
        await api.close()


async def test_after_close_nothing_goes(api: KubeApi, namespace: str, name: str) -> None:
    await api.close()

    with pytest.raises(Unavailable):
        await api.get(CONFIGMAPS, namespace, name)
    assert [event async for event in api.watch(CONFIGMAPS, namespace)] == []
    await api.close()
