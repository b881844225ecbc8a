"""Seeded hostile bodies through the router to real inference servers: no 5xx, nothing lost, and both tracks agree about each."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from io import BytesIO
from pathlib import Path
from random import Random

import pytest

from kanarya_inference.server.settings import ServerSettings
from kanarya_inference.training.train import train
from tests.unit.inference.hostile import PATHS, bodies, corpus
from tests.unit.inference.support import running
from tests.unit.router.conftest import Rig, Start, eventually, rig

__all__ = ["rig"]

SEED = 2026
SEEDED = int(os.environ.get("KANARYA_HOSTILE_BODIES", "800"))
CONNECTIONS = 8
ANSWERS = {200, 400, 404, 413, 422}
"""What the servers answer to them; see the server's own test, which sends 10,000."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "v1"
    train(folder, version="v1", rows=2000, seed=7)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--mirror-body-bytes", "300")], ids=["held", "long ones sent on while they arrive"])
async def test_hostile_bodies_are_answered_as_the_servers_answer_them(
    rig: Start, model: Path, options: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    settings = ServerSettings(client_rate=0, model_control=True)
    router = await rig(stable=50, candidate=50, mirrorPercent=100, limit=10, fallback="None", options=options)
    async with running(model, settings=settings) as one, running(model, settings=settings) as other:
        router.api.put_pods("fraud-stable", ("127.0.0.1", one.port))
        router.api.put_pods("fraud-candidate", ("127.0.0.1", other.port))
        await eventually(partial(_served, router))
        started = await router.sample("kanarya_comparisons_total") or 0
        seen = await _round(router, list(bodies(SEEDED, SEED)))
        assert set(seen) <= ANSWERS, seen
        assert sum(seen.values()) == SEEDED
        assert all(seen[status] > 10 for status in (200, 400, 422)), seen
        await eventually(partial(_compared, router, started + SEEDED), seconds=30)
        assert await router.attempts(outcome="server_error") == await router.attempts(outcome="timeout") == 0
        assert await router.attempts(outcome="unreachable") == 0
        assert await router.comparisons("mismatch") == 0, "one model behind both tracks"
        assert (await router.comparisons("refused") or 0) > 10
        assert one.app.counts.errors["inference"] == other.app.counts.errors["inference"] == 0
    assert not [record.getMessage() for record in caplog.records]


async def _round(router: Rig, todo: list[tuple[str, bytes]]) -> Counter[int]:
    """Send all of them, some at a time, every third in pieces of unknown length; gives how often each status came."""
    assert len(corpus()) * len(PATHS) < len(todo)
    seen: Counter[int] = Counter()
    cases = iter(list(enumerate(todo)))

    async def client() -> None:
        for number, (path, body) in cases:
            data = BytesIO(body) if number % 3 else _pieces(body, Random(number))
            async with router.client.post(f"http://127.0.0.1:{router.port}{path}", data=data) as response:
                answer = await response.read()
                assert response.status < 500, (number, path, body[:300], response.status, answer)
                seen[response.status] += 1

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return seen


async def _pieces(body: bytes, chance: Random) -> AsyncIterator[bytes]:
    start = 0
    while start < len(body):
        end = start + chance.choice((1, 50, 70_000))
        yield body[start:end]
        start = end if chance.random() < 0.9 else len(body)


async def _served(router: Rig) -> bool:
    async with router.client.get(f"http://127.0.0.1:{router.port}/v2/health/ready") as response:
        return response.status == 200


async def _compared(router: Rig, count: float) -> bool:
    return await router.sample("kanarya_comparisons_total") == count
