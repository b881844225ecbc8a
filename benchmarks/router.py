"""What a request costs in ml-router, beside Envoy with the same split and mirror: `python -m benchmarks.router --envoy PATH`.

Each proxy is one process on one thread, between one load generator and one pod that stands for both tracks. At a fixed rate, requests
go 95 to 5 to the tracks, and every request is copied: by ml-router to the other track, its answers compared; by Envoy to the candidate,
its answers thrown away. Each round measures every proxy, and the pod without one, one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from statistics import median
from typing import Any, cast

import httptools
import uvloop
import yaml

from benchmarks.figures import table
from kanarya.cluster.port import CONFIGMAPS, ENDPOINTSLICES, HTTPROUTES, KubeApi, Object, Resource, WatchEvent
from kanarya_inference.router.main import add_arguments, serve_router

BODY = b'{"snapshot": {"ts": 1760000000, "mid": 101.2, "spreadBp": 3.2, "vol1m": 11, "rsi14": 55.0}}'
REQUEST = (
    b"POST /ml/predict HTTP/1.1\r\nHost: fraud\r\nContent-Type: application/json\r\nUser-Agent: bench\r\nAccept: */*\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
PREDICTION = b'{"score":0.52,"label":1,"model_version":"v1.8.0","latency_ms":0.2}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(PREDICTION), PREDICTION)
CANDIDATE_PERCENT = 5
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


# -- the pod --------------------------------------------------------------------------------------------------------------


class Pod(asyncio.Protocol):
    """A model server that does nothing but answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to parse."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Answer."""
        self._transport.write(ANSWER)


async def run_pod(port: int) -> None:
    """Serve until ended."""
    server = await asyncio.get_running_loop().create_server(Pod, "127.0.0.1", port)
    await server.serve_forever()


# -- ml-router ------------------------------------------------------------------------------------------------------------


class OneState:
    """An API server that has a route, settings and endpoints, and never changes."""

    def __init__(self, objects: dict[Resource, list[Object]]) -> None:
        self._objects = objects

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,  # noqa: ARG002 -- the port's
        *,
        labels: Any = None,
        name: str | None = None,
    ) -> AsyncIterator[WatchEvent]:
        """Give what there is, and wait."""
        for body in self._objects[resource]:
            known = body["metadata"].get("labels") or {}
            if name in (None, body["metadata"]["name"]) and all(known.get(key) == value for key, value in (labels or {}).items()):
                yield WatchEvent("ADDED", body)
        yield WatchEvent("SYNCED", {})
        await asyncio.Event().wait()

    async def merge_patch(self, resource: Resource, namespace: str, name: str, patch: Object, *, subresource: str | None = None) -> Object:  # noqa: ARG002 -- the port's
        """Take the status."""
        return patch

    async def close(self) -> None:
        """Nothing is open."""


def objects(pod_port: int) -> dict[Resource, list[Object]]:
    """Give a run at 5 % with every request copied."""
    services = {"stable": "fraud-stable", "candidate": "fraud-candidate"}
    settings = {
        "schemaVersion": 1,
        "rollout": "fraud",
        "routeGeneration": 1,
        "tracks": {track: {"service": service, "revision": track} for track, service in services.items()},
        "mirrorPercent": 100,
        "mirrorTimeoutMilliseconds": 1000,
        "matchTolerance": 0.05,
        "fallback": "Unavailable",
        "latencyBucketsMilliseconds": [1, 2, 5, 10, 20, 40, 80, 120, 160, 320, 640, 1280, 2560, 5120],
    }
    weights = {"fraud-stable": 100 - CANDIDATE_PERCENT, "fraud-candidate": CANDIDATE_PERCENT}
    backends = [{"group": "", "kind": "Service", "name": name, "port": 80, "weight": weight} for name, weight in weights.items()]
    meta = {"name": "fraud", "namespace": "bench", "generation": 1, "resourceVersion": "1", "labels": {"kanarya.dev/rollout": "fraud"}}
    spec = {"parentRefs": [{"kind": "Service", "name": "fraud"}], "rules": [{"backendRefs": backends}]}
    return {
        HTTPROUTES: [{"metadata": meta, "spec": spec}],
        CONFIGMAPS: [{"metadata": {"name": "fraud-router"}, "data": {"settings.json": json.dumps(settings)}}],
        ENDPOINTSLICES: [
            {
                "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": pod_port}],
                "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
            }
            for service in services.values()
        ],
    }


async def run_router(port: int, pod_port: int) -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(
        ["--namespace", "bench", "--rollout", "fraud", "--port", str(port), "--metrics-port", "0", "--drain-seconds", "0"]
    )
    await serve_router(args, cast("KubeApi", OneState(objects(pod_port))))


# -- Envoy ----------------------------------------------------------------------------------------------------------------


def envoy_config(port: int, pod_port: int) -> dict[str, Any]:
    """Configure the same split and mirror, without an access log."""

    def address(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    def cluster(name: str) -> dict[str, Any]:
        endpoint = {"endpoint": {"address": address(pod_port)}}
        return {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "lb_policy": "LEAST_REQUEST",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        }

    weights = {"stable": 100 - CANDIDATE_PERCENT, "candidate": CANDIDATE_PERCENT}
    route = {
        "weighted_clusters": {"clusters": [{"name": name, "weight": weight} for name, weight in weights.items()]},
        "request_mirror_policies": [{"cluster": "candidate"}],
        "timeout": "15s",
    }
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    listener = {"name": "clients", "address": address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster("stable"), cluster("candidate")]}}


# -- the load -------------------------------------------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """One kept-alive connection with one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        self._transport = cast("asyncio.Transport", transport)
        self._waiting: asyncio.Future[int] | None = None

    def data_received(self, data: bytes) -> None:
        """Parse an answer."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Hand out its status."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(self._parser.get_status_code())

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request under way."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionResetError())

    async def ask(self) -> int:
        """Send a request and wait for its answer."""
        self._parser = httptools.HttpResponseParser(self)
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(REQUEST)
        return await self._waiting


async def load(port: int, rate: float, seconds: float, connections: int) -> tuple[list[float], int]:
    """Send requests at their planned times over so many connections; gives milliseconds from the planned times, and failures."""
    loop = asyncio.get_running_loop()
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait((await loop.create_connection(Connection, "127.0.0.1", port))[1])
    took: list[float] = []
    failed = 0

    async def one(planned: float) -> None:
        nonlocal failed
        connection = await free.get()
        try:
            async with asyncio.timeout(20):
                failed += await connection.ask() != 200
            free.put_nowait(connection)
        except (OSError, TimeoutError):
            failed += 1
            free.put_nowait((await loop.create_connection(Connection, "127.0.0.1", port))[1])
        took.append(1000 * (time.perf_counter() - planned))

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            planned = start + number / rate
            await asyncio.sleep(max(0.0, planned - time.perf_counter()))
            group.create_task(one(planned))
    return took, failed


# -- measuring ------------------------------------------------------------------------------------------------------------


def free_port() -> int:
    """Find a port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])


@contextlib.contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program meanwhile."""
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def cpu_seconds(pid: int) -> float:
    """Give the processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


async def until_served(port: int) -> None:
    """Wait until a request is answered with 200."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError):
                if (await load(port, 1000, 0.001, 1))[1] == 0:
                    return
            await asyncio.sleep(0.1)


async def measure(port: int, pid: int, args: argparse.Namespace) -> dict[str, float]:
    """Warm up, then measure."""
    await until_served(port)
    await load(port, args.rate, 2, args.connections)
    before = cpu_seconds(pid)
    took, failed = await load(port, args.rate, args.seconds, args.connections)
    took.sort()
    return {
        "cpu_us": 1e6 * (cpu_seconds(pid) - before) / len(took),
        "p50": took[len(took) // 2],
        "p95": took[int(len(took) * 0.95)],
        "failed": failed,
    }


def rounds(args: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Measure everything as often as asked for, in turn."""
    found: dict[str, list[dict[str, float]]] = {}
    me = (sys.executable, "-m", "benchmarks.router")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        pod, ours, envoys = free_port(), free_port(), free_port()
        ports = {"pod alone": pod, "ml-router": ours}
        running = {"pod alone": stack.enter_context(process(*me, "--pod", str(pod)))}
        running["ml-router"] = stack.enter_context(process(*me, "--router", str(ours), str(pod)))
        if args.envoy is not None:
            config = Path(folder) / "envoy.yaml"
            config.write_text(yaml.safe_dump(envoy_config(envoys, pod)))
            ports["Envoy"] = envoys
            options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
            running["Envoy"] = stack.enter_context(process(str(args.envoy), "-c", str(config), *options))
        for _ in range(args.repeats):
            for name, port in ports.items():
                found.setdefault(name, []).append(uvloop.run(measure(port, running[name].pid, args)))
                print(name, {key: round(value, 2) for key, value in found[name][-1].items()}, file=sys.stderr)
    return found


def report(found: dict[str, list[dict[str, float]]]) -> str:
    """Write medians, and how far above the pod alone and Envoy they are."""
    medians = {name: {key: median(one[key] for one in runs) for key in runs[0]} for name, runs in found.items()}
    alone = medians["pod alone"]["p95"]
    rows = []
    for name, one in medians.items():
        spread = " / ".join(f"{run['cpu_us']:.0f}" for run in found[name])
        added = "" if name == "pod alone" else f"{one['p95'] - alone:.2f}"
        failed = sum(round(run["failed"]) for run in found[name])
        rows.append((name, f"{one['cpu_us']:.0f}", spread, f"{one['p50']:.2f}", f"{one['p95']:.2f}", added, failed))
    text = table(("", "CPU a request, us", "each round", "p50, ms", "p95, ms", "added p95, ms", "failed"), rows)
    if "Envoy" in medians:
        text += f"\n\nml-router / Envoy, CPU a request: {medians['ml-router']['cpu_us'] / medians['Envoy']['cpu_us']:.1f}"
    return f"{text}\n\nload average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores"


def main() -> int:
    """Measure and print, or be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envoy", type=Path, default=None, help="path of an envoy program; without it only ml-router is measured")
    parser.add_argument("--rate", type=float, default=300, help="requests a second (default 300)")
    parser.add_argument("--seconds", type=float, default=15, help="length of one measurement (default 15)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--connections", type=int, default=32, help="kept-alive connections of the load (default 32)")
    parser.add_argument("--pod", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--router", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.pod is not None:
        uvloop.run(run_pod(args.pod))
    elif args.router is not None:
        uvloop.run(run_router(*args.router))
    else:
        print(report(rounds(args)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
