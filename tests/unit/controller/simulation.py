"""The real reconciler in a small world that a test moves on tick by tick; the cluster around it is that of `tests/world`.

Time is virtual; traffic is deterministic, as in `tests/unit/decision/play.py`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kanarya.cluster import names
from kanarya.cluster.fake import Call
from kanarya.cluster.port import (
    CONFIGMAPS,
    DEPLOYMENTS,
    EVENTS,
    HTTPROUTES,
    ROLLOUTS,
    SERVICES,
    ApiError,
    Object,
)
from kanarya.cluster.store import read_evidence
from kanarya.controller.metrics import Metrics
from kanarya.controller.reconcile import Reconciler
from kanarya.decision.counts import Attempts, Counts, Drift, Missing, Reading
from kanarya.telemetry.collector import ReadRequest
from tests.unit.decision.play import REFERENCE, Traffic
from tests.world.api import OpenApi
from tests.world.cluster import Controllers, Health, accept_route

NAMESPACE, NAME = "shop", "fraud"
KEY = (NAMESPACE, NAME)
SELECTOR = {"app": "fraud", "part": "model"}


class Crash(BaseException):
    """The operator dies: not an `Exception`, so nothing may catch it."""


def template(version: str) -> Object:
    return {
        "metadata": {"labels": {**SELECTOR, "team": "risk", "app.kubernetes.io/version": version}},
        "spec": {"containers": [{"name": "model", "image": f"model:{version}", "ports": [{"name": "http", "containerPort": 4010}]}]},
    }


@dataclass
class Simulation:
    """The world of one rollout."""

    spec: Object = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)
    now: float = 1_700_000_000.0
    ready: bool = True
    router: bool = True
    crash_at: str = ""
    waiting: str = ""
    """What the containers of the candidate wait for."""
    fault: Callable[[Call], Awaitable[None]] | None = None
    """What goes wrong with the operator's own calls, and with nobody else's."""
    passed: list[str] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)

    sources: tuple[str, ...] = ("default",)
    """Sources of metrics that the operator knows."""
    set_forward: float = 0.0
    """How far the clock was set by hand, in seconds."""

    def __post_init__(self) -> None:
        self.api = OpenApi(NAMESPACE, clock=lambda: datetime.fromtimestamp(self.now, UTC))
        self.cluster = Controllers(self.api, self._health)
        self.boot()

    def boot(self) -> None:
        """Start the operator, as after a crash: with no memory."""
        self.metrics = Metrics()
        self.reconciler = Reconciler(
            self.api,
            dict.fromkeys(self.sources, self),
            clock=lambda: self.now,
            steady=lambda: self.now - self.set_forward,
            metrics=self.metrics,
            version="0.0.0",
            instance="test",
            at=self._at,
        )

    async def _at(self, point: str) -> None:
        self.passed.append(point)
        if point == self.crash_at:
            self.crash_at = ""
            raise Crash(point)

    # -- what people do ---------------------------------------------------------------------------------------------------

    async def install(self, version: str = "v1") -> None:
        metadata = {"namespace": NAMESPACE}
        body = {
            "metadata": {"name": NAME, **metadata},
            "spec": {"selector": {"matchLabels": SELECTOR}, "replicas": 2, "template": template(version)},
        }
        await self.api.create(DEPLOYMENTS, NAMESPACE, {"apiVersion": "apps/v1", "kind": "Deployment", **body})
        service = {"metadata": {"name": NAME, **metadata}, "spec": {"selector": {"app": "router"}, "ports": [{"port": 80, "name": "http"}]}}
        await self.api.create(SERVICES, NAMESPACE, {"apiVersion": "v1", "kind": "Service", **service})
        await self.apply()

    async def apply(self) -> None:
        spec = {
            "targetRef": {"name": NAME},
            "serviceRef": {"name": NAME},
            "plan": {"steps": [{"weight": weight, "durationSeconds": 10} for weight in (5, 10, 25, 50, 100)]},
            "analysis": {"method": "Threshold", "intervalSeconds": 1, "minSamples": 50},
            "scaleDownDelaySeconds": 20,
            **self.spec,
        }
        body = {"apiVersion": "kanarya.dev/v1alpha1", "kind": "MLModelRollout", "metadata": {"name": NAME, "namespace": NAMESPACE}}
        await self.api.create(ROLLOUTS, NAMESPACE, {**body, "spec": spec})

    async def release(self, version: str) -> None:
        await self.api.json_patch(DEPLOYMENTS, NAMESPACE, NAME, [{"op": "replace", "path": "/spec/template", "value": template(version)}])

    def set_clock(self, by: float) -> None:
        self.now, self.set_forward = self.now + by, self.set_forward + by

    async def annotate(self, key: str, value: str) -> None:
        await self.api.merge_patch(ROLLOUTS, NAMESPACE, NAME, {"metadata": {"annotations": {key: value}}})

    # -- moving on --------------------------------------------------------------------------------------------------------

    async def tick(self, seconds: float = 1.0) -> ApiError | None:
        """Move on: the controllers of the cluster act, then the operator does a pass; a failed one gives its error."""
        self.now += seconds
        self.controllers()
        self.api.before = self.fault
        try:
            await self.reconciler.reconcile(KEY)
        except ApiError as error:
            return error
        except Crash:
            self.boot()
        finally:
            self.api.before = None
            await self._watch_weight()
        return None

    async def _watch_weight(self) -> None:
        weight = await self.weight()
        if weight is not None and (not self.weights or self.weights[-1] != weight):
            self.weights.append(weight)

    async def until(self, stop: Callable[[Object], bool], limit: int = 300) -> Object:
        """Tick until `stop(status)` holds."""
        status: Object = {}
        for _ in range(limit):
            await self.tick()
            status = (await self.rollout()).get("status", {})
            if stop(status):
                return status
        raise AssertionError(f"not reached in {limit} s: {json.dumps(status, indent=1)}")

    async def adopted(self) -> Simulation:
        await self.install()
        await self.until(lambda status: bool(status.get("stable")))
        for _ in range(12):
            await self.tick()
        return self

    async def ended(self) -> Object:
        """Tick until one more run has ended; gives its history entry."""
        before = len((await self.rollout()).get("status", {}).get("history") or [])
        status = await self.until(lambda status: len(status.get("history") or []) > before)
        entry: Object = status["history"][-1]
        return entry

    # -- what can be seen -------------------------------------------------------------------------------------------------

    async def rollout(self) -> Object:
        body = await self.api.get(ROLLOUTS, NAMESPACE, NAME)
        assert body is not None
        return body

    async def target(self) -> Object:
        body = await self.api.get(DEPLOYMENTS, NAMESPACE, NAME)
        assert body is not None
        return body

    async def weight(self) -> int | None:
        route = await self.api.get(HTTPROUTES, NAMESPACE, NAME)
        if route is None:
            return None
        backends = {backend["name"]: backend["weight"] for backend in route["spec"]["rules"][0]["backendRefs"]}
        return int(backends[names.candidate_service(NAME)])

    async def stables(self) -> list[str]:
        found = await self.api.list(DEPLOYMENTS, NAMESPACE, labels={names.TRACK: "stable"})
        return sorted(body["metadata"]["labels"]["kanarya.dev/revision"] for body in found)

    async def events(self) -> list[str]:
        return [body["reason"] for body in await self.api.list(EVENTS, NAMESPACE)]

    async def evidence(self, run: str) -> list[dict[str, Any]]:
        return await read_evidence(self.api, NAMESPACE, NAME, run)

    async def checkpoint(self) -> Object:
        body = await self.api.get(CONFIGMAPS, NAMESPACE, names.checkpoint(NAME))
        assert body is not None
        document: Object = json.loads(body["data"]["checkpoint.json"])
        return document

    # -- the cluster's own controllers ------------------------------------------------------------------------------------

    def controllers(self) -> None:
        self.cluster.step()
        route = self.api.peek(HTTPROUTES, NAME)
        if route is not None and self.router:
            accept_route(self.api, route)

    def _health(self, pod: Object) -> Health:
        is_candidate = names.TRACK not in pod["metadata"]["labels"]
        return Health(self.ready or not is_candidate, waiting=self.waiting if is_candidate else "")

    # -- Prometheus -------------------------------------------------------------------------------------------------------

    async def read(self, request: ReadRequest) -> Reading:
        """Answer as telemetry would, from the traffic's exact rates."""
        traffic, until = self.traffic, self.now - 2
        if traffic.missing.get("*") is Missing.SOURCE_DOWN:
            return Reading(until=request.watermark, missing=traffic.missing, detail="Prometheus does not answer")
        seconds = max(until - max(request.watermark, request.since), 0.0)
        drift_seconds = max(until - request.drift_watermark, 0.0)
        total = traffic.rate * seconds
        live = total * (await self.weight() or 0) / 100

        def attempts(n: float) -> Attempts:
            return Attempts(n, n * traffic.errors, {"80": n * (traffic.slow + traffic.very_slow), "120": n * traffic.very_slow})

        bins = [traffic.rate * drift_seconds / 10] * 10
        if traffic.shifted:
            bins = [0.0] * 5 + [2 * value for value in bins[:5]]
        return Reading(
            until=max(until, request.watermark),
            counts=Counts(attempts(live), attempts(total - live), Attempts(total), total, total, total * traffic.mismatches),
            drift=Drift({"spread_bp": (*bins, 0.0)}, REFERENCE),
            newest=until if traffic.rate else None,
            newest_counted=until if traffic.rate else None,
            missing=traffic.missing,
        )


async def releasing(weight: int = 5, traffic: Traffic | None = None) -> Simulation:
    """A release under way at a weight; `traffic` from there on."""
    sim = await Simulation().adopted()
    await sim.release("v2")
    await sim.until(lambda status: (status.get("run") or {}).get("weight") == weight)
    sim.traffic = traffic or sim.traffic
    return sim


def conditions(status: dict[str, object]) -> dict[str, tuple[str, str]]:
    found = status["conditions"]
    assert isinstance(found, list)
    return {entry["type"]: (entry["status"], entry["reason"]) for entry in found}
