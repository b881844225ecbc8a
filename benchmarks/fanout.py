"""Many rollouts that breach at once: how long each verdict takes to become weight 0 on its route.

A real API server and its controllers, the real operator as a process of this machine; kubelet, ml-router and Prometheus are stand-ins,
so that a hundred model services fit on a small machine. They make load, they are not what is measured.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Spread, table
from benchmarks.operator_process import OperatorProcess
from benchmarks.progress import running, say
from benchmarks.prometheus_standin import SCRAPE_SECONDS, PrometheusStandIn
from benchmarks.routes import RouteWeights
from benchmarks.standins import StandIns
from examples import lab
from kanarya.cluster import names
from kanarya.cluster.kubernetes import KubernetesApi
from kanarya.cluster.port import DEPLOYMENTS, ROLLOUTS, SERVICES, Object
from kanarya.cluster.store import read_evidence

TICK_SECONDS = 5
WEIGHT = 25
SETTLE_SECONDS = 10.0
STEADY_SECONDS = 25.0
"""Time at the weight before the breach; the operator's cost at rest is measured in it."""


@dataclass(frozen=True)
class Reaction:
    """One rollout's way to weight 0, in epoch seconds."""

    visible: float
    verdict: float
    zero: float


@dataclass(frozen=True)
class FanOut:
    """What one measurement with `count` rollouts gave."""

    count: int
    reactions: Sequence[Reaction]
    rest_cores: float
    rush_cores: float
    peak_mebibytes: float
    load_average: float

    def as_json(self) -> dict[str, Any]:
        """Give the JSON form, seconds throughout."""
        return {
            "rollouts": self.count,
            "verdictToZero": self._verdict_to_zero().as_json(),
            "visibleToVerdict": self._visible_to_verdict().as_json(),
            "visibleToZero": self._visible_to_zero().as_json(),
            "verdictsWithin": round(self._verdicts_within(), 3),
            "coresAtRest": round(self.rest_cores, 3),
            "coresInTheRush": round(self.rush_cores, 3),
            "peakMebibytes": round(self.peak_mebibytes),
            "loadAverage": self.load_average,
        }

    def row(self) -> tuple[object, ...]:
        """Give the table's row."""
        return (
            self.count,
            self._verdict_to_zero(),
            self._visible_to_verdict(),
            self._visible_to_zero(),
            f"{self._verdicts_within():.1f}",
            f"{self.rest_cores:.2f}",
            f"{self.peak_mebibytes:.0f}",
            f"{self.load_average:.1f}",
        )

    def _verdict_to_zero(self) -> Spread:
        return Spread.of(one.zero - one.verdict for one in self.reactions)

    def _visible_to_verdict(self) -> Spread:
        return Spread.of(one.verdict - one.visible for one in self.reactions)

    def _visible_to_zero(self) -> Spread:
        return Spread.of(one.zero - one.visible for one in self.reactions)

    def _verdicts_within(self) -> float:
        verdicts = [one.verdict for one in self.reactions]
        return max(verdicts) - min(verdicts)


HEADING = (
    "rollouts",
    "verdict → weight 0, s (min / median / max)",
    "visible → verdict, s",
    "visible → weight 0, s",
    "verdicts within, s",
    "operator's cores at rest",
    "its peak MiB",
    "load",
)


def report(results: Sequence[FanOut]) -> str:
    """Write the table."""
    return table(HEADING, (one.row() for one in results))


def measure(counts: Sequence[int]) -> list[FanOut]:
    """Measure with each number of rollouts, with the cluster's own operator out of the way."""
    with no_other_operator():
        return [asyncio.run(_measure(count)) for count in counts]


@contextmanager
def no_other_operator() -> Iterator[None]:
    """Take the operator's pod away while another one works: two would write against each other."""
    if not lab.kubectl("get", "deployment", "kanarya", "-n", lab.OPERATOR_NAMESPACE, "--ignore-not-found", "-o", "name").strip():
        lab.install_operator()
    lab.kubectl("scale", "-n", lab.OPERATOR_NAMESPACE, "deployment/kanarya", "--replicas=0")
    try:
        lab.kubectl("wait", "-n", lab.OPERATOR_NAMESPACE, "--for=delete", "pod", "-l", "app.kubernetes.io/name=kanarya", "--timeout=60s")
        yield
    finally:
        lab.kubectl("scale", "-n", lab.OPERATOR_NAMESPACE, "deployment/kanarya", "--replicas=1")
        lab.kubectl("rollout", "status", "-n", lab.OPERATOR_NAMESPACE, "deployment/kanarya", "--timeout=120s")


async def _measure(count: int) -> FanOut:
    namespace = f"benchmark-{count}"
    api = await KubernetesApi.connect(timeout_seconds=30)
    lab.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    try:
        return await _with_operator(api, namespace, [f"model-{index:03d}" for index in range(count)])
    finally:
        await api.close()
        lab.kubectl("delete", "namespace", namespace, "--timeout=300s", timeout=320)


async def _with_operator(api: KubernetesApi, namespace: str, rollouts: Sequence[str]) -> FanOut:
    prometheus, weights = PrometheusStandIn(namespace), RouteWeights(api, namespace)
    standins = StandIns(api, namespace, lambda pod: _name_revision(prometheus, pod))
    weights.listeners.append(standins.accept)
    address = await prometheus.start()
    with tempfile.TemporaryDirectory() as folder:
        operator = OperatorProcess(Path(folder), namespace, address, SCRAPE_SECONDS)
        try:
            async with running(weights.follow(), standins.keep_pods()):
                result = await _breach_at_once(_Scene(api, namespace, rollouts, prometheus, weights, operator))
        except BaseException:
            say(operator.log.read_text()[-3000:])
            raise
        finally:
            operator.stop()
            await prometheus.stop()
    return result


@dataclass(frozen=True)
class _Scene:
    """What takes part in one measurement."""

    api: KubernetesApi
    namespace: str
    rollouts: Sequence[str]
    prometheus: PrometheusStandIn
    weights: RouteWeights
    operator: OperatorProcess


async def _breach_at_once(scene: _Scene) -> FanOut:
    await _bring_to_weight(scene)
    say(f"all are at weight {WEIGHT}; {STEADY_SECONDS:.0f} s at rest")
    await asyncio.sleep(SETTLE_SECONDS)
    rest = _Cores(scene.operator)
    await asyncio.sleep(STEADY_SECONDS)
    at_rest = rest.used()
    # Scrapes show the breach at a multiple of the interval; half an interval before, so that nothing depends on a millisecond.
    await asyncio.sleep(SCRAPE_SECONDS / 2 - time.time() % SCRAPE_SECONDS + SCRAPE_SECONDS)
    visible = scene.prometheus.breach()
    say("breach")
    await asyncio.sleep(max(visible - time.time(), 0.0))
    rush, before = _Cores(scene.operator), visible - SCRAPE_SECONDS
    await scene.weights.until(lambda: all(scene.weights.first(name, 0, before) for name in scene.rollouts), "all at weight 0", 120)
    in_rush, load, peak = rush.used(), os.getloadavg()[0], scene.operator.peak_mebibytes()
    say("all are at weight 0; waiting for the ends of the runs")
    await _until(scene, lambda status: bool(status.get("history")))
    reactions = [await _reaction(scene, name, visible) for name in scene.rollouts]
    return FanOut(len(reactions), reactions, at_rest, in_rush, peak, round(load, 2))


class _Cores:
    """Processor cores that the operator used since this was made."""

    def __init__(self, operator: OperatorProcess) -> None:
        self._operator = operator
        self._seconds, self._began = operator.cpu_seconds(), time.monotonic()

    def used(self) -> float:
        return (self._operator.cpu_seconds() - self._seconds) / (time.monotonic() - self._began)


async def _bring_to_weight(scene: _Scene) -> None:
    """Install the rollouts, release the candidate, and wait until it has its weight in each."""
    say(f"{len(scene.rollouts)} rollouts: installing")
    for name in scene.rollouts:
        await _install(scene.api, scene.namespace, name)
    await _until(scene, lambda status: bool(status.get("stable")))
    say("all are adopted; releasing")
    for name in scene.rollouts:
        operations = [{"op": "replace", "path": "/spec/template", "value": _template(name, "v2")}]
        await scene.api.json_patch(DEPLOYMENTS, scene.namespace, name, operations)
    await scene.weights.until(lambda: all(scene.weights.weight(name) == WEIGHT for name in scene.rollouts), f"all at weight {WEIGHT}", 240)


async def _reaction(scene: _Scene, rollout: str, visible: float) -> Reaction:
    """Put together what one rollout went through; the verdict's time is that of its evidence."""
    body = await scene.api.get(ROLLOUTS, scene.namespace, rollout) or {}
    run = body["status"]["history"][-1]["run"]
    entries = await read_evidence(scene.api, scene.namespace, rollout, run)
    verdict = next(float(entry["at"]) for entry in entries if entry["kind"] == "Decision" and entry["decision"] == "Rollback")
    zero = scene.weights.first(rollout, 0, visible - SCRAPE_SECONDS)
    if zero is None:
        raise AssertionError(f"{rollout} was never at weight 0")
    return Reaction(visible, verdict, zero)


def _name_revision(prometheus: PrometheusStandIn, pod: Object) -> None:
    labels, name = pod["metadata"]["labels"], pod["metadata"]["name"]
    if labels.get(names.TRACK) == "stable":
        prometheus.name_stable(labels[names.ROLLOUT], labels[names.REVISION])
    elif labels.get("app.kubernetes.io/version") == "v2":
        prometheus.name_candidate(labels["app"], labels[names.HASH], name.rpartition("-")[0])


async def _until(scene: _Scene, holds: Callable[[Object], bool]) -> None:
    """Wait until something holds of every rollout's status."""
    async with asyncio.timeout(240):
        while True:
            scene.operator.check()
            found = await scene.api.list(ROLLOUTS, scene.namespace)
            if sum(holds(body.get("status", {})) for body in found) == len(scene.rollouts):
                return
            await asyncio.sleep(2)


async def _install(api: KubernetesApi, namespace: str, name: str) -> None:
    metadata = {"name": name, "namespace": namespace}
    selector = {"app": name}
    spec = {"replicas": 2, "selector": {"matchLabels": selector}, "template": _template(name, "v1")}
    await api.create(DEPLOYMENTS, namespace, {"metadata": metadata, "spec": spec})
    service = {"selector": {"app": "ml-router"}, "ports": [{"port": 80, "name": "http"}]}
    await api.create(SERVICES, namespace, {"metadata": metadata, "spec": service})
    rollout = {
        "targetRef": {"name": name},
        "serviceRef": {"name": name},
        "replicas": 2,
        "plan": {"steps": [{"weight": WEIGHT, "durationSeconds": 3600}, {"weight": 100, "durationSeconds": 3600}]},
        "analysis": {"intervalSeconds": TICK_SECONDS},
    }
    await api.create(ROLLOUTS, namespace, {"metadata": metadata, "spec": rollout})


def _template(name: str, version: str) -> Object:
    container = {"name": "model", "image": f"model:{version}", "ports": [{"name": "http", "containerPort": 4010}]}
    labels = {"app": name, "app.kubernetes.io/version": version}
    return {"metadata": {"labels": labels}, "spec": {"schedulerName": "nobody", "enableServiceLinks": False, "containers": [container]}}
