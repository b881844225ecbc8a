"""What the in-memory API offers to tests; what it has in common with a real one is in the contract suite."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime

import pytest

from kanarya.cluster.fake import Call, FakeApi
from kanarya.cluster.port import CONFIGMAPS, DEPLOYMENTS, HTTPROUTES, ApiError, Conflict, Invalid, Object, Unavailable

MAP: Object = {"metadata": {"name": "fraud-run"}, "data": {"a": "1"}}
POINTS = {"app": "fraud"}
DEPLOYMENT: Object = {
    "metadata": {"name": "fraud"},
    "spec": {"selector": {"matchLabels": POINTS}, "template": {"metadata": {"labels": POINTS}}},
}


async def test_every_call_passes_the_hook_first() -> None:
    api = FakeApi()
    seen: list[Call] = []

    async def before(call: Call) -> None:
        seen.append(call)

    api.before = before
    await api.create(DEPLOYMENTS, "shop", DEPLOYMENT)
    await api.get(DEPLOYMENTS, "shop", "fraud")
    await api.list(DEPLOYMENTS, None)
    await api.merge_patch(DEPLOYMENTS, "shop", "fraud", {"spec": {"replicas": 2}}, subresource="scale")
    operations: list[Object] = [{"op": "test", "path": "/spec/replicas", "value": 2}]
    await api.json_patch(DEPLOYMENTS, "shop", "fraud", operations)
    await api.replace(DEPLOYMENTS, "shop", DEPLOYMENT)
    await api.delete(DEPLOYMENTS, "shop", "fraud")
    async with aclosing(api.watch(DEPLOYMENTS, "shop", name="fraud")) as events:
        assert (await anext(events)).type == "SYNCED"

    writes = [
        Call("create", DEPLOYMENTS, "shop", "fraud", DEPLOYMENT),
        Call("merge_patch", DEPLOYMENTS, "shop", "fraud", {"spec": {"replicas": 2}}, "scale"),
        Call("json_patch", DEPLOYMENTS, "shop", "fraud", operations),
        Call("replace", DEPLOYMENTS, "shop", "fraud", DEPLOYMENT),
        Call("delete", DEPLOYMENTS, "shop", "fraud"),
    ]
    reads = [
        Call("get", DEPLOYMENTS, "shop", "fraud"),
        Call("list", DEPLOYMENTS, None, None),
        Call("watch", DEPLOYMENTS, "shop", "fraud"),
    ]
    assert api.calls == writes
    assert [call for call in seen if call not in writes] == reads
    assert len(seen) == 8


async def test_a_fault_before_a_write_prevents_it() -> None:
    api = FakeApi()

    async def before(call: Call) -> None:
        if call.verb == "create":
            raise Unavailable("away")

    api.before = before

    with pytest.raises(Unavailable):
        await api.create(CONFIGMAPS, "shop", MAP)
    assert await api.get(CONFIGMAPS, "shop", "fraud-run") is None
    assert api.calls == []


async def test_a_fault_after_a_write_is_a_lost_answer() -> None:
    api = FakeApi()

    async def after(call: Call) -> None:
        raise Unavailable("lost")

    api.after = after
    with pytest.raises(Unavailable):
        await api.create(CONFIGMAPS, "shop", MAP)
    api.after = None

    assert await api.get(CONFIGMAPS, "shop", "fraud-run") is not None
    assert [call.verb for call in api.calls] == ["create"]


async def test_refused_writes_are_logged_too() -> None:
    api = FakeApi()

    with pytest.raises(Invalid):
        await api.create(CONFIGMAPS, "shop", {"metadata": {"name": "No_Name"}})

    assert [call.name for call in api.calls] == ["No_Name"]


async def test_somebody_else_may_write_in_between() -> None:
    api = FakeApi()
    made = await api.create(CONFIGMAPS, "shop", MAP)

    async def before(call: Call) -> None:
        api.before = None
        await api.merge_patch(CONFIGMAPS, "shop", "fraud-run", {"data": {"a": "theirs"}})

    api.before = before

    with pytest.raises(Conflict):
        await api.replace(CONFIGMAPS, "shop", {**made, "data": {"a": "ours"}})


async def test_of_two_guarded_writes_at_once_one_wins() -> None:
    api = FakeApi()
    made = await api.create(CONFIGMAPS, "shop", MAP)

    answers = await asyncio.gather(
        *(api.replace(CONFIGMAPS, "shop", {**made, "data": {"a": value}}) for value in "xyz"), return_exceptions=True
    )

    assert sum(isinstance(answer, Conflict) for answer in answers) == 2


async def test_the_clock_is_the_tests() -> None:
    api = FakeApi(clock=lambda: datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC))

    assert (await api.create(CONFIGMAPS, "shop", MAP))["metadata"]["creationTimestamp"] == "2026-01-02T03:04:05Z"


async def test_two_histories_are_the_same() -> None:
    async def history() -> list[Object]:
        api = FakeApi(clock=lambda: datetime(2026, 1, 1, tzinfo=UTC))
        return [await api.create(CONFIGMAPS, "shop", MAP), await api.create(CONFIGMAPS, "bank", MAP)]

    assert await history() == await history()


async def test_a_deployment_has_one_replica_unless_it_says_otherwise() -> None:
    assert (await FakeApi().create(DEPLOYMENTS, "shop", DEPLOYMENT))["spec"]["replicas"] == 1


async def test_a_watch_waits_for_faults_to_end() -> None:
    api = FakeApi()
    faults: list[ApiError] = [Unavailable("away"), Unavailable("away")]

    async def before(call: Call) -> None:
        if faults:
            raise faults.pop()

    api.before = before
    async with aclosing(api.watch(HTTPROUTES, None)) as events:
        assert (await asyncio.wait_for(anext(events), 1.0)).type == "SYNCED"


async def test_watched_objects_are_the_watchers_own() -> None:
    api = FakeApi()
    await api.create(CONFIGMAPS, "shop", MAP)
    async with aclosing(api.watch(CONFIGMAPS, "shop")) as first, aclosing(api.watch(CONFIGMAPS, "shop")) as second:
        (await anext(first)).object["data"]["a"] = "changed here only"
        assert (await anext(second)).object["data"] == {"a": "1"}
        await anext(first)
        await anext(second)
        await api.merge_patch(CONFIGMAPS, "shop", "fraud-run", {"data": {"a": "2"}})
        (await anext(first)).object["data"]["a"] = "changed here only"
        assert (await anext(second)).object["data"] == {"a": "2"}
