"""Stand-ins for kubelet and ml-router: pods that no node runs are marked ready, routes are accepted.

Deployments, ReplicaSets and pods are real objects, made by the cluster's own controllers; only what a node and a router would say of
them is written here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from kanarya.cluster import names
from kanarya.cluster.kubernetes import KubernetesApi
from kanarya.cluster.port import ENDPOINTSLICES, HTTPROUTES, PODS, AlreadyExists, Conflict, NotFound, Object

AT_ONCE = 16
"""Writes under way at a time: the API server is also what is measured."""


class StandIns:
    """Keeps the workloads of a namespace ready. `on_ready` is told of each pod that became so."""

    def __init__(self, api: KubernetesApi, namespace: str, on_ready: Callable[[Object], None]) -> None:
        self._api = api
        self._namespace = namespace
        self._on_ready = on_ready
        self._limit = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stable_pods: dict[str, dict[str, str]] = {}
        self._endpoints: dict[str, asyncio.Lock] = {}
        self._accepted: dict[str, int] = {}

    async def keep_pods(self) -> None:
        """Mark pods ready until cancelled, and give the stable ones endpoints."""
        async with aclosing(self._api.watch(PODS, self._namespace)) as events:
            async for event in events:
                pod = event.object
                if event.type == "DELETED" or (event.type != "SYNCED" and pod["metadata"].get("deletionTimestamp")):
                    self._forget(pod)
                elif event.type != "SYNCED" and not _ready(pod):
                    self._start(self._make_ready(pod))

    def accept(self, route: Object) -> None:
        """Accept a generation of a route, as its router would."""
        name, generation = route["metadata"]["name"], route["metadata"].get("generation", 0)
        if self._accepted.get(name) != generation:
            self._accepted[name] = generation
            self._start(self._write_acceptance(name, generation, route["spec"]["parentRefs"][0]))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, write: Callable[[], Awaitable[object]]) -> None:
        async with self._limit:
            try:
                await write()
            except (NotFound, Conflict):  # gone, or changed: another event follows
                return

    async def _make_ready(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        await self._write(lambda: self._api.merge_patch(PODS, self._namespace, name, {"status": _status(pod)}, subresource="status"))
        labels = pod["metadata"]["labels"]
        if labels.get(names.TRACK) == "stable":
            self._stable_pods.setdefault(labels[names.ROLLOUT], {})[name] = labels[names.REVISION]
            await self._write_endpoints(labels[names.ROLLOUT])
        self._on_ready(pod)

    def _forget(self, pod: Object) -> None:
        rollout, name = pod["metadata"].get("labels", {}).get(names.ROLLOUT, ""), pod["metadata"]["name"]
        if self._stable_pods.get(rollout, {}).pop(name, None) is not None:
            self._start(self._write_endpoints(rollout))

    async def _write_endpoints(self, rollout: str) -> None:
        async with self._endpoints.setdefault(rollout, asyncio.Lock()):  # of two pods, the later list is the one that stays
            await self._write_endpoints_in_turn(rollout)

    async def _write_endpoints_in_turn(self, rollout: str) -> None:
        service = names.stable_service(rollout)
        endpoints = [
            {"addresses": [f"198.18.0.{index + 1}"], "conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": name}}
            for index, name in enumerate(sorted(self._stable_pods[rollout]))
        ]
        labels = {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "benchmark"}
        body: Object = {
            "metadata": {"name": f"{service}-benchmark", "namespace": self._namespace, "labels": labels},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 4010, "protocol": "TCP"}],
            "endpoints": endpoints,
        }
        try:
            await self._write(lambda: self._api.create(ENDPOINTSLICES, self._namespace, body))
        except AlreadyExists:
            patch = {"endpoints": endpoints}
            await self._write(lambda: self._api.merge_patch(ENDPOINTSLICES, self._namespace, body["metadata"]["name"], patch))

    async def _write_acceptance(self, name: str, generation: int, parent: Object) -> None:
        conditions = [
            {"type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": generation, "lastTransitionTime": _now()}
            for kind in ("Accepted", "ResolvedRefs")
        ]
        parents = [{"controllerName": names.ROUTER_CONTROLLER, "parentRef": parent, "conditions": conditions}]
        patch = {"status": {"parents": parents}}
        await self._write(lambda: self._api.merge_patch(HTTPROUTES, self._namespace, name, patch, subresource="status"))


def _ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _status(pod: Object) -> Object:
    containers = [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": True,
            "restartCount": 0,
            "state": {"running": {"startedAt": _now()}},
        }
        for container in pod["spec"]["containers"]
    ]
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": _now()} for kind in ("Ready", "ContainersReady")]
    return {"phase": "Running", "conditions": conditions, "containerStatuses": containers}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
