from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from kanarya.cluster.port import HTTPROUTES
from kanarya_inference.router import status as status_module
from kanarya_inference.router.control import Verdict
from kanarya_inference.router.route import RouteRefused
from kanarya_inference.router.status import CONTROLLER_NAME, StatusReporter, desired_parents
from tests.unit.router.cluster import NAMESPACE, ROLLOUT, StubApi, backend, route
from tests.unit.router.conftest import Start, eventually

NOW = datetime(2026, 8, 1, 12, 0, 0, tzinfo=UTC)
FOREIGN = {"parentRef": {"name": "gw"}, "controllerName": "example.com/gateway", "conditions": []}


def conditions(parents: list[dict[str, Any]] | None) -> dict[str, tuple[str, str, int, str]]:
    assert parents is not None
    (ours,) = (entry for entry in parents if entry["controllerName"] == CONTROLLER_NAME)
    return {
        item["type"]: (item["status"], item["reason"], item["observedGeneration"], item["lastTransitionTime"])
        for item in ours["conditions"]
    }


def accepted(body: dict[str, Any]) -> Verdict:
    return Verdict(body, None, "followed by ml-router")


def test_accepted_route() -> None:
    parents = desired_parents(accepted(route(generation=7)), NOW)
    assert conditions(parents) == {
        "Accepted": ("True", "Accepted", 7, "2026-08-01T12:00:00Z"),
        "ResolvedRefs": ("True", "ResolvedRefs", 7, "2026-08-01T12:00:00Z"),
    }
    assert parents is not None
    assert parents[0]["parentRef"] == {"group": "", "kind": "Service", "name": "fraud", "port": 80}


def test_refused_route() -> None:
    unknown = Verdict(route(generation=8), RouteRefused("backend 'x' is none of ours", backend_known=False), "no")
    assert conditions(desired_parents(unknown, NOW)) == {
        "Accepted": ("False", "UnsupportedValue", 8, "2026-08-01T12:00:00Z"),
        "ResolvedRefs": ("False", "BackendNotFound", 8, "2026-08-01T12:00:00Z"),
    }
    unsupported = Verdict(route(generation=8), RouteRefused("hostnames are not supported"), "no")
    assert conditions(desired_parents(unsupported, NOW))["ResolvedRefs"][0] == "True"


def test_nothing_to_write_when_it_is_there() -> None:
    body = route(generation=7)
    body["status"] = {"parents": desired_parents(accepted(body), NOW)}
    assert desired_parents(accepted(body), NOW + timedelta(hours=1)) is None


def test_transition_time_moves_with_the_status_only() -> None:
    body = route(generation=7)
    body["status"] = {"parents": [FOREIGN, *(desired_parents(accepted(body), NOW) or [])]}
    later = NOW + timedelta(hours=1)
    body["metadata"]["generation"] = 8
    parents = desired_parents(accepted(body), later)
    assert conditions(parents)["Accepted"] == ("True", "Accepted", 8, "2026-08-01T12:00:00Z")
    assert parents is not None
    assert parents[0] == FOREIGN
    refused = desired_parents(Verdict(body, RouteRefused("no"), "no"), later)
    assert conditions(refused)["Accepted"] == ("False", "UnsupportedValue", 8, "2026-08-01T13:00:00Z")
    assert conditions(refused)["ResolvedRefs"][3] == "2026-08-01T12:00:00Z"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "JITTER_SECONDS", 0.01)
    monkeypatch.setattr(status_module, "FIRST_BACKOFF_SECONDS", 0.01)


@pytest.mark.usefixtures("quick")
async def test_two_replicas_write_once() -> None:
    api = StubApi()
    reporters = [StatusReporter(api.port, NAMESPACE, ROLLOUT, random=Random(n), now=lambda: NOW) for n in range(2)]
    tasks = [asyncio.create_task(reporter.run()) for reporter in reporters]

    async def watch() -> None:
        async for event in api.watch(HTTPROUTES, NAMESPACE, name=ROLLOUT):
            if event.type != "SYNCED":
                for reporter in reporters:
                    reporter.report(accepted(event.object))

    tasks.append(asyncio.create_task(watch()))
    api.put(HTTPROUTES, route(generation=3))
    await asyncio.sleep(0.15)
    assert len(api.patches) == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.usefixtures("quick")
async def test_failed_write_is_repeated() -> None:
    api = StubApi()
    body = api.put(HTTPROUTES, route(generation=3))
    api.away = True
    reporter = StatusReporter(api.port, NAMESPACE, ROLLOUT, random=Random(1), now=lambda: NOW)
    task = asyncio.create_task(reporter.run())
    reporter.report(accepted(body))
    await asyncio.sleep(0.05)
    api.away = False

    async def written() -> bool:
        return len(api.patches) == 1

    await eventually(written)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_router_reports_on_its_route(rig: Start) -> None:
    router = await rig(stable=95, candidate=5)

    async def reported(generation: int, status: str) -> bool:
        body = router.api.objects["httproutes", ROLLOUT]
        parents = body.get("status", {}).get("parents")
        return bool(parents) and conditions(parents)["Accepted"][::2] == (status, generation)

    await eventually(lambda: reported(1, "True"))
    before = router.api.objects["httproutes", ROLLOUT]
    refused = route(generation=2, backends=[backend("fraud-stable", 1), backend("stranger", 1)])
    router.api.put(HTTPROUTES, {**refused, "status": before["status"]})
    await eventually(lambda: reported(2, "False"))
    assert (await router.predict())[0] == 200
    assert await router.sample("kanarya_router_weight", track="candidate") == 5
    assert await router.sample("kanarya_router_route_generation") == 1
