"""`kanarya-ml load`: a steady open-loop load whose every error counts.

Requests leave at their planned times whatever the answers do. Half of them (by default) open a new connection, the rest use kept-alive
ones; nothing is ever retried, so a server that closes an idle connection under a request shows as an error.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import numpy as np
from aiohttp import web

from kanarya_inference.deadline import Deadline
from kanarya_inference.features import snapshot_schema
from kanarya_inference.load_rows import row_bodies
from kanarya_inference.training.data import draw

MAX_RATE = 2000.0
MAX_IN_FLIGHT = 4000
TIMEOUT_SECONDS = 10.0
KEPT_ERRORS = 50
KEPT_ANSWERS = 20_000
DEFAULT_DURATION_SECONDS = 3600.0
_BATCH = 512
_STEP = math.log(1.01)  # latencies are kept in buckets one per cent wide


@dataclass
class LoadStats:
    """What the clients saw since the last reset. Times are seconds since the epoch, latencies milliseconds.

    Latency runs from the planned moment of sending to the last byte of the answer. `late` is the most by which a request left after that
    moment: when the load itself gets no core, its latencies say more of it than of those who answer.
    """

    clock: Callable[[], float] = time.time
    started_at: float = field(init=False)
    sent: int = field(init=False)
    answered: int = field(init=False)
    error_count: int = field(init=False)
    errors: deque[dict[str, Any]] = field(init=False)
    by_status: Counter[str] = field(init=False)
    by_version: dict[str, dict[str, float]] = field(init=False)
    by_track: Counter[str] = field(init=False)
    answers: deque[tuple[float, str | None, str | None, int, float]] = field(init=False)
    late: float = field(init=False)
    _latencies: Counter[int] = field(init=False)
    _slowest: float = field(init=False)

    def __post_init__(self) -> None:
        """Begin at zero."""
        self.reset()

    def reset(self) -> None:
        """Set every count to zero."""
        self.started_at = self.clock()
        self.sent = self.answered = self.error_count = 0
        self.errors = deque(maxlen=KEPT_ERRORS)
        self.by_status, self.by_track, self._latencies = Counter(), Counter(), Counter()
        self.by_version = {}
        self.answers = deque(maxlen=KEPT_ANSWERS)
        self.late = self._slowest = 0.0

    def error(self, kind: str, message: str) -> None:
        """Count one error."""
        self.error_count += 1
        self.errors.append({"time": self.clock(), "kind": kind, "message": message[:300]})

    def answer(self, status: int, headers: Mapping[str, str], body: bytes, milliseconds: float) -> None:
        """Count one whole answer; any that is no 200 is an error, and so is a 200 that is no prediction."""
        now = self.clock()
        self.answered += 1
        self.by_status[str(status)] += 1
        self._latencies[math.ceil(math.log(max(milliseconds, 0.001)) / _STEP)] += 1
        self._slowest = max(self._slowest, milliseconds)
        version, sentence = _read_answer(body)
        if status != 200:
            self.error(f"status_{status}", sentence or "")
        elif version is None:
            self.error("bad_answer", "a 200 without model_version")
        version = version or headers.get("x-model-version")
        track = headers.get("x-kanarya-track")
        if version is not None:
            seen = self.by_version.setdefault(version, {"count": 0, "first_at": now, "last_at": now})
            seen["count"] += 1
            seen["last_at"] = now
        if track is not None:
            self.by_track[track] += 1
        self.answers.append((now, version, track, status, round(milliseconds, 3)))

    def to_json(self, in_flight: int) -> dict[str, Any]:
        """Return the document of `GET /stats`."""
        return {
            "started_at": self.started_at,
            "now": self.clock(),
            "sent": self.sent,
            "answered": self.answered,
            "in_flight": in_flight,
            "late_ms": round(self.late, 3),
            "error_count": self.error_count,
            "errors": list(self.errors),
            "by_status": dict(self.by_status),
            "by_version": self.by_version,
            "by_track": dict(self.by_track),
            "latency_ms": {**{f"p{q:g}": self._quantile(q / 100) for q in (50, 95, 99, 99.9)}, "max": round(self._slowest, 3)},
        }

    def _quantile(self, quantile: float) -> float | None:
        rank = quantile * self._latencies.total()
        for bucket in sorted(self._latencies):
            rank -= self._latencies[bucket]
            if rank <= 0:
                return round(min(math.exp(bucket * _STEP), self._slowest), 3)
        return None


def _read_answer(body: bytes) -> tuple[str | None, str | None]:
    """Return model version and error sentence of an answer, as far as it has them."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, None
    if not isinstance(document, dict):
        return None, None
    version, sentence = document.get("model_version"), document.get("error")
    return (version if isinstance(version, str) else None), (sentence if isinstance(sentence, str) else None)


def bodies(seed: int, shift: Mapping[str, float], clock: Callable[[], float] = time.time) -> Iterator[bytes]:
    """Yield request bodies without end, from the population that models are trained on, moved by `shift` (see `draw`)."""
    rng = np.random.default_rng(seed)
    fields = {column.name: column.field for column in snapshot_schema().columns if column.drift}
    while True:
        values, _ = draw(rng, _BATCH, shift)
        columns = {fields[name]: [None if math.isnan(value) else value for value in column.tolist()] for name, column in values.items()}
        for index in range(_BATCH):
            snapshot = {"ts": clock(), **{name: column[index] for name, column in columns.items()}}
            yield msgspec.json.encode({"snapshot": snapshot})


class LoadGenerator:
    """Sends `rate` requests a second to `url` until `duration` seconds are over or `stop` is called."""

    def __init__(
        self,
        url: str,
        *,
        rate: float,
        duration: float,
        new_connections: float,
        seed: int,
        shift: Mapping[str, float],
        stats: LoadStats,
        data: Path | None = None,
    ) -> None:
        if not 0 < rate <= MAX_RATE:
            raise ValueError(f"the rate is above 0 and at most {MAX_RATE:g} requests a second")
        if not 0 <= new_connections <= 1:
            raise ValueError("new connections are a share from 0 to 1")
        if not 0 < duration < math.inf:
            raise ValueError("the duration is a positive number of seconds")
        self.stats = stats
        self.in_flight = 0
        self._url, self._rate, self._duration, self._new_connections = url, rate, duration, new_connections
        self._choice = random.Random(seed)  # noqa: S311 -- chooses connections, guards nothing
        self._bodies = bodies(seed, shift) if data is None else row_bodies(data)
        draw(np.random.default_rng(0), 1, shift)  # refuses an unknown feature now, not at the first request
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped.set()

    async def run(self) -> None:
        """Send, then wait for the last answers."""
        loop = asyncio.get_running_loop()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=None)  # each request has a deadline of its own
        fresh = aiohttp.TCPConnector(force_close=True, limit=0)
        # Unlimited, so that a pool never holds a request back; a steady load keeps a few connections in it.
        kept = aiohttp.TCPConnector(limit=0, keepalive_timeout=600)
        headers = {"content-type": "application/json"}
        async with (
            aiohttp.ClientSession(connector=fresh, timeout=timeout, headers=headers) as fresh_session,
            aiohttp.ClientSession(connector=kept, timeout=timeout, headers=headers) as kept_session,
            asyncio.TaskGroup() as tasks,
        ):
            start = loop.time()
            for number in range(math.ceil(self._rate * self._duration)):
                planned = start + number / self._rate
                if (wait := planned - loop.time()) > 0:
                    await self._stopped_within(wait)
                if self._stopped.is_set():
                    break
                session = fresh_session if self._choice.random() < self._new_connections else kept_session
                if self.in_flight >= MAX_IN_FLIGHT:
                    self.stats.error("not_sent", f"{MAX_IN_FLIGHT} requests are waiting for their answers")
                    continue
                self.in_flight += 1
                self.stats.sent += 1
                self.stats.late = max(self.stats.late, (loop.time() - planned) * 1000)
                tasks.create_task(self._send(session, next(self._bodies), planned))

    async def _stopped_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()

    async def _send(self, session: aiohttp.ClientSession, body: bytes, planned: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            # aiohttp repeats idempotent methods on a lost kept-alive connection; POST is not among them.
            async with Deadline(TIMEOUT_SECONDS), session.post(self._url, data=body, allow_redirects=False) as response:
                content = await response.read()
            self.stats.answer(response.status, response.headers, content, (loop.time() - planned) * 1000)
        except TimeoutError:
            self.stats.error("timeout", f"no whole answer within {TIMEOUT_SECONDS:g} seconds")
        except (aiohttp.ClientError, OSError) as error:
            self.stats.error(type(error).__name__, str(error))
        except Exception as error:  # noqa: BLE001 -- anything that kept an answer away is what this program counts
            self.stats.error(f"unexpected {type(error).__name__}", str(error))
        finally:
            self.in_flight -= 1


def control_app(generator: LoadGenerator) -> web.Application:
    """Return the control server: `GET /stats`, `GET /answers?since=`, `POST /reset`."""

    async def stats(_: web.Request) -> web.Response:
        return web.json_response(generator.stats.to_json(generator.in_flight))

    async def answers(request: web.Request) -> web.Response:
        try:
            since = float(request.query.get("since", "0"))
        except ValueError:
            return web.json_response({"error": "since is a time in seconds since the epoch"}, status=422)
        return web.json_response([answer for answer in generator.stats.answers if answer[0] >= since])

    async def reset(_: web.Request) -> web.Response:
        generator.stats.reset()
        return web.json_response(generator.stats.to_json(generator.in_flight))

    app = web.Application()
    app.add_routes([web.get("/stats", stats), web.get("/answers", answers), web.post("/reset", reset)])
    return app


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--url", required=True, help="where to send predictions, for example http://fraud/ml/predict")
    parser.add_argument("--rate", type=float, default=50.0, help=f"requests a second, at most {MAX_RATE:g} (default: %(default)s)")
    parser.add_argument(
        "--duration", type=float, default=DEFAULT_DURATION_SECONDS, metavar="S", help="seconds to send for (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=9000, help="port of /stats, /answers and /reset (default: %(default)s)")
    parser.add_argument("--listen-host", default="0.0.0.0", metavar="ADDRESS", help="address of that port (default: %(default)s)")  # noqa: S104
    parser.add_argument(
        "--new-connections", type=float, default=0.5, metavar="SHARE", help="share of requests on a new connection (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the snapshots (default: %(default)s)")
    parser.add_argument(
        "--shift", type=parse_shift, action="append", default=[], metavar="FEATURE=SD", help="move a feature; may be repeated"
    )

    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="CSV file: each row is a request, its columns the fields (default: generated snapshots)"
    )


def parse_shift(text: str) -> tuple[str, float]:
    """Read `spread_bp=1.5`: the feature and standard deviations to move it by. Raises `ArgumentTypeError`."""
    name, _, value = text.partition("=")
    try:
        shift = float(value)
    except ValueError:
        shift = math.nan
    if not name or not math.isfinite(shift):
        raise argparse.ArgumentTypeError(f"{text!r} is not FEATURE=SD, for example spread_bp=1.5")
    return name, shift


def main(args: argparse.Namespace) -> int:
    """Run the load, then print its statistics; 0 when no request failed, 1 otherwise, 2 for arguments that make no sense."""
    try:
        return asyncio.run(_run(args))
    except ValueError as error:
        sys.stderr.write(f"kanarya-ml load: {error}\n")
        return 2


async def _run(args: argparse.Namespace) -> int:
    generator = LoadGenerator(
        args.url,
        rate=args.rate,
        duration=args.duration,
        new_connections=args.new_connections,
        seed=args.seed,
        shift=dict(args.shift),
        stats=LoadStats(),
        data=args.data,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, generator.stop)
    runner = web.AppRunner(control_app(generator), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, args.listen_host, args.port).start()
        await generator.run()
    finally:
        await runner.cleanup()
    sys.stdout.write(json.dumps(generator.stats.to_json(generator.in_flight), indent=1) + "\n")
    return 1 if generator.stats.error_count else 0
