"""`kanarya-ml serve`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import uvloop

from kanarya_inference.server.app import InferenceApp
from kanarya_inference.server.faults import Faults
from kanarya_inference.server.metrics import rollout_bounds
from kanarya_inference.serving import Drain, Listener, serve

PORT = 4010
DRAIN_SECONDS = 5.0


def add_arguments(parser: argparse.ArgumentParser, env: Mapping[str, str] = os.environ) -> None:
    """Declare the command line; the faults can also be set by environment variables."""
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="folder of the artefact")
    parser.add_argument("--port", type=int, default=PORT, help="default: %(default)s")
    parser.add_argument("--listen-host", metavar="ADDRESS", help="address to listen on (default: every one, IPv4 and IPv6)")
    parser.add_argument(
        "--drain-seconds", type=float, default=DRAIN_SECONDS, metavar="S", help="answers given after SIGTERM (default: %(default)s)"
    )
    parser.add_argument(
        "--router-settings", type=Path, metavar="FILE", help="settings of the rollout's router, for bucket edges at its latency limits"
    )
    # A default that is text goes through `type` like an argument, so that a bad variable is refused like a bad argument.
    faults = parser.add_argument_group("faults, for demonstrations and tests")
    faults.add_argument(
        "--fault-latency-ms",
        type=float,
        default=env.get("KANARYA_FAULT_LATENCY_MS", "0"),
        metavar="MS",
        help="added to every prediction (KANARYA_FAULT_LATENCY_MS)",
    )
    faults.add_argument(
        "--fault-error-rate",
        type=float,
        default=env.get("KANARYA_FAULT_ERROR_RATE", "0"),
        metavar="SHARE",
        help="share of predictions answered with 500 (KANARYA_FAULT_ERROR_RATE)",
    )
    faults.add_argument("--fault-seed", type=int, default=env.get("KANARYA_FAULT_SEED", "0"), help="which ones fail (KANARYA_FAULT_SEED)")
    faults.add_argument("--fault-control", action="store_true", help="let POST /ml/faults switch faults while the server runs")


def main(args: argparse.Namespace) -> int:
    """Serve until SIGTERM; 0 after a drain, 1 when the port cannot be had, 2 for arguments that make no sense."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    try:
        faults = Faults(args.fault_latency_ms, args.fault_error_rate, random.Random(args.fault_seed))  # noqa: S311 -- demo faults
    except ValueError as error:
        sys.stderr.write(f"kanarya-ml serve: {error}\n")
        return 2
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            bounds = rollout_bounds(args.router_settings)
            app = partial(InferenceApp, args.model, faults=faults, fault_control=args.fault_control, latency_bounds=bounds)
            runner.run(run(app, host=args.listen_host, port=args.port, drain_seconds=args.drain_seconds))
    except OSError as error:
        sys.stderr.write(f"kanarya-ml serve: {error}\n")
        return 1
    return 0


async def run(make_app: Callable[..., InferenceApp], *, host: str | None, port: int, drain_seconds: float) -> None:
    """Serve an app, which is made with `draining`. Raises `OSError` when the port cannot be bound.

    The model is loaded beside the open port, so that the health path can say from the first moment what is going on.
    """
    drain = Drain()
    app = make_app(draining=lambda: drain.draining)
    loading: list[asyncio.Future[None]] = []

    def started(_: list[int]) -> None:
        loading.append(asyncio.ensure_future(asyncio.to_thread(app.load)))

    await serve([Listener(app, port, host)], drain=drain, drain_seconds=drain_seconds, on_started=started)
    if loading:
        await asyncio.wait(loading, timeout=10)
