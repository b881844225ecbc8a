"""How passes share the API server, and when the next look is due: docs/decisions/0013."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import pytest

from kanarya.cluster.fake import Call
from kanarya.cluster.port import ROLLOUTS
from kanarya.controller.memory import PATIENCE_SECONDS
from kanarya.controller.reconcile import TURNS
from kanarya.decision.counts import Reading
from kanarya.telemetry.request import ReadRequest
from tests.unit.controller.simulation import KEY, NAME, NAMESPACE, Simulation
from tests.unit.decision.play import Traffic


async def releasing(weight: int = 10) -> Simulation:
    sim = await Simulation().adopted()
    await sim.release("v2")
    await sim.until(lambda status: (status.get("run") or {}).get("weight") == weight)
    return sim


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not holds():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def looks_that_hang(sim: Simulation, count: int) -> AsyncIterator[Counter[str]]:
    """Have passes over other rollouts hang in their first read; yields how often each of those was read."""
    reads: Counter[str] = Counter()
    released = asyncio.Event()

    async def hang(call: Call) -> None:
        if call.verb == "get" and call.resource == ROLLOUTS and call.name not in (None, NAME):
            reads[call.name] += 1
            await released.wait()

    sim.api.before = hang
    passes = [asyncio.create_task(sim.reconciler.reconcile((NAMESPACE, f"other-{number}"))) for number in range(count)]
    try:
        await eventually(lambda: len(reads) == min(count, TURNS))
        yield reads
    finally:
        released.set()
        await asyncio.gather(*passes)
        sim.api.before = None


async def test_few_passes_look_at_the_cluster_at_a_time() -> None:
    sim = await Simulation().adopted()
    async with looks_that_hang(sim, 3 * TURNS) as reads:
        await asyncio.sleep(0.05)
        assert len(reads) == TURNS
    assert len(reads) == 3 * TURNS


async def test_a_decided_rollback_waits_for_nobodys_look() -> None:
    sim = await releasing()
    sim.traffic = Traffic(errors=0.5)
    sim.now += 3
    read, answer, asked = sim.read, asyncio.Event(), asyncio.Event()

    async def slow(request: ReadRequest) -> Reading:
        asked.set()
        await answer.wait()
        return await read(request)

    sim.read = slow  # type: ignore[method-assign]
    deciding = asyncio.create_task(sim.reconciler.reconcile(KEY))
    await asyncio.wait_for(asked.wait(), 2)
    async with looks_that_hang(sim, 2 * TURNS):
        answer.set()
        async with asyncio.timeout(2):
            while await sim.weight() != 0:
                await asyncio.sleep(0.005)
    await deciding


async def test_an_unfinished_rollback_is_written_before_any_look() -> None:
    sim = await releasing()
    sim.traffic = Traffic(errors=0.5)

    async def no_writes(call: Call) -> None:
        if call.verb == "merge_patch" and call.resource.plural == "httproutes":
            raise ConnectionError("the API server is away")

    sim.now += 3
    sim.api.before = no_writes
    with pytest.raises(ConnectionError):
        await sim.reconciler.reconcile(KEY)
    assert await sim.weight() == 10
    async with looks_that_hang(sim, TURNS):
        again = asyncio.create_task(sim.reconciler.reconcile(KEY))
        async with asyncio.timeout(2):
            while await sim.weight() != 0:
                await asyncio.sleep(0.005)
    await again


async def test_the_other_rollouts_are_read_once_a_minute_not_at_each_look() -> None:
    sim = await Simulation().adopted()
    lists: list[float] = []

    async def count(call: Call) -> None:
        if call.verb == "list" and call.resource == ROLLOUTS:
            lists.append(sim.now)

    for _ in range(120):
        sim.now += 1
        sim.api.before = count
        await sim.reconciler.reconcile(KEY)
    assert 2 <= len(lists) <= 3


@pytest.mark.parametrize(("younger", "due"), [(1.4, 1.45), (0.5, 1.05), (-1.0, 4.0), (30.0, 4.0)])
async def test_samples_too_young_to_count_are_looked_at_when_they_are_not(younger: float, due: float) -> None:
    """Otherwise a breach that Prometheus shows just before a look waits for its age and then for a whole tick.

    For a second every look shares one answer: before that there is nothing new to see.
    """
    sim = await Simulation(spec={"analysis": {"intervalSeconds": 4, "minSamples": 50}}).adopted()
    await sim.release("v2")
    await sim.until(lambda status: (status.get("run") or {}).get("weight") == 5)
    read = sim.read

    async def with_younger_samples(request: ReadRequest) -> Reading:
        reading = await read(request)
        assert reading.newest is not None
        return replace(reading, newest=reading.newest + younger)

    for _ in range(3):
        await sim.tick()
    sim.read = with_younger_samples  # type: ignore[method-assign]
    sim.now += 1
    assert await sim.reconciler.reconcile(KEY) == pytest.approx(due)


async def test_all_that_a_candidate_with_weight_needs_comes_before_all_that_can_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that waits to save a checkpoint keeps the next look from beginning; after a rollback there is no hurry."""
    sim = await releasing()
    patience: list[float] = []
    take = sim.reconciler._turns.take

    def noted(seconds: float) -> AbstractAsyncContextManager[None]:
        patience.append(seconds)
        return take(seconds)

    monkeypatch.setattr(sim.reconciler._turns, "take", noted)
    sim.now += 60  # a checkpoint is due
    await sim.tick()
    assert len(patience) >= 2
    assert set(patience) == {0.0}
    patience.clear()
    sim.traffic = Traffic(errors=0.5)
    await sim.ended()
    assert patience[0] == 0.0
    assert patience[-1] == PATIENCE_SECONDS
    written = patience.index(PATIENCE_SECONDS)
    assert set(patience[written:]) == {PATIENCE_SECONDS}
