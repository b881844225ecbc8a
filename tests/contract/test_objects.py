"""Create, get, list, replace, delete."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kanarya.cluster.port import CONFIGMAPS, DEPLOYMENTS, HTTPROUTES, SERVICES, AlreadyExists, Conflict, Invalid, KubeApi, NotFound
from tests.contract.bodies import changed, config_map, deployment, http_route, route_status, service


async def test_create_gives_identity_and_get_returns_the_same(api: KubeApi, namespace: str, name: str) -> None:
    made = await api.create(CONFIGMAPS, namespace, config_map(name, labels={"a": "b"}))

    metadata = made["metadata"]
    age = datetime.now(UTC) - datetime.strptime(metadata["creationTimestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert (made["apiVersion"], made["kind"]) == ("v1", "ConfigMap")
    assert (metadata["name"], metadata["namespace"], metadata["labels"]) == (name, namespace, {"a": "b"})
    assert metadata["uid"]
    assert int(metadata["resourceVersion"]) > 0
    assert "generation" not in metadata
    assert abs(age) < timedelta(minutes=5)
    assert await api.get(CONFIGMAPS, namespace, name) == made


async def test_apiversion_and_kind_may_be_left_out(api: KubeApi, namespace: str, name: str) -> None:
    body = {"metadata": {"name": name}, "data": {}}

    assert (await api.create(CONFIGMAPS, namespace, body))["kind"] == "ConfigMap"
    assert (await api.replace(CONFIGMAPS, namespace, {**body, "data": {"a": "b"}}))["data"] == {"a": "b"}


async def test_kind_of_another_resource_is_refused(api: KubeApi, namespace: str, name: str) -> None:
    with pytest.raises(Invalid):
        await api.create(SERVICES, namespace, config_map(name))


async def test_answers_are_the_callers_own(api: KubeApi, namespace: str, name: str) -> None:
    body = config_map(name)
    made = await api.create(CONFIGMAPS, namespace, body)
    body["data"]["key"] = made["data"]["key"] = "changed here only"
    got = await api.get(CONFIGMAPS, namespace, name)
    assert got is not None
    got["data"]["key"] = "changed here only"

    again = await api.get(CONFIGMAPS, namespace, name)

    assert again is not None
    assert again["data"] == {"key": "value"}


async def test_get_of_nothing_is_none(api: KubeApi, namespace: str, name: str) -> None:
    assert await api.get(CONFIGMAPS, namespace, name) is None
    assert await api.get(CONFIGMAPS, "no-such-namespace", name) is None
    assert await api.get(CONFIGMAPS, namespace, "Not_A_Name") is None


async def test_create_of_a_taken_name(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(CONFIGMAPS, namespace, config_map(name))

    with pytest.raises(AlreadyExists):
        await api.create(CONFIGMAPS, namespace, config_map(name, {"other": "data"}))


async def test_create_with_a_version_is_refused(api: KubeApi, namespace: str, name: str) -> None:
    with pytest.raises(Invalid):
        await api.create(CONFIGMAPS, namespace, changed(config_map(name), resourceVersion="1"))


async def test_create_for_another_namespace_is_refused(api: KubeApi, namespace: str, name: str) -> None:
    with pytest.raises(Invalid):
        await api.create(CONFIGMAPS, namespace, changed(config_map(name), namespace="elsewhere"))


async def test_create_can_be_given_the_beginning_of_a_name(api: KubeApi, namespace: str, name: str) -> None:
    body = {"metadata": {"generateName": f"{name}-"}, "data": {}}

    first, second = [await api.create(CONFIGMAPS, namespace, body) for _ in range(2)]

    assert first["metadata"]["name"].startswith(f"{name}-")
    assert first["metadata"]["name"] != second["metadata"]["name"]


async def test_create_takes_no_status(api: KubeApi, namespace: str, name: str) -> None:
    made = await api.create(HTTPROUTES, namespace, {**http_route(name), "status": route_status(name)})

    assert "kanarya.dev/contract" not in str(made.get("status"))


async def test_list_selects_by_labels_and_fills_in_the_kind(api: KubeApi, namespace: str, name: str) -> None:
    for suffix, labels in (("a", {"set": name, "track": "stable"}), ("b", {"set": name}), ("c", {"set": "other"})):
        await api.create(CONFIGMAPS, namespace, config_map(f"{name}-{suffix}", labels=labels))

    def names(found: object) -> list[str]:
        assert isinstance(found, list)
        assert all((body["apiVersion"], body["kind"]) == ("v1", "ConfigMap") for body in found)
        return [body["metadata"]["name"] for body in found]

    assert names(await api.list(CONFIGMAPS, namespace, labels={"set": name})) == [f"{name}-a", f"{name}-b"]
    assert names(await api.list(CONFIGMAPS, namespace, labels={"set": name, "track": "stable"})) == [f"{name}-a"]
    assert names(await api.list(CONFIGMAPS, namespace, labels={"set": name}, label_exists="track")) == [f"{name}-a"]
    assert names(await api.list(CONFIGMAPS, None, labels={"set": name})) == [f"{name}-a", f"{name}-b"]
    assert await api.list(CONFIGMAPS, "no-such-namespace") == []
    assert {f"{name}-a", f"{name}-c"} <= set(names(await api.list(CONFIGMAPS, namespace)))


async def test_replace_guarded_by_version(api: KubeApi, namespace: str, name: str) -> None:
    made = await api.create(HTTPROUTES, namespace, http_route(name))
    version = made["metadata"]["resourceVersion"]

    new = await api.replace(HTTPROUTES, namespace, changed(http_route(name, 5), resourceVersion=version))
    assert int(new["metadata"]["resourceVersion"]) > int(version)
    assert new["metadata"]["uid"] == made["metadata"]["uid"]

    with pytest.raises(Conflict):
        await api.replace(HTTPROUTES, namespace, changed(http_route(name, 10), resourceVersion=version))
    assert await api.get(HTTPROUTES, namespace, name) == new


@pytest.mark.parametrize("kind", ["built in", "custom"])
async def test_replace_without_version_is_unguarded(api: KubeApi, namespace: str, name: str, kind: str) -> None:
    resource = CONFIGMAPS if kind == "built in" else HTTPROUTES
    body = config_map(name) if kind == "built in" else http_route(name)
    await api.create(resource, namespace, body)
    await api.replace(resource, namespace, changed(body, labels={"round": "1"}))

    new = await api.replace(resource, namespace, changed(body, labels={"round": "2"}))

    assert new["metadata"]["labels"] == {"round": "2"}


async def test_replace_takes_away_what_the_body_leaves_out(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(CONFIGMAPS, namespace, config_map(name, {"a": "1", "b": "2"}, labels={"x": "y"}))

    new = await api.replace(CONFIGMAPS, namespace, config_map(name, {"a": "1"}))

    assert new["data"] == {"a": "1"}
    assert not new["metadata"].get("labels")


async def test_replace_of_another_incarnation_conflicts(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(CONFIGMAPS, namespace, config_map(name))

    with pytest.raises(Conflict):
        await api.replace(CONFIGMAPS, namespace, changed(config_map(name), uid="00000000-0000-0000-0000-00000000dead"))


@pytest.mark.parametrize("kind", ["built in", "custom"])
async def test_replace_of_nothing(api: KubeApi, namespace: str, name: str, kind: str) -> None:
    resource, body = (CONFIGMAPS, config_map(name)) if kind == "built in" else (HTTPROUTES, http_route(name))

    with pytest.raises(NotFound):
        await api.replace(resource, namespace, body)


async def test_writing_the_same_again_changes_nothing(api: KubeApi, namespace: str, name: str) -> None:
    made = await api.create(HTTPROUTES, namespace, http_route(name, 5))

    replaced = await api.replace(HTTPROUTES, namespace, made)
    merged = await api.merge_patch(HTTPROUTES, namespace, name, {"spec": http_route(name, 5)["spec"]})
    patched = await api.json_patch(
        HTTPROUTES, namespace, name, [{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 5}]
    )

    assert replaced == merged == patched == made


async def test_versions_rise_over_all_kinds(api: KubeApi, namespace: str, name: str) -> None:
    made = [
        await api.create(CONFIGMAPS, namespace, config_map(name)),
        await api.create(SERVICES, namespace, service(name)),
        await api.create(HTTPROUTES, namespace, http_route(name)),
        await api.create(DEPLOYMENTS, namespace, deployment(name)),
    ]

    versions = [int(body["metadata"]["resourceVersion"]) for body in made]

    assert versions == sorted(set(versions))


async def test_delete_is_repeatable(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(CONFIGMAPS, namespace, config_map(name))

    await api.delete(CONFIGMAPS, namespace, name)
    assert await api.get(CONFIGMAPS, namespace, name) is None
    await api.delete(CONFIGMAPS, namespace, name)
    again = await api.create(CONFIGMAPS, namespace, config_map(name))

    assert again["metadata"]["name"] == name


async def test_a_finalizer_holds_a_deleted_object(api: KubeApi, namespace: str, name: str) -> None:
    made = await api.create(HTTPROUTES, namespace, changed(http_route(name), finalizers=["kanarya.dev/contract"]))

    await api.delete(HTTPROUTES, namespace, name)
    await api.delete(HTTPROUTES, namespace, name)
    held = await api.get(HTTPROUTES, namespace, name)
    assert held is not None
    assert held["metadata"]["deletionTimestamp"]
    assert held["metadata"]["generation"] == made["metadata"]["generation"] + 1

    await api.merge_patch(HTTPROUTES, namespace, name, {"metadata": {"finalizers": None}})
    assert await api.get(HTTPROUTES, namespace, name) is None


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "a%2Fb"])
async def test_a_name_never_reaches_another_path(api: KubeApi, namespace: str, name: str, bad: str) -> None:
    await api.create(CONFIGMAPS, namespace, config_map(name))

    for call in (
        api.get(CONFIGMAPS, namespace, bad),
        api.delete(CONFIGMAPS, namespace, bad),
        api.merge_patch(CONFIGMAPS, namespace, bad, {"data": {}}),
        api.json_patch(CONFIGMAPS, namespace, bad, []),
        api.replace(CONFIGMAPS, namespace, config_map(bad)),
        api.create(CONFIGMAPS, bad, config_map("x")),
    ):
        with pytest.raises(Invalid):
            await call
    assert await api.get(CONFIGMAPS, namespace, name) is not None
