"""What a prediction costs: `python -m benchmarks.serving` (`make bench-serving`), `--soak MINUTES` (`make soak`).

Servers run on one core, the client on another. CPU is what the kernel charged the server's process, divided by its answers, so it does
not depend on the client nor, much, on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import uvloop

from benchmarks.figures import table
from benchmarks.serving_client import Load, closed_loop, open_loop, request_bytes
from kanarya_inference.features import reference_of, snapshot_schema
from kanarya_inference.registry import read_artefact
from kanarya_inference.server.counts import VersionCounts
from kanarya_inference.training.data import draw
from kanarya_inference.training.train import matrix, train

ROOT = Path(__file__).resolve().parent.parent
RIVALS = ROOT / "build/out/rivals"
PINNED = ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "uvicorn[standard]")
TICKS = os.sysconf("SC_CLK_TCK")
ROW = [1760000000.5, 101.25, 3.2, 11.0, 48.5, 1.0]
INFER = "/v2/models/model/infer"
TENSOR = {"name": "features", "datatype": "FP32", "shape": [1, 6], "data": ROW}
SNAPSHOT = {"ts": 1760000000.5, "mid": 101.25, "spreadBp": 3.2, "vol1m": 11, "rsi14": 48.5}
INFER_REQUEST = request_bytes(INFER, json.dumps({"inputs": [TENSOR]}).encode())
PREDICT_REQUEST = request_bytes("/ml/predict", json.dumps({"snapshot": SNAPSHOT}).encode())
CONNECTIONS = 8


@dataclass
class Server:
    """One measured server."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    request: bytes = INFER_REQUEST

    def cpu(self) -> float:
        """Return the processor seconds it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident(self) -> float:
        """Return the MiB it holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1]) / 1024


def main() -> int:
    """Measure, print tables; 1 when a request failed or memory grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--steady-seconds", type=float, default=60.0, help="of the run at 500 req/s (default: %(default)s)")
    parser.add_argument("--without-rivals", action="store_true", help="install nothing: our server and the floor alone")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="instead: 100 req/s for so long, watching memory")
    args = parser.parse_args()
    with TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        work = Path(folder)
        train(work / "model", version="v1", rows=8000)
        if args.soak is not None:
            return soak(start_ours(stack, work / "model"), args.soak * 60)
        servers = start_all(stack, work, rivals=not args.without_rivals)
        return measure(servers, args, work / "model")


def measure(servers: Sequence[Server], args: argparse.Namespace, model: Path) -> int:
    """Measure every server in turn, several times."""
    cost: dict[str, list[float]] = {server.name: [] for server in servers}
    errors = dict.fromkeys(cost, 0)
    for _ in range(args.repeats):
        for server in servers:
            run(lambda s=server: closed_loop(s.port, s.request, connections=CONNECTIONS, seconds=0.5))  # type: ignore[misc]
            before = server.cpu()
            load = run(lambda s=server: closed_loop(s.port, s.request, connections=CONNECTIONS, seconds=args.seconds))  # type: ignore[misc]
            cost[server.name].append((server.cpu() - before) / max(1, load.answered) * 1e6)
            errors[server.name] += load.errors
    medians = {name: median(values) for name, values in cost.items()}
    floor = medians["floor"]
    rows = [
        (name, f"{medians[name]:.0f}", " ".join(f"{value:.0f}" for value in values), f"{medians[name] / floor:.2f}")
        for name, values in cost.items()
    ]
    say(table(("server", "CPU per request, us (median)", "each run", "times the floor"), rows))
    counting = counting_cost(model)
    say(f"\nmetrics and drift counting: {counting:.2f} us, {counting / medians['kanarya']:.1%} of a request's CPU")
    if "MLServer" in medians:
        say(f"of MLServer's CPU: {medians['kanarya'] / medians['MLServer']:.1%}")
    say(f"load average: {os.getloadavg()[0]:.1f}\n")
    ours_and_floor = [server for server in servers if server.name in ("kanarya", "floor")]
    return int(errors["kanarya"] + steady(ours_and_floor, args.steady_seconds) > 0)


def counting_cost(folder: Path, requests: int = 50_000) -> float:
    """Return the microseconds of CPU that counting one request takes; the least of five runs, for others only add to it.

    Between two processes the difference is smaller than what one process differs from itself.
    """
    counts = VersionCounts()
    counts.use(read_artefact(folder))
    rows, scores = [[3] * len(counts.bins)], [0.523]
    runs = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(requests):
            counts.features(rows)
            counts.score(scores)
            counts.request("ok", 0.2)
        runs.append((time.process_time() - began) / requests * 1e6)
    return min(runs)


def steady(servers: Sequence[Server], seconds: float) -> int:
    """Send 500 requests a second to each; returns the errors of ours, the first."""
    rows = []
    errors = []
    for server in servers:
        load = run(lambda s=server: open_loop(s.port, s.request, rate=500, seconds=seconds))  # type: ignore[misc]
        errors.append(load.errors)
        quantiles = (f"{load.quantile(share):.2f}" for share in (0.5, 0.95, 0.99))
        rows.append((server.name, load.answered, load.errors, *quantiles, f"{os.getloadavg()[0]:.1f}"))
    say(table(("500 req/s", "answered", "errors", "p50 ms", "p95 ms", "p99 ms", "load"), rows))
    return errors[0]


def soak(server: Server, seconds: float) -> int:
    """Send 100 requests a second and watch the memory; 1 when it grew by over 10 % after the first tenth, or a request failed."""
    readings: list[float] = []

    async def watched() -> Load:
        sending = asyncio.create_task(open_loop(server.port, server.request, rate=100, seconds=seconds))
        while not sending.done():
            await asyncio.wait({sending}, timeout=max(0.5, seconds / 200))
            readings.append(server.resident())
        return await sending

    load = run(watched)
    settled = readings[len(readings) // 10]
    say(f"{load.answered} answered, {load.errors} errors; resident MiB: {readings[0]:.1f} at first, {settled:.1f} after a tenth,")
    say(f"{max(readings):.1f} at most, {readings[-1]:.1f} at the end; load average {os.getloadavg()[0]:.1f}")
    return int(load.errors > 0 or readings[-1] > 1.1 * settled)


def start_all(stack: contextlib.ExitStack, work: Path, *, rivals: bool) -> list[Server]:
    """Start every server on the first core."""
    model = work / "model"
    ours = start_ours(stack, model)
    servers = [
        ours,
        Server("kanarya, /ml/predict", ours.process, ours.port, PREDICT_REQUEST),
        *(
            start(stack, name, [sys.executable, "-m", "benchmarks.serving_apps", kind, str(model)], "/")
            for kind, name in (("bare", "kanarya, nothing counted"), ("floor", "floor"), ("echo", "echo"))
        ),
    ]
    if rivals:
        servers += start_rivals(stack, work)
    return servers


def start_ours(stack: contextlib.ExitStack, model: Path) -> Server:
    """Start our server as users do."""
    command = [sys.executable, "-m", "kanarya_inference.cli", "serve", "--model", str(model), "--client-rate", "0"]
    return start(stack, "kanarya", [*command, "--listen-host", "127.0.0.1", "--drain-seconds", "0", "--port"], "/ml/health")


def start_rivals(stack: contextlib.ExitStack, work: Path) -> list[Server]:
    """Install the rivals apart from this project's environment, fit the same model there, and start them."""
    python = RIVALS / "bin/python"
    if not (RIVALS / "installed").exists():
        shutil.rmtree(RIVALS, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(RIVALS)], check=True, timeout=120)  # noqa: S603 -- our own arguments
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PINNED], check=True, timeout=1200)  # noqa: S603
        (RIVALS / "installed").touch()
    write_table(work / "table.npz")
    fit = ROOT / "benchmarks/rivals/fit.py"
    subprocess.run([str(python), str(fit), str(work / "table.npz"), str(work / "model.joblib")], check=True, timeout=120)  # noqa: S603
    fastapi = [str(python), "-m", "uvicorn", "--app-dir", str(fit.parent), "fastapi_app:app", "--no-access-log", "--port"]
    plain = start(stack, "FastAPI + scikit-learn", fastapi, "/docs", RIVAL_MODEL=str(work / "model.joblib"))
    folder, port = work / "mlserver", free_port()
    folder.mkdir()
    settings = {
        "debug": False,
        "parallel_workers": 0,
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    described = {
        "name": "model",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(work / "model.joblib"), "version": "v1"},
    }
    (folder / "model-settings.json").write_text(json.dumps(described))
    mlserver = start(stack, "MLServer", [str(RIVALS / "bin/mlserver"), "start", str(folder)], "/v2/health/ready", port=port)
    return [mlserver, plain]


def write_table(path: Path) -> None:
    """Write the rows that `kanarya-ml train` fits."""
    schema = snapshot_schema()
    data, labels, _ = np.random.default_rng(7).spawn(3)
    values, probability = draw(data, 8000)
    drawn = (labels.random(8000) < probability).astype(np.int64)
    used = [index for index, column in enumerate(schema.columns) if column.drift]
    np.savez(path, rows=matrix(schema, reference_of(schema, values), values, data), labels=drawn, used=used)


def start(
    stack: contextlib.ExitStack, name: str, command: Sequence[str], ready: str, *, port: int | None = None, **environment: str
) -> Server:
    """Start a process on the first core, wait until it answers, and end it with the stack. Without `port` one is appended."""
    chosen = port or free_port()
    whole = [*command] if port else [*command, str(chosen)]
    variables: Mapping[str, str] = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    process = subprocess.Popen(whole, env=variables, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    os.sched_setaffinity(process.pid, {0})
    stack.callback(stop, process)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{name} ended with {process.returncode}: {' '.join(whole)}")
        with contextlib.suppress(OSError):
            if ready == "/":
                socket.create_connection(("127.0.0.1", chosen), timeout=2).close()
            else:
                urllib.request.urlopen(f"http://127.0.0.1:{chosen}{ready}", timeout=5).close()
            return Server(name, process, chosen)
        time.sleep(0.1)
    raise SystemExit(f"{name} was not ready within 120 s")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


def run(work: Callable[[], Awaitable[Load]]) -> Load:
    """Run a load on the second core."""
    with other_core(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def awaited() -> Load:
            return await work()

        return runner.run(awaited())


@contextlib.contextmanager
def other_core() -> Iterator[None]:
    """Keep this process off the servers' core, where there is another."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores - {0} or cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
