"""`kanarya-ml serve`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import random
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import uvloop

from kanarya_inference.server.app import InferenceApp
from kanarya_inference.server.bounds import rollout_bounds
from kanarya_inference.server.faults import Faults
from kanarya_inference.server.feature_log import FeatureLog, FeatureLogSettings
from kanarya_inference.server.logs import configure
from kanarya_inference.server.replies import Refused
from kanarya_inference.server.settings import Fallback, ServerSettings, parse_fallback
from kanarya_inference.serving import Drain, Listener, on_signal, serve

PORT = 4010
DRAIN_SECONDS = 5.0
DEFAULTS = ServerSettings()
log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser, env: Mapping[str, str] = os.environ) -> None:
    """Declare the command line; the faults can also be set by environment variables."""
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="folder of the artefact")
    add("--port", type=int, default=PORT, help="default: %(default)s")
    add("--listen-host", metavar="ADDRESS", help="address to listen on (default: every one, IPv4 and IPv6)")
    add("--drain-seconds", type=float, default=DRAIN_SECONDS, metavar="S", help="answers given after SIGTERM (default: %(default)s)")
    add("--router-settings", type=Path, metavar="FILE", help="settings of the rollout's router, for bucket edges at its latency limits")
    add("--log-format", choices=("json", "text"), default="json", help="of the log on standard error (default: %(default)s)")
    _add_limits(parser)
    _add_models(parser)
    _add_data(parser)
    _add_faults(parser, env)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("limits").add_argument
    add("--budget-ms", type=float, default=DEFAULTS.budget_milliseconds, metavar="MS", help="0: none (default: %(default)g)")
    add(
        "--fallback", type=_fallback, default=DEFAULTS.fallback, metavar="WHAT",
        help="answer beyond the budget: error, previous, or constant:SCORE (default: %(default)s)",
    )  # fmt: skip
    add("--queue", type=int, default=DEFAULTS.queue, metavar="N", help="predictions in progress at most; 0: any (default: %(default)s)")
    add("--client-rate", type=float, default=DEFAULTS.client_rate, metavar="N", help="req/s of a client; 0: any (default: %(default)g)")
    add("--client-header", metavar="NAME", help="header that names the client, e.g. x-forwarded-for (default: its address does)")
    add("--batch-rows", type=int, default=DEFAULTS.batch_rows, metavar="N", help="rows of a request at most (default: %(default)s)")


def _add_models(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("models").add_argument
    add("--name", default=DEFAULTS.name, help="the model's name in /v2 paths (default: %(default)s)")
    add("--repository", type=Path, metavar="DIR", help="folder with a folder for each other version that may be asked for")
    add("--loaded-models", type=int, default=DEFAULTS.loaded_models, metavar="N", help="in memory at most (default: %(default)s)")
    add("--model-control", action="store_true", help="let clients load, unload and exchange models; SIGHUP always reads DIR again")


def _add_data(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("outcomes and feature log").add_argument
    add("--outcome-ids", type=int, default=DEFAULTS.outcome_ids, metavar="N", help="predictions remembered (default: %(default)s)")
    add("--outcome-seconds", type=float, default=DEFAULTS.outcome_seconds, metavar="S", help="for how long (default: %(default)g)")
    add("--outcome-window", type=int, default=DEFAULTS.outcome_window, metavar="N", help="outcomes in F1 and Brier (default: %(default)s)")
    add("--feature-log", metavar="FILE", help="write scored features there, - for standard output (default: nowhere)")
    add("--feature-log-share", type=float, default=0.01, metavar="SHARE", help="share of predictions in it (default: %(default)s)")
    add("--feature-log-redact", action="append", default=[], metavar="COLUMN", help="never write its values; may be repeated")


def _add_faults(parser: argparse.ArgumentParser, env: Mapping[str, str]) -> None:
    # A default that is text goes through `type` like an argument, so that a bad variable is refused like a bad argument.
    add = parser.add_argument_group("faults, for demonstrations and tests").add_argument
    add(
        "--fault-latency-ms", type=float, default=env.get("KANARYA_FAULT_LATENCY_MS", "0"), metavar="MS",
        help="added to every prediction (KANARYA_FAULT_LATENCY_MS)",
    )  # fmt: skip
    add(
        "--fault-error-rate", type=float, default=env.get("KANARYA_FAULT_ERROR_RATE", "0"), metavar="SHARE",
        help="share of predictions answered with 500 (KANARYA_FAULT_ERROR_RATE)",
    )  # fmt: skip
    add("--fault-seed", type=int, default=env.get("KANARYA_FAULT_SEED", "0"), help="which ones fail (KANARYA_FAULT_SEED)")
    add("--fault-control", action="store_true", help="let POST /ml/faults switch faults while the server runs")


def settings_of(args: argparse.Namespace) -> ServerSettings:
    """Return the settings of a command line. Raises `ValueError` for what makes no sense."""
    return ServerSettings(
        name=args.name,
        repository=args.repository,
        loaded_models=args.loaded_models,
        budget_milliseconds=args.budget_ms,
        fallback=args.fallback,
        queue=args.queue,
        client_rate=args.client_rate,
        client_header=args.client_header,
        batch_rows=args.batch_rows,
        model_control=args.model_control,
        outcome_ids=args.outcome_ids,
        outcome_seconds=args.outcome_seconds,
        outcome_window=args.outcome_window,
    )


def main(args: argparse.Namespace) -> int:
    """Serve until SIGTERM; 0 after a drain, 1 when the port or the log cannot be had, 2 for arguments that make no sense."""
    configure(args.log_format)
    try:
        faults = Faults(args.fault_latency_ms, args.fault_error_rate, random.Random(args.fault_seed))  # noqa: S311 -- demo faults
        settings = settings_of(args)
        log_settings = None
        if args.feature_log is not None:
            log_settings = FeatureLogSettings(args.feature_log, args.feature_log_share, frozenset(args.feature_log_redact))
    except ValueError as error:
        sys.stderr.write(f"kanarya-ml serve: {error}\n")
        return 2
    feature_log = FeatureLog(log_settings) if log_settings is not None else None
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            app = partial(
                InferenceApp,
                args.model,
                settings,
                faults=faults,
                fault_control=args.fault_control,
                feature_log=feature_log,
                latency_bounds=rollout_bounds(args.router_settings),
            )
            runner.run(run(app, host=args.listen_host, port=args.port, drain_seconds=args.drain_seconds))
    except OSError as error:
        sys.stderr.write(f"kanarya-ml serve: {error}\n")
        return 1
    finally:
        if feature_log is not None:
            feature_log.close()
    return 0


async def run(make_app: Callable[..., InferenceApp], *, host: str | None, port: int, drain_seconds: float) -> None:
    """Serve an app, which is made with `draining`. Raises `OSError` when the port cannot be bound.

    The model is loaded beside the open port, so that the health path can say from the first moment what is going on. SIGHUP reads
    it again.
    """
    drain = Drain()
    app = make_app(draining=lambda: drain.draining)
    loading: set[asyncio.Future[None]] = set()

    def begin(work: asyncio.Future[None]) -> None:
        loading.add(work)
        work.add_done_callback(loading.discard)

    def started(_: list[int]) -> None:
        begin(asyncio.ensure_future(_load(app)))
        on_signal(asyncio.get_running_loop(), signal.SIGHUP, lambda: begin(asyncio.ensure_future(_reload(app))))

    await serve([Listener(app, port, host)], drain=drain, drain_seconds=drain_seconds, on_started=started)
    app.plane.close()
    if loading:
        await asyncio.wait(loading, timeout=10)


async def _load(app: InferenceApp) -> None:
    await asyncio.to_thread(app.load)
    # What is there now stays for good: the collector need not look at it again for every few hundred requests.
    gc.collect()
    gc.freeze()


async def _reload(app: InferenceApp) -> None:
    try:
        await app.store.activate(None, by="SIGHUP")
    except Refused as error:
        log.error("the model stays as it is: %s", error)  # noqa: TRY400 -- the sentence says it all


def _fallback(text: str) -> Fallback:
    try:
        return parse_fallback(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
