"""A cluster in memory around the real reconciler: Deployments get ReplicaSets and pods, Services endpoints, the route its router.

Time is virtual; traffic is deterministic, as in `tests/unit/decision/play.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kanarya.cluster import names
from kanarya.cluster.fake import Call, FakeApi
from kanarya.cluster.port import (
    CONFIGMAPS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    EVENTS,
    HTTPROUTES,
    PODS,
    REPLICASETS,
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


def hash_of(body: Object) -> str:
    """Stand in for the Deployment controller's hash."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:9]


@dataclass
class Simulation:
    """The world of one rollout."""

    spec: Object = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)
    now: float = 1_700_000_000.0
    ready: bool = True
    router: bool = True
    crash_at: str = ""
    crash_looping: bool = False
    fault: Callable[[Call], Awaitable[None]] | None = None
    """What goes wrong with the operator's own calls, and with nobody else's."""
    passed: list[str] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.api = FakeApi(clock=lambda: datetime.fromtimestamp(self.now, UTC))
        self.boot()

    def boot(self) -> None:
        """Start the operator, as after a crash: with no memory."""
        self.metrics = Metrics()
        self.reconciler = Reconciler(
            self.api,
            {"default": self},
            clock=lambda: self.now,
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
            "analysis": {"intervalSeconds": 1, "minSamples": 50},
            "scaleDownDelaySeconds": 20,
            **self.spec,
        }
        body = {"apiVersion": "kanarya.dev/v1alpha1", "kind": "MLModelRollout", "metadata": {"name": NAME, "namespace": NAMESPACE}}
        await self.api.create(ROLLOUTS, NAMESPACE, {**body, "spec": spec})

    async def release(self, version: str) -> None:
        await self.api.json_patch(DEPLOYMENTS, NAMESPACE, NAME, [{"op": "replace", "path": "/spec/template", "value": template(version)}])

    async def annotate(self, key: str, value: str) -> None:
        await self.api.merge_patch(ROLLOUTS, NAMESPACE, NAME, {"metadata": {"annotations": {key: value}}})

    # -- moving on --------------------------------------------------------------------------------------------------------

    async def tick(self, seconds: float = 1.0) -> ApiError | None:
        """Move on: the controllers of the cluster act, then the operator does a pass; a failed one gives its error."""
        self.now += seconds
        await self.controllers()
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

    async def controllers(self) -> None:
        for body in await self.api.list(DEPLOYMENTS, NAMESPACE):
            await self._deployment(body)
        for service in await self.api.list(SERVICES, NAMESPACE):
            await self._endpoints(service)
        if self.router:
            await self._route()

    async def _deployment(self, body: Object) -> None:
        metadata, spec = body["metadata"], body["spec"]
        revision = hash_of(spec["template"])
        name = f"{metadata['name']}-{revision}"
        number = metadata.get("annotations", {}).get("deployment.kubernetes.io/revision", "0")
        replicaset = await self.api.get(REPLICASETS, NAMESPACE, name)
        if replicaset is None:
            number = str(int(number) + 1)
            labels = {**spec["template"]["metadata"]["labels"], names.HASH: revision}
            owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
            pod_template = {**spec["template"], "metadata": {**spec["template"]["metadata"], "labels": labels}}
            meta = {"name": name, "namespace": NAMESPACE, "labels": labels, "ownerReferences": [owner]}
            meta["annotations"] = {"deployment.kubernetes.io/revision": number}
            await self.api.create(
                REPLICASETS,
                NAMESPACE,
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "metadata": meta,
                    "spec": {"template": pod_template, "selector": {"matchLabels": labels}, "replicas": 0},
                },
            )
        else:
            number = replicaset["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
            if metadata.get("annotations", {}).get("deployment.kubernetes.io/revision") not in (None, number):
                number = str(int(metadata["annotations"]["deployment.kubernetes.io/revision"]) + 1)
                await self.api.merge_patch(
                    REPLICASETS, NAMESPACE, name, {"metadata": {"annotations": {"deployment.kubernetes.io/revision": number}}}
                )
        await self.api.merge_patch(
            DEPLOYMENTS, NAMESPACE, metadata["name"], {"metadata": {"annotations": {"deployment.kubernetes.io/revision": number}}}
        )
        count = spec.get("replicas", 1)
        ready = count if self.ready or metadata["labels"].get(names.TRACK) == "stable" else 0
        status = {"observedGeneration": metadata["generation"], "replicas": count, "availableReplicas": ready, "updatedReplicas": count}
        await self.api.merge_patch(DEPLOYMENTS, NAMESPACE, metadata["name"], {"status": status}, subresource="status")
        await self._pods(metadata["name"], spec["template"], revision, count, ready > 0)

    async def _pods(self, deployment: str, body: Object, revision: str, count: int, ready: bool) -> None:
        labels = {**body["metadata"]["labels"], names.HASH: revision}
        wanted = {f"{deployment}-{revision}-{index}" for index in range(count)}
        for pod in await self.api.list(PODS, NAMESPACE):
            if self._of(pod, deployment) and pod["metadata"]["name"] not in wanted:
                await self.api.delete(PODS, NAMESPACE, pod["metadata"]["name"])
        for name in sorted(wanted):
            if await self.api.get(PODS, NAMESPACE, name) is None:
                meta = {"name": name, "namespace": NAMESPACE, "labels": labels, "annotations": {"of": deployment}}
                await self.api.create(PODS, NAMESPACE, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}})
            container: Object = {"restartCount": 0}
            if self.crash_looping and deployment == NAME:
                container["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
            status = {"conditions": [{"type": "Ready", "status": str(ready)}], "containerStatuses": [container]}
            await self.api.merge_patch(PODS, NAMESPACE, name, {"status": status}, subresource="status")

    @staticmethod
    def _of(pod: Object, deployment: str) -> bool:
        return bool(pod["metadata"].get("annotations", {}).get("of") == deployment)

    async def _endpoints(self, service: Object) -> None:
        selector, name = service["spec"].get("selector") or {}, service["metadata"]["name"]
        pods = [
            pod
            for pod in await self.api.list(PODS, NAMESPACE, labels=selector)
            if selector and pod.get("status", {}).get("conditions", [{}])[0].get("status") == "True"
        ]
        endpoints = [{"conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"]}} for pod in pods]
        body = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-x", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": endpoints,
        }
        if await self.api.get(ENDPOINTSLICES, NAMESPACE, f"{name}-x") is None:
            await self.api.create(ENDPOINTSLICES, NAMESPACE, body)
        else:
            await self.api.merge_patch(ENDPOINTSLICES, NAMESPACE, f"{name}-x", {"endpoints": endpoints})

    async def _route(self) -> None:
        route = await self.api.get(HTTPROUTES, NAMESPACE, NAME)
        if route is None:
            return
        generation = route["metadata"]["generation"]
        conditions = [{"type": kind, "status": "True", "observedGeneration": generation} for kind in ("Accepted", "ResolvedRefs")]
        parent = {"controllerName": names.ROUTER_CONTROLLER, "parentRef": {"name": NAME}, "conditions": conditions}
        await self.api.merge_patch(HTTPROUTES, NAMESPACE, NAME, {"status": {"parents": [parent]}}, subresource="status")

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
            missing=traffic.missing,
        )
