"""The cluster's own controllers: Deployments get ReplicaSets and pods, Services get endpoints, owners take what they own with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kanarya.cluster import names
from kanarya.cluster.port import DEPLOYMENTS, ENDPOINTSLICES, HTTPROUTES, PODS, REPLICASETS, SERVICES, Object
from tests.world.api import OpenApi

REVISION_NUMBER = "deployment.kubernetes.io/revision"


@dataclass(frozen=True)
class Health:
    """How a pod is doing. `waiting` is why its container is not running, such as `CrashLoopBackOff`."""

    ready: bool = True
    restarts: int = 0
    waiting: str = ""


def template_hash(template: Object) -> str:
    """Stand in for the Deployment controller's hash."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:9]


def is_ready(pod: Object) -> bool:
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in pod.get("status", {}).get("conditions", []))


class Controllers:
    """The controllers of one namespace. `step` brings everything to where it should be by now; nothing happens in between.

    `health` is asked for each pod.
    """

    def __init__(self, api: OpenApi, health: Callable[[Object], Health]) -> None:
        self._api = api
        self._health = health
        self._hashes: dict[tuple[str, int], str] = {}
        self._pods_made = 0

    def step(self) -> None:
        self._collect_garbage()
        for body in self._api.all(DEPLOYMENTS):
            self._deployment(body)
        for service in self._api.all(SERVICES):
            self._endpoints(service)

    def _collect_garbage(self) -> None:
        for owners, owned in ((DEPLOYMENTS, REPLICASETS), (REPLICASETS, PODS)):
            living = {body["metadata"]["uid"] for body in self._api.all(owners)}
            for body in self._api.all(owned):
                if not any(owner["uid"] in living for owner in body["metadata"]["ownerReferences"]):
                    self._api.drop(owned, body["metadata"]["name"])

    def _deployment(self, body: Object) -> None:
        name, spec = body["metadata"]["name"], body["spec"]
        current = self._replicaset(body)
        number = current["metadata"]["annotations"][REVISION_NUMBER]
        self._api.annotate(DEPLOYMENTS, name, REVISION_NUMBER, number)
        mine, others = self._pods(body, current)
        wanted = int(spec["replicas"])
        for pod in mine[wanted:]:
            self._api.drop(PODS, pod["metadata"]["name"])
        mine = [*mine[:wanted], *(self._pod(current) for _ in range(wanted - len(mine)))]
        mine, others = [self._told(pod) for pod in mine], [self._told(pod) for pod in others]
        ready = sum(is_ready(pod) for pod in mine)
        for pod in others[max(wanted - ready, 0) :]:  # pods of an older template go as the new ones become ready
            self._api.drop(PODS, pod["metadata"]["name"])
        others = others[: max(wanted - ready, 0)]
        body = self._api.peek(DEPLOYMENTS, name) or body
        status = {
            "observedGeneration": body["metadata"]["generation"],
            "replicas": len(mine) + len(others),
            "updatedReplicas": len(mine),
            "readyReplicas": ready + sum(map(is_ready, others)),
            "availableReplicas": ready + sum(map(is_ready, others)),
        }
        self._api.put_status(DEPLOYMENTS, name, status)

    def _replicaset(self, body: Object) -> Object:
        """Give the ReplicaSet of a Deployment's template; the one in force has the highest number."""
        metadata, template = body["metadata"], body["spec"]["template"]
        key = metadata["uid"], metadata["generation"]
        revision = self._hashes.get(key) or self._hashes.setdefault(key, template_hash(template))
        name = f"{metadata['name']}-{revision}"
        siblings = [one for one in self._api.all(REPLICASETS) if one["metadata"]["ownerReferences"][0]["uid"] == metadata["uid"]]
        latest = max((int(one["metadata"]["annotations"][REVISION_NUMBER]) for one in siblings), default=0)
        known = next((one for one in siblings if one["metadata"]["name"] == name), None)
        if known is not None:
            if int(known["metadata"]["annotations"][REVISION_NUMBER]) < latest:
                self._api.annotate(REPLICASETS, name, REVISION_NUMBER, str(latest + 1))
            return self._api.peek(REPLICASETS, name) or known
        labels = {**template["metadata"]["labels"], names.HASH: revision}
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
        pods = {**template, "metadata": {**template["metadata"], "labels": labels}}
        made = {
            "metadata": {
                "name": name,
                "labels": labels,
                "ownerReferences": [owner],
                "annotations": {REVISION_NUMBER: str(latest + 1)},
            },
            "spec": {"template": pods, "selector": {"matchLabels": labels}, "replicas": 0},
        }
        return self._api.put(REPLICASETS, made)

    def _pods(self, deployment: Object, current: Object) -> tuple[list[Object], list[Object]]:
        """Give a Deployment's pods: those of its present template, and others."""
        mine, others = [], []
        prefix = f"{deployment['metadata']['name']}-"
        for pod in self._api.all(PODS):
            owner = pod["metadata"]["ownerReferences"][0]
            if owner["uid"] == current["metadata"]["uid"]:
                mine.append(pod)
            elif owner["name"].startswith(prefix):
                replicaset = self._api.peek(REPLICASETS, owner["name"])
                if replicaset and replicaset["metadata"]["ownerReferences"][0]["uid"] == deployment["metadata"]["uid"]:
                    others.append(pod)
        return mine, others

    def _pod(self, replicaset: Object) -> Object:
        self._pods_made += 1
        metadata = replicaset["metadata"]
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
        name = f"{metadata['name']}-{self._pods_made:05d}"
        template: Any = replicaset["spec"]["template"]
        body = {
            "metadata": {"name": name, "labels": metadata["labels"], "ownerReferences": [owner]},
            "spec": template["spec"],
            "status": _pod_status(Health(ready=False)),
        }
        return self._api.put(PODS, body)

    def _told(self, pod: Object) -> Object:
        name = pod["metadata"]["name"]
        self._api.put_status(PODS, name, _pod_status(self._health(pod)))
        return self._api.peek(PODS, name) or pod

    def _endpoints(self, service: Object) -> None:
        selector, name = service["spec"].get("selector") or {}, service["metadata"]["name"]
        ready = [
            pod["metadata"]["name"]
            for pod in self._api.all(PODS)
            if selector and selector.items() <= pod["metadata"]["labels"].items() and is_ready(pod)
        ]
        endpoints = [{"conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": pod}} for pod in ready]
        known = self._api.peek(ENDPOINTSLICES, f"{name}-x")
        if known is None or known["endpoints"] != endpoints:
            metadata = {"name": f"{name}-x", "labels": {"kubernetes.io/service-name": name}}
            self._api.put(ENDPOINTSLICES, {"metadata": metadata, "endpoints": endpoints})


def _pod_status(health: Health) -> Object:
    container: Object = {"restartCount": health.restarts}
    if health.waiting:
        container["state"] = {"waiting": {"reason": health.waiting}}
    return {"conditions": [{"type": "Ready", "status": str(health.ready)}], "containerStatuses": [container]}


def accept_route(api: OpenApi, route: Object, problem: str = "") -> None:
    """Say on the route, as ml-router does, that it is followed, or why not."""
    held = {"status": "False" if problem else "True", "observedGeneration": route["metadata"]["generation"]}
    conditions = [{"type": kind, **held} for kind in ("Accepted", "ResolvedRefs")]
    name = route["metadata"]["name"]
    parent = {"controllerName": names.ROUTER_CONTROLLER, "parentRef": {"name": name}, "conditions": conditions}
    api.put_status(HTTPROUTES, name, {"parents": [parent]})
