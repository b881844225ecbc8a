"""A real inference server on loopback, and what tests read from it."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from kanarya_inference.server.app import InferenceApp
from kanarya_inference.server.faults import Faults
from kanarya_inference.server.feature_log import FeatureLog
from kanarya_inference.server.settings import ServerSettings
from kanarya_inference.serving import Drain, Listener, serve
from tests.unit.telemetry.fakes import Pod

SNAPSHOT: dict[str, Any] = {"ts": 1_760_000_000.5, "mid": 101.25, "spreadBp": 3.2, "vol1m": 11, "rsi14": 48.5}
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass
class Scraped(Pod):
    """A pod that exposes what a real server did."""

    series: Series = field(default_factory=dict)

    def expose(self) -> Iterator[tuple[str, dict[str, str], float]]:
        for (name, labels), value in self.series.items():
            yield name, dict(labels), value


@dataclass
class Running:
    url: str
    port: int
    app: InferenceApp
    drain: Drain
    client: aiohttp.ClientSession

    async def predict(self, body: Any = None, *, raw: bytes | None = None) -> tuple[int, dict[str, Any], Any]:
        data = {"json": {"snapshot": SNAPSHOT} if body is None else body} if raw is None else {"data": io.BytesIO(raw)}
        async with self.client.post(f"{self.url}/ml/predict", **data) as response:
            return response.status, await response.json(), response.headers

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.client.get(self.url + path) as response:
            return response.status, await response.json()

    async def post(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        async with self.client.post(self.url + path, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()}) as response:
            return response.status, await response.json()

    async def series(self) -> Series:
        async with self.client.get(f"{self.url}/ml/metrics") as response:
            assert response.content_type == "text/plain"
            text = await response.text()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def pick(series: Series, name: str, **labels: str) -> float:
    return series[name, frozenset(labels.items())]


@asynccontextmanager
async def running(
    folder: Path,
    *,
    settings: ServerSettings | None = None,
    faults: Faults | None = None,
    fault_control: bool = False,
    feature_log: FeatureLog | None = None,
    load: bool = True,
    latency_bounds: Sequence[float] = (),
) -> AsyncIterator[Running]:
    drain = Drain()
    app = InferenceApp(
        folder,
        settings or ServerSettings(client_rate=0),
        faults=faults,
        fault_control=fault_control,
        feature_log=feature_log,
        latency_bounds=latency_bounds,
        draining=lambda: drain.draining,
    )
    ports: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve([Listener(app, 0, "127.0.0.1")], drain=drain, drain_seconds=0.1, finish_seconds=1, on_started=ports.set_result)
    )
    [port] = await asyncio.wait_for(ports, 5)
    if load:
        app.load()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as client:
        try:
            yield Running(f"http://127.0.0.1:{port}", port, app, drain, client)
        finally:
            await client.close()
            drain.begin()
            await asyncio.wait_for(serving, 5)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
