"""The watch: what is there, `SYNCED`, then what happens, for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import pytest

from kanarya.cluster.port import CONFIGMAPS, HTTPROUTES, KubeApi, Resource, WatchEvent
from tests.contract.bodies import changed, config_map, http_route
from tests.contract.worlds import World

Next = Callable[[], Awaitable[WatchEvent]]


@asynccontextmanager
async def watching(
    api: KubeApi,
    namespace: str | None,
    resource: Resource = CONFIGMAPS,
    *,
    labels: Mapping[str, str] | None = None,
    name: str | None = None,
) -> AsyncIterator[Next]:
    """Open a watch; what is yielded gives the next event within five seconds, or fails."""
    events: Any = api.watch(resource, namespace, labels=labels, name=name)
    async with aclosing(events):

        async def following() -> WatchEvent:
            return await asyncio.wait_for(anext(events), 5.0)

        yield following


async def started(following: Next) -> list[str]:
    """Return the names of what is there at first."""
    names: list[str] = []
    while (event := await following()).type != "SYNCED":
        assert event.type == "ADDED"
        names.append(event.object["metadata"]["name"])
    assert event.object == {}
    return names


def brief(event: WatchEvent) -> tuple[str, str]:
    return event.type, event.object["metadata"]["name"]


async def test_initial_objects_then_live_events(api: KubeApi, namespace: str, name: str) -> None:
    labels = {"set": name}
    made = await api.create(CONFIGMAPS, namespace, config_map(f"{name}-a", labels=labels))

    async with watching(api, namespace, labels=labels) as following:
        first = await following()
        assert first == WatchEvent("ADDED", made)
        assert (await following()).type == "SYNCED"

        added = await api.create(CONFIGMAPS, namespace, config_map(f"{name}-b", labels=labels))
        assert await following() == WatchEvent("ADDED", added)
        modified = await api.merge_patch(CONFIGMAPS, namespace, f"{name}-b", {"data": {"x": "y"}})
        assert await following() == WatchEvent("MODIFIED", modified)
        await api.delete(CONFIGMAPS, namespace, f"{name}-b")
        deleted = await following()

    assert brief(deleted) == ("DELETED", f"{name}-b")
    assert deleted.object["data"] == modified["data"]
    assert int(deleted.object["metadata"]["resourceVersion"]) > int(modified["metadata"]["resourceVersion"])


async def test_nothing_there_is_synced_at_once(api: KubeApi, namespace: str, name: str) -> None:
    async with watching(api, namespace, name=name) as following:
        assert await started(following) == []


async def test_one_name_only(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(HTTPROUTES, namespace, http_route(name))
    await api.create(HTTPROUTES, namespace, http_route(f"{name}-other"))

    async with watching(api, namespace, HTTPROUTES, name=name) as following:
        assert await started(following) == [name]
        await api.merge_patch(HTTPROUTES, namespace, f"{name}-other", {"spec": http_route(f"{name}-other", 5)["spec"]})
        await api.merge_patch(HTTPROUTES, namespace, name, {"spec": http_route(name, 5)["spec"]})
        assert brief(await following()) == ("MODIFIED", name)
        await api.delete(HTTPROUTES, namespace, f"{name}-other")
        await api.delete(HTTPROUTES, namespace, name)
        assert brief(await following()) == ("DELETED", name)
        await api.create(HTTPROUTES, namespace, http_route(name))
        assert brief(await following()) == ("ADDED", name)


async def test_an_object_that_loses_its_label_is_gone_and_comes_back(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(CONFIGMAPS, namespace, config_map(name, labels={"set": name}))

    async with watching(api, namespace, labels={"set": name}) as following:
        assert await started(following) == [name]
        await api.merge_patch(CONFIGMAPS, namespace, name, {"metadata": {"labels": {"set": "other"}}, "data": {"new": "1"}})
        gone = await following()
        await api.merge_patch(CONFIGMAPS, namespace, name, {"metadata": {"labels": {"set": name}}})
        back = await following()

    assert (brief(gone), brief(back)) == (("DELETED", name), ("ADDED", name))
    assert gone.object["metadata"]["labels"] == {"set": name}
    assert "new" not in gone.object["data"]


async def test_all_namespaces(api: KubeApi, namespace: str, name: str) -> None:
    async with watching(api, None, labels={"set": name}) as following:
        assert await started(following) == []
        await api.create(CONFIGMAPS, namespace, config_map(name, labels={"set": name}))
        event = await following()

    assert (brief(event), event.object["metadata"]["namespace"]) == (("ADDED", name), namespace)


async def test_no_write_no_event(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(CONFIGMAPS, namespace, config_map(name))

    async with watching(api, namespace, name=name) as following:
        await started(following)
        await api.merge_patch(CONFIGMAPS, namespace, name, {"data": {"key": "value"}})
        await api.merge_patch(CONFIGMAPS, namespace, name, {"data": {"key": "other"}})
        event = await following()

    assert event.object["data"] == {"key": "other"}


async def test_finalizers_show_as_modified_then_deleted(api: KubeApi, namespace: str, name: str) -> None:
    await api.create(CONFIGMAPS, namespace, changed(config_map(name), finalizers=["kanarya.dev/contract"]))

    async with watching(api, namespace, name=name) as following:
        await started(following)
        await api.delete(CONFIGMAPS, namespace, name)
        marked = await following()
        await api.merge_patch(CONFIGMAPS, namespace, name, {"metadata": {"finalizers": None}})
        gone = await following()

    assert (brief(marked), brief(gone)) == (("MODIFIED", name), ("DELETED", name))
    assert marked.object["metadata"]["deletionTimestamp"]


async def test_several_watches_each_see_everything(api: KubeApi, namespace: str, name: str) -> None:
    async with AsyncExitStack() as stack:
        watches = [await stack.enter_async_context(watching(api, namespace, name=name)) for _ in range(3)]
        for following in watches:
            await started(following)
        await api.create(CONFIGMAPS, namespace, config_map(name))

        assert [brief(await following()) for following in watches] == [("ADDED", name)] * 3


async def test_a_cancelled_watch_lets_go(api: KubeApi, namespace: str, name: str) -> None:
    reached = asyncio.Event()

    async def follow() -> None:
        async for event in api.watch(CONFIGMAPS, namespace, name=name):
            if event.type == "SYNCED":
                reached.set()

    task = asyncio.create_task(follow())
    await asyncio.wait_for(reached.wait(), 5.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5.0)
    assert await api.get(CONFIGMAPS, namespace, name) is None


async def test_close_ends_a_watch(api: KubeApi, namespace: str, name: str) -> None:
    async with watching(api, namespace, name=name) as following:
        await started(following)
        waiting = asyncio.ensure_future(following())
        await asyncio.sleep(0.05)
        await api.close()
        with pytest.raises(StopAsyncIteration):
            await waiting


async def test_a_watch_waits_while_the_api_server_is_away(world: World, name: str) -> None:
    for api in (await world.unreachable(), await world.refused()):
        async with aclosing(api.watch(CONFIGMAPS, world.namespace, name=name)) as events:  # type: ignore[type-var]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(events), 0.2)
        await api.close()
