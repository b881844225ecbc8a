"""The process: kopf as the shell that watches, our queue and reconciler inside it.

kopf is used for what it is best at: connections, watches, their renewal. It calls `on.event`, which puts a key on our queue, and
nothing else of it is used: no change handlers, no daemons, no patching (docs/decisions/0001).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import kopf
from aiohttp import web

from kanarya.cluster import names
from kanarya.cluster.kubernetes import KubernetesApi
from kanarya.cluster.port import HTTPROUTES, ROLLOUTS, ApiError, KubeApi
from kanarya.controller.config import OperatorConfig
from kanarya.controller.memory import Memory
from kanarya.controller.metrics import Metrics
from kanarya.controller.queue import Key, Queue
from kanarya.controller.reconcile import Reconciler
from kanarya.controller.web import application
from kanarya.telemetry.collector import Collector
from kanarya.telemetry.source import PrometheusSource

log = logging.getLogger(__name__)
RESYNC_SECONDS = 120.0
STALE_SECONDS = 4 * RESYNC_SECONDS


@dataclass(frozen=True)
class Options:
    """How the operator is started."""

    config: OperatorConfig
    version: str
    namespaces: Sequence[str] = ()
    """Namespaces to work in; all when empty."""
    port: int = 8080
    kubeconfig: Path | None = None
    context: str | None = None


class Targets:
    """Which rollouts an object matters to."""

    def __init__(self) -> None:
        self._rollouts: dict[Key, str] = {}

    def remember(self, key: Key, spec: Any) -> None:
        """Note the target of a rollout, whose spec nobody has checked."""
        reference = spec.get("targetRef") if isinstance(spec, Mapping) else None
        self._rollouts[key] = str(reference.get("name", "")) if isinstance(reference, Mapping) else ""

    def forget(self, key: Key) -> None:
        """Drop a rollout."""
        self._rollouts.pop(key, None)

    def of(self, namespace: str, name: str) -> list[Key]:
        """Give the rollouts whose target has this name, or an object of theirs: somebody may have taken our label off."""
        return [key for key, target in self._rollouts.items() if key[0] == namespace and (name == target or names.is_of(key[1], name))]


def wake_on_events(registry: kopf.OperatorRegistry, queue: Queue, targets: Targets) -> None:
    """Register the handlers: every event becomes a key on the queue."""

    @kopf.on.event("kanarya.dev", "v1alpha1", "mlmodelrollouts", registry=registry)
    async def rollout(body: kopf.Body, event: Mapping[str, Any], **_: Any) -> None:
        key = (str(body.metadata.namespace), str(body.metadata.name))
        if event.get("type") == "DELETED":
            targets.forget(key)
        else:
            targets.remember(key, body.spec)
        queue.add(key)

    # Clients lose their answers when a track's Service selects something else.
    @kopf.on.event("apps", "v1", "deployments", registry=registry)
    @kopf.on.event("", "v1", "services", registry=registry)
    @kopf.on.event("gateway.networking.k8s.io", "v1", "httproutes", registry=registry)
    async def written(body: kopf.Body, **_: Any) -> None:
        namespace, owner = str(body.metadata.namespace), body.metadata.labels.get(names.ROLLOUT)
        labelled = [(namespace, owner)] if owner else []
        for key in dict.fromkeys([*labelled, *targets.of(namespace, str(body.metadata.name))]):
            queue.add(key)


def settings() -> kopf.OperatorSettings:
    """Give kopf's settings: no Events or patches of its own, watches that end and begin again, no listing of CRDs and namespaces."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.watching.server_timeout = 300
    chosen.watching.client_timeout = 310
    chosen.watching.connect_timeout = 30
    return chosen


def log_in(registry: kopf.OperatorRegistry, options: Options) -> None:
    """Register how kopf finds the API server: in a pod by its service account, else by kubeconfig."""

    @kopf.on.login(registry=registry)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        if options.kubeconfig is not None:
            os.environ["KUBECONFIG"] = str(options.kubeconfig)
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


async def resync(
    api: KubeApi, options: Options, queue: Queue, targets: Targets, done: list[float], *, random: Random | None = None
) -> None:
    """Put every rollout, and every route whose rollout is gone, on the queue now and then: an event may be lost."""
    random = random or SystemRandom()
    while True:
        pause = RESYNC_SECONDS * random.uniform(0.8, 1.2)
        try:
            for namespace in options.namespaces or (None,):
                for body in await api.list(ROLLOUTS, namespace):
                    key = (body["metadata"]["namespace"], body["metadata"]["name"])
                    targets.remember(key, body.get("spec", {}))
                    queue.add(key)
                for body in await api.list(HTTPROUTES, namespace, label_exists=names.ROLLOUT):
                    queue.add((body["metadata"]["namespace"], body["metadata"]["labels"][names.ROLLOUT]))
            done[:] = [time.monotonic()]
        except ApiError as error:
            log.warning("cannot list rollouts, next try in 5 s: %s", error)
            pause = 5.0
        await asyncio.sleep(pause)


def has_run(memory: Callable[[Key], Memory | None]) -> Callable[[Key], bool]:
    """Give what tells whether a rollout has a run, as far as this process knows."""

    def known(key: Key) -> bool:
        found = memory(key)
        return found is not None and found.state is not None and found.state.run is not None

    return known


def fault_points() -> Any:
    """Give what runs at the executor's named points: nothing, or for tests an abrupt end at the point named in the environment."""
    wanted = os.environ.get("KANARYA_CRASH_AT", "")

    async def at(point: str) -> None:
        if wanted and point == wanted:
            log.error("stopping at fault point %s, as KANARYA_CRASH_AT asks", point)
            os.kill(os.getpid(), signal.SIGKILL)

    return at


async def run(options: Options) -> int:
    """Run the operator until it is told to stop; returns the exit code."""
    # An answer of Prometheus is some hundred thousand small objects that live for a second. To look for cycles among them as often as
    # Python does by default takes as long as to read the answer.
    gc.set_threshold(50_000, 20, 20)
    api = await KubernetesApi.connect(kubeconfig=options.kubeconfig, context=options.context)
    metrics = Metrics()
    sources = {name: PrometheusSource(config, name=name) for name, config in options.config.sources.items()}
    allowed = options.config.allow_custom_queries
    telemetry = {name: Collector(source, time.time, custom_queries=allowed) for name, source in sources.items()}
    reconciler = Reconciler(
        api,
        telemetry,
        clock=time.time,
        steady=time.monotonic,
        metrics=metrics,
        version=options.version,
        instance=f"{socket.gethostname()}/{os.getpid()}",
        at=fault_points(),
        custom_queries=allowed,
    )
    queue, targets, synced = Queue(reconciler.reconcile, SystemRandom(), urgent=has_run(reconciler.memory)), Targets(), [0.0]
    metrics.queue.set_function(queue.overdue)
    registry = kopf.OperatorRegistry()
    wake_on_events(registry, queue, targets)
    log_in(registry, options)
    stop = asyncio.Event()
    runner = await _serve(options, metrics, reconciler, synced)
    tasks = [
        asyncio.create_task(_kopf(registry, options, stop), name="kopf"),
        asyncio.create_task(resync(api, options, queue, targets, synced), name="resync"),
    ]
    try:
        finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in finished if not task.cancelled() and task.exception() is not None]
        for task in failed:
            log.error("%s ended: %s", task.get_name(), task.exception())
        return 1 if failed else 0
    finally:
        stop.set()
        await queue.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await runner.cleanup()
        await api.close()
        for source in sources.values():
            await source.close()


async def _kopf(registry: kopf.OperatorRegistry, options: Options, stop: asyncio.Event) -> None:
    # kopf asks for its user's name, which an image without a password file does not know.
    os.environ.setdefault("USER", "kanarya")
    await kopf.operator(
        registry=registry,
        settings=settings(),
        standalone=True,
        clusterwide=not options.namespaces,
        namespaces=list(options.namespaces),
        stop_flag=stop,
    )


async def _serve(options: Options, metrics: Metrics, reconciler: Reconciler, synced: list[float]) -> web.AppRunner:
    began = time.monotonic()

    def live() -> str | None:
        quiet = time.monotonic() - max(synced[0], began)
        return None if quiet < STALE_SECONDS else f"no rollout could be listed for {quiet:.0f} s"

    def ready() -> str | None:
        return None if synced[0] else "the rollouts have not been listed yet"

    runner = web.AppRunner(application(metrics, live, ready, reconciler.memory), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=options.port).start()
    return runner


def configure_logging() -> None:
    """Log to standard error, one line a record."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S"
    )
    for chatty in ("kopf.objects", "kopf._core", "httpx", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
