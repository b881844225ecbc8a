"""The process `kanarya-ml router`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import prometheus_client
import uvloop

from kanarya.cluster.kubernetes import KubernetesApi
from kanarya.cluster.port import ApiError, KubeApi
from kanarya.cluster.watching import WatchTiming
from kanarya_inference.logs import configure_logging
from kanarya_inference.router.compare_only import CompareOnly
from kanarya_inference.router.control import Control
from kanarya_inference.router.intake import BODY_LIMIT, COPIED_LIMIT, STREAM_SECONDS, Intake
from kanarya_inference.router.metrics import RouterMetrics
from kanarya_inference.router.mirror import Mirror
from kanarya_inference.router.mismatches import Mismatches
from kanarya_inference.router.operations import Operations, Readiness
from kanarya_inference.router.pairs import Pairs
from kanarya_inference.router.plan import Plan
from kanarya_inference.router.proxy import Proxy
from kanarya_inference.router.shadow import Shadow, in_front_of
from kanarya_inference.router.side_by_side import SideBySide
from kanarya_inference.router.status import StatusReporter
from kanarya_inference.router.upstream import Upstream
from kanarya_inference.router.watching import Watching
from kanarya_inference.router.windows import Clock
from kanarya_inference.serving import AsgiApp, Drain, Listener, serve

WATCH_TIMING = WatchTiming(longest_backoff_seconds=3.0)
"""Once the API server is back after an outage, a weight may have been lowered already."""

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the router's options."""
    parser.add_argument("--namespace", required=True, help="namespace of the rollout")
    parser.add_argument("--rollout", required=True, help="name of the MLModelRollout, and of its HTTPRoute")
    parser.add_argument("--port", type=int, default=8080, help="port for clients (default 8080)")
    parser.add_argument("--metrics-port", type=int, default=9090, help="port for /metrics, /readyz and /livez (default 9090)")
    parser.add_argument("--request-timeout-seconds", type=float, default=15.0, help="longest wait for a pod's answer (default 15)")
    parser.add_argument("--drain-seconds", type=float, default=5.0, help="how long requests are taken after SIGTERM (default 5)")
    parser.add_argument("--max-body-bytes", type=_positive, default=BODY_LIMIT, help=f"longest body of a request (default {BODY_LIMIT})")
    parser.add_argument(
        "--mirror-body-bytes",
        type=_positive,
        default=COPIED_LIMIT,
        help=f"longest body that is held whole to be mirrored (default {COPIED_LIMIT}); longer ones are sent on while they arrive",
    )
    parser.add_argument(
        "--stream-seconds",
        type=float,
        default=STREAM_SECONDS,
        help=f"longest time of a body or answer that is passed on while it arrives (default {STREAM_SECONDS:g})",
    )
    parser.add_argument("--compare-only", action="store_true", help="take copies from a gateway and compare both tracks, never answer live")
    parser.add_argument("--show-inputs", action="store_true", help="keep inputs in /shadow/mismatches; without it they are redacted")
    parser.add_argument("--shadow-for-clients", action="store_true", help="answer /predict-with-shadow and /shadow/* on --port too")
    parser.add_argument("--kubeconfig", type=Path, default=None, help="path of a kubeconfig; without it the pod's service account")


def _positive(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def main(args: argparse.Namespace) -> int:
    """Run the router until SIGTERM; returns the exit code: 1 when no cluster is configured or a port cannot be bound."""
    configure_logging()
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # nobody reads these series
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(run(args))
        except (ApiError, OSError) as error:
            logger.error("the router cannot run: %s", error)  # noqa: TRY400 -- a traceback adds nothing to it
            return 1
    return 0


async def run(args: argparse.Namespace) -> None:
    """Serve until SIGTERM, following the cluster that is configured. Nothing waits for the API server to answer."""
    await serve_router(args, await KubernetesApi.connect(kubeconfig=args.kubeconfig, watch_timing=WATCH_TIMING))


async def serve_router(
    args: argparse.Namespace,
    api: KubeApi,
    *,
    random: Random | None = None,
    clock: Clock = time.monotonic,
    drain: Drain | None = None,
    on_started: Callable[[list[int]], None] | None = None,
) -> None:
    """Serve with a given view of the cluster, until SIGTERM or `drain`. `on_started` gets the client's and the metrics port."""
    random = random or Random()  # noqa: S311 -- draws tracks, not secrets
    drain = drain or Drain()
    metrics = RouterMetrics(args.rollout, clock)
    watching = Watching(api, args.namespace, args.rollout, random=random, clock=clock)
    control = Control(args.rollout, watching.pool, metrics, clock, compare_only=args.compare_only)
    reporter = StatusReporter(api, args.namespace, args.rollout, random=random, now=lambda: datetime.now(UTC))
    upstream = Upstream(clock)

    def plan() -> Plan | None:
        return control.plan

    mismatches = Mismatches(inputs=args.show_inputs, clock=clock, now=lambda: datetime.now(UTC))
    pairs = Pairs(random, mismatches)
    mirror = Mirror(upstream, pairs, random, clock)
    intake = Intake(
        seconds=args.request_timeout_seconds,
        body_limit=args.max_body_bytes,
        copied_limit=args.mirror_body_bytes,
        stream_seconds=args.stream_seconds,
        clock=clock,
    )
    proxy = Proxy(
        plan,
        upstream,
        mirror,
        intake,
        random=random,
        clock=clock,
        request_seconds=args.request_timeout_seconds,
        stream_seconds=args.stream_seconds,
    )

    def shadow(*, counted: bool) -> Shadow:
        tried = SideBySide(plan, proxy, mirror, pairs, intake, counted=counted)
        return Shadow(args.rollout, plan, metrics, mismatches, tried)

    operations = Operations(metrics, Readiness(plan, drain), shadow(counted=False))
    clients: AsgiApp = CompareOnly(plan, mirror, intake) if args.compare_only else proxy
    if args.shadow_for_clients:
        clients = in_front_of(clients, shadow(counted=True))
    background = [
        asyncio.create_task(
            watching.run(control, lambda: reporter.report(control.verdict), follow_route=not args.compare_only),
        ),
        asyncio.create_task(reporter.run()),
        asyncio.create_task(_end_streams(proxy, drain, args.drain_seconds + args.request_timeout_seconds)),
    ]
    try:
        await serve(
            [Listener(clients, args.port), Listener(operations, args.metrics_port, last=True)],
            drain=drain,
            drain_seconds=args.drain_seconds,
            finish_seconds=args.request_timeout_seconds + 1,
            on_started=on_started,
        )
    finally:
        for task in background:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*background, return_exceptions=True)
        await mirror.close()
        await upstream.close()
        await api.close()


async def _end_streams(proxy: Proxy, drain: Drain, seconds: float) -> None:
    """Break off what is still passed on so long after the drain began, just before the server would."""
    await drain.wait()
    await asyncio.sleep(seconds)
    proxy.end_streams()
