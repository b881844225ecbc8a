"""The objects the suite writes. None of them makes anything run."""

from __future__ import annotations

import copy
from typing import Any

from kanarya.cluster.port import CONFIGMAPS, DEPLOYMENTS, HTTPROUTES, ROLLOUTS, SERVICES, Object, Resource


def config_map(name: str, data: dict[str, str] | None = None, *, labels: dict[str, str] | None = None, **more: Any) -> Object:
    return _typed(CONFIGMAPS, name, labels, {"data": {"key": "value"} if data is None else data, **more})


def deployment(name: str, *, replicas: int = 0, labels: dict[str, str] | None = None) -> Object:
    pods = {"app": name}
    template = {"metadata": {"labels": pods}, "spec": {"containers": [{"name": "main", "image": "registry.invalid/none:1"}]}}
    return _typed(DEPLOYMENTS, name, labels, {"spec": {"replicas": replicas, "selector": {"matchLabels": pods}, "template": template}})


def service(name: str, selector: dict[str, str] | None = None) -> Object:
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    return _typed(SERVICES, name, None, {"spec": {"selector": selector or {"app": name}, "ports": ports}})


def http_route(name: str, weight: int = 0, *, labels: dict[str, str] | None = None) -> Object:
    """Build a route with every defaulted field written out, so that writing it again changes nothing."""
    parent = {"group": "", "kind": "Service", "name": name, "port": 80}
    backends = [
        {"group": "", "kind": "Service", "name": f"{name}-{track}", "port": 80, "weight": share}
        for track, share in (("stable", 100 - weight), ("candidate", weight))
    ]
    rule = {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": backends}
    return _typed(HTTPROUTES, name, labels, {"spec": {"parentRefs": [parent], "rules": [rule]}})


def route_status(name: str, reason: str = "Accepted") -> Object:
    condition = {
        "type": "Accepted",
        "status": "True",
        "reason": reason,
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }
    parent = {"group": "", "kind": "Service", "name": name, "port": 80}
    return {"parents": [{"parentRef": parent, "controllerName": "kanarya.dev/contract", "conditions": [condition]}]}


def rollout(name: str) -> Object:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    return _typed(ROLLOUTS, name, None, {"spec": {"targetRef": target, "serviceRef": {"name": name, "port": 80}, "replicas": 2}})


def changed(body: Object, **metadata: Any) -> Object:
    """Return a copy whose metadata has these fields; None takes one away."""
    body = copy.deepcopy(body)
    for key, value in metadata.items():
        body["metadata"].pop(key, None)
        if value is not None:
            body["metadata"][key] = value
    return body


def _typed(resource: Resource, name: str, labels: dict[str, str] | None, rest: Object) -> Object:
    metadata: Object = {"name": name, **({"labels": labels} if labels else {})}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **rest}
