"""A real Prometheus on loopback, and exporters for it to scrape."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.unit.telemetry.fakes import Pod

SCRAPE_SECONDS = 1


class MissingProgramError(Exception):
    """There is no Prometheus to test against."""


def find_prometheus() -> Path:
    """Look on PATH, then where `tests/cluster` keeps the one it builds."""
    found = shutil.which("prometheus")
    if found:
        return Path(found)
    cache = Path(os.environ.get("KANARYA_CACHE") or Path.home() / ".cache" / "kanarya")
    kept = sorted(path for path in (cache / "prometheus").rglob("prometheus") if path.is_file() and os.access(path, os.X_OK))
    if not kept:
        raise MissingProgramError(
            f"This test needs the program `prometheus` on PATH or under {cache / 'prometheus'}; Debian's package has it."
        )
    return kept[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Exporter:
    """Serves what a pod exposes, in the text format."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.port = 0
        self._scrapes = 0
        self._scraped = asyncio.Condition()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Exporter]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            # Without a type nothing is a histogram, which matters to a Prometheus that keeps native ones.
            lines = ["# TYPE kanarya_request_duration_seconds histogram"]
            lines += [
                f"{name}{{{','.join(f'{key}={json.dumps(label)}' for key, label in labels.items())}}} {value!r}"
                for name, labels, value in self.pod.expose()
            ]
            body = ("\n".join(lines) + "\n").encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
            async with self._scraped:
                self._scrapes += 1
                self._scraped.notify_all()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def scraped(self, times: int = 2) -> None:
        """Wait until everything up to now has been scraped."""
        goal = self._scrapes + times
        async with asyncio.timeout(20), self._scraped:
            await self._scraped.wait_for(lambda: self._scrapes >= goal)


class Prometheus:
    """One server with its own folder; it may be stopped and started again."""

    def __init__(self, program: Path, folder: Path, **scraping: object) -> None:
        self._program = program
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self.url = f"http://127.0.0.1:{free_port()}"
        self._targets = folder / "targets.json"
        config: dict[str, object] = {
            "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "scrape_timeout": f"{SCRAPE_SECONDS}s"},
            "scrape_configs": [{"job_name": "pods", "file_sd_configs": [{"files": [str(self._targets)]}], **scraping}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML

    def scrape(self, *exporters: Exporter) -> None:
        """Make these the targets."""
        targets = [
            {"targets": [f"127.0.0.1:{one.port}"], "labels": {"namespace": one.pod.namespace, "pod": one.pod.name}} for one in exporters
        ]
        draft = self._targets.with_suffix(".new")
        draft.write_text(json.dumps(targets))
        draft.replace(self._targets)

    async def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(self._program),
                f"--config.file={self._folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(20), httpx.AsyncClient(trust_env=False) as client:
            while True:
                try:
                    if (await client.get(f"{self.url}/-/ready")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                if self._process.returncode is not None:
                    raise RuntimeError((self._folder / "log").read_text()[-2000:])
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), 10)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
