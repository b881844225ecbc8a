from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kanarya_inference.router.main import add_arguments, serve_router
from kanarya_inference.serving import Drain
from tests.unit.router.cluster import NAMESPACE, ROLLOUT, Pod, StreamingPod, StubApi, standard_objects


@dataclass
class Rig:
    """A router on loopback between a client and two tracks of pods."""

    api: StubApi
    client: aiohttp.ClientSession
    stable: list[Pod]
    candidate: list[Pod]
    port: int = 0
    metrics_port: int = 0
    drain: Drain = field(default_factory=Drain)
    task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/ml/predict"

    async def predict(self, **options: Any) -> tuple[int, str, Any]:
        async with self.client.post(self.url, json={"amount": 1}, **options) as response:
            return response.status, response.headers.get("x-kanarya-track", ""), await response.json()

    async def get(self, path: str) -> tuple[int, str]:
        async with self.client.get(f"http://127.0.0.1:{self.metrics_port}{path}") as response:
            return response.status, await response.text()

    async def sample(self, name: str, **labels: str) -> float | None:
        """Sum of the samples of that name whose labels include `labels`; None when there is no such series."""
        _, text = await self.get("/metrics")
        found = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    async def attempts(self, **labels: str) -> float | None:
        return await self.sample("kanarya_request_duration_seconds_count", **labels)

    async def comparisons(self, outcome: str) -> float | None:
        return await self.sample("kanarya_comparisons_total", outcome=outcome)


async def eventually(condition: Callable[[], Awaitable[Any]], seconds: float = 10.0) -> None:
    """Wait until the condition holds; every wait in these tests is one for something that must happen."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


Start = Callable[..., Awaitable[Rig]]


@pytest.fixture
async def rig() -> AsyncIterator[Start]:
    rigs: list[Rig] = []

    async def start(
        *,
        stable: int = 100,
        candidate: int = 0,
        pods: int = 1,
        ready: bool = True,
        limit: float = 2.0,
        options: tuple[str, ...] = (),
        **settings: Any,
    ) -> Rig:
        api = StubApi()
        made = Rig(api, aiohttp.ClientSession(), [Pod() for _ in range(pods)], [Pod() for _ in range(pods)])
        rigs.append(made)
        for pod in (*made.stable, *made.candidate):
            await pod.start()
        if ready:
            standard_objects(api, stable=stable, candidate=candidate, **settings)
        api.put_pods("fraud-stable", *(pod.address for pod in made.stable))
        api.put_pods("fraud-candidate", *(pod.address for pod in made.candidate))
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        limits = ("--request-timeout-seconds", str(limit), "--drain-seconds", "0")
        args = parser.parse_args(["--namespace", NAMESPACE, "--rollout", ROLLOUT, "--port", "0", "--metrics-port", "0", *limits, *options])
        started = asyncio.Event()

        def on_started(ports: list[int]) -> None:
            made.port, made.metrics_port = ports
            started.set()

        made.task = asyncio.create_task(serve_router(args, api.port, random=Random(7), drain=made.drain, on_started=on_started))
        await asyncio.wait_for(started.wait(), 5)
        if ready:
            await eventually(lambda: _is_ready(made))
        return made

    yield start
    for made in rigs:
        await made.client.close()
        made.drain.begin()
        if made.task is not None:
            await asyncio.wait_for(made.task, 5)
        for pod in (*made.stable, *made.candidate):
            await pod.stop()


async def _is_ready(made: Rig) -> bool:
    return (await made.get("/readyz"))[0] == 200


@pytest.fixture
def pods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the rig's pods be such as read a body piece by piece."""
    monkeypatch.setattr("tests.unit.router.conftest.Pod", StreamingPod)
