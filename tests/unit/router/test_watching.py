from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from kanarya.cluster.port import ENDPOINTSLICES, HTTPROUTES, Forbidden, WatchEvent
from kanarya_inference.router import watching as watching_module
from kanarya_inference.router.control import Control
from kanarya_inference.router.metrics import RouterMetrics
from kanarya_inference.router.watching import Watching
from tests.unit.router.cluster import NAMESPACE, ROLLOUT, StubApi, endpoint_slice, route, standard_objects
from tests.unit.router.conftest import eventually


class Watched:
    """Watches of a cluster, into a control."""

    def __init__(self, api: StubApi) -> None:
        clock = asyncio.get_running_loop().time
        self.api = api
        self.changes = 0
        self.watching = Watching(api.port, NAMESPACE, ROLLOUT, random=Random(1), clock=clock)
        self.control = Control(ROLLOUT, self.watching.pool, RouterMetrics(ROLLOUT, clock), clock)
        self.task = asyncio.create_task(self.watching.run(self.control, self._changed))

    def _changed(self) -> None:
        self.changes += 1

    async def generation(self) -> int:
        return self.control.plan.generation if self.control.plan else 0

    async def ready(self) -> bool:
        return self.watching.pool("fraud-stable").ready


@pytest.fixture
async def watched(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    monkeypatch.setattr(watching_module, "FIRST_BACKOFF_SECONDS", 0.01)
    made = Watched(StubApi())
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def test_follows_route_settings_and_endpoints(watched: Watched) -> None:
    standard_objects(watched.api)
    watched.api.put_pods("fraud-stable", ("10.0.0.1", 80))
    await eventually(watched.ready)
    assert await watched.generation() == 1
    assert watched.watching.pool("fraud-candidate").synced
    watched.api.put(HTTPROUTES, route(generation=2))
    await eventually(lambda: _is(watched.generation(), 2))
    watched.api.put_pods("fraud-stable")
    await eventually(lambda: _is(watched.ready(), False))
    assert watched.changes >= 3


async def test_object_nobody_foresaw_does_not_end_the_watch(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    standard_objects(watched.api)
    await eventually(lambda: _is(watched.generation(), 1))
    broken: Any = route(generation=2)
    broken["metadata"]["labels"] = 5
    watched.api.put(HTTPROUTES, broken)
    await asyncio.sleep(0.02)
    assert await watched.generation() == 1
    assert "could not be taken in" in caplog.text
    watched.api.put(HTTPROUTES, route(generation=3))
    await eventually(lambda: _is(watched.generation(), 3))


async def test_endless_slice_of_a_foreign_service_is_not_taken(watched: Watched) -> None:
    standard_objects(watched.api)
    watched.api.put(ENDPOINTSLICES, endpoint_slice("other", [("10.0.0.9", 80)]))
    watched.api.put_pods("fraud-stable", ("10.0.0.1", 80))
    await eventually(watched.ready)
    pool = watched.watching.pool("fraud-stable")
    picked = pool.pick()
    assert picked is not None
    assert picked.authority == "10.0.0.1:80"


async def test_broken_watch_begins_again_and_meanwhile_nothing_changes(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    standard_objects(watched.api)
    watched.api.put_pods("fraud-stable", ("10.0.0.1", 80))
    await eventually(watched.ready)
    watch, failures = watched.api.watch, 0

    async def failing(*args: Any, **options: Any) -> AsyncIterator[WatchEvent]:
        nonlocal failures
        failures += 1
        if failures < 4:
            raise Forbidden("no")
        async for event in watch(*args, **options):
            yield event

    watched.api.watch = failing  # type: ignore[method-assign]
    watched.task.cancel()
    await asyncio.gather(watched.task, return_exceptions=True)
    watched.api.remove(ENDPOINTSLICES, "fraud-stable-80-x")
    watched.task = asyncio.create_task(watched.watching.run(watched.control, watched._changed))
    await asyncio.sleep(0.01)
    assert await watched.generation() == 1
    assert "starting again" in caplog.text
    watched.api.put(HTTPROUTES, route(generation=2))
    await eventually(lambda: _is(watched.generation(), 2))


async def _is(value: Any, expected: Any) -> bool:
    return bool(await value == expected)
