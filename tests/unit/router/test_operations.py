from __future__ import annotations

import json

import pytest

from kanarya.cluster.port import CONFIGMAPS, HTTPROUTES
from tests.unit.router.cluster import configmap, route, standard_objects
from tests.unit.router.conftest import Rig, Start, eventually

pytestmark = pytest.mark.slow


async def reason(router: Rig) -> str:
    status, text = await router.get("/readyz")
    return "" if status == 200 else json.loads(text)["reason"]


async def ready(router: Rig) -> bool:
    return await reason(router) == ""


async def test_ready_once_everything_is_there(rig: Start) -> None:
    router = await rig(ready=False)
    router.api.put_pods("fraud-stable")
    assert await reason(router) == "no accepted route with usable settings yet"
    assert (await router.predict())[0] == 503
    router.api.put(HTTPROUTES, route(95, 5))
    assert not await ready(router)
    router.api.put(CONFIGMAPS, configmap())

    async def endpoints_missing() -> bool:
        return await reason(router) == "no ready endpoint of fraud-stable"

    await eventually(endpoints_missing)
    router.api.put_pods("fraud-stable", router.stable[0].address)
    await eventually(lambda: ready(router))
    assert (await router.get("/livez"))[0] == 200
    assert (await router.get("/nothing"))[0] == 404


async def test_stays_ready_when_stable_loses_its_pods(rig: Start) -> None:
    router = await rig()
    router.api.put_pods("fraud-stable")

    async def refused() -> bool:
        return (await router.predict())[0] == 503

    await eventually(refused)
    assert await ready(router)


async def test_during_a_promotion_stable_may_be_empty(rig: Start) -> None:
    router = await rig(ready=False)
    router.api.put_pods("fraud-stable")
    standard_objects(router.api, stable=0, candidate=100)
    await eventually(lambda: ready(router))
    assert (await router.predict())[:2] == (200, "candidate")


async def test_alive_without_a_route(rig: Start) -> None:
    router = await rig(ready=False)
    assert (await router.get("/livez"))[0] == 200
    assert (await router.get("/metrics"))[0] == 200
    assert (await router.get("/readyz"))[0] == 503


async def test_draining_is_not_ready(rig: Start) -> None:
    router = await rig()
    router.drain.begin()
    assert (await router.get("/readyz"))[0] == 503
