"""Objects as the API server would send them, for tests of the builders and readers."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from kanarya.api.rollout import parse_spec
from kanarya.cluster import objects
from kanarya.cluster.objects import Plan
from kanarya.cluster.observe import View
from kanarya.cluster.port import Object
from kanarya.decision.state import State

NAMESPACE, NAME = "shop", "fraud"
SELECTOR = {"app": "fraud", "part": "model"}
DEPLOYMENT_REVISION = "deployment.kubernetes.io/revision"


def plan(**spec: Any) -> Plan:
    parsed = parse_spec({"targetRef": {"name": NAME}, "serviceRef": {"name": NAME}, **spec})
    return Plan.of(NAME, NAMESPACE, parsed, State())


def template(version: str = "v1", *, labels: dict[str, str] | None = None, ports: list[Object] | None = None) -> Object:
    container = {
        "name": "model",
        "image": f"registry:5000/team/model:{version}",
        "ports": [{"name": "http", "containerPort": 4010}] if ports is None else ports,
    }
    return {"metadata": {"labels": {**SELECTOR, "team": "risk", **(labels or {})}}, "spec": {"containers": [container]}}


def target(*, revision: int = 1, generation: int = 1, observed: int | None = None, replicas: int = 2, pods: Object | None = None) -> Object:
    return {
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "uid": "target-uid",
            "generation": generation,
            "annotations": {DEPLOYMENT_REVISION: str(revision)},
        },
        "spec": {"replicas": replicas, "selector": {"matchLabels": dict(SELECTOR)}, "template": pods or template()},
        "status": {"observedGeneration": generation if observed is None else observed},
    }


def replicaset(pod_hash: str, *, revision: int = 1, owner: str = "target-uid", pods: Object | None = None) -> Object:
    body = deepcopy(pods or template())
    body["metadata"]["labels"]["pod-template-hash"] = pod_hash
    return {
        "metadata": {
            "name": f"{NAME}-{pod_hash}",
            "namespace": NAMESPACE,
            "labels": {**SELECTOR, "pod-template-hash": pod_hash},
            "annotations": {DEPLOYMENT_REVISION: str(revision)},
            "ownerReferences": [{"uid": owner, "kind": "Deployment", "name": NAME, "apiVersion": "apps/v1", "controller": True}],
        },
        "spec": {"replicas": 2, "selector": {"matchLabels": {**SELECTOR, "pod-template-hash": pod_hash}}, "template": body},
    }


def stable(pod_hash: str = "aaa", *, replicas: int = 2, available: int = 2, updated: int = 2, older: int = 0) -> Object:
    body = objects.stable_deployment(plan(), target(), replicaset(pod_hash)["spec"]["template"], pod_hash, replicas)
    body["metadata"]["generation"] = 1
    body["status"] = {"observedGeneration": 1, "replicas": updated + older, "availableReplicas": available, "updatedReplicas": updated}
    return body


def route(weight: int = 0, *, generation: int = 1, accepted: bool = True) -> Object:
    body = objects.route(plan(), weight)
    body["metadata"] |= {"generation": generation, "resourceVersion": "7"}
    conditions = [{"type": kind, "status": "True", "observedGeneration": generation} for kind in ("Accepted", "ResolvedRefs")]
    if accepted:
        body["status"] = {"parents": [{"controllerName": "kanarya.dev/ml-router", "conditions": conditions}]}
    return body


def service(name: str, selector: dict[str, str]) -> Object:
    return objects.service(plan(), name, selector, "http")


def pod(name: str, pod_hash: str, *, ready: bool = True, restarts: int = 0, waiting: str = "") -> Object:
    container: Object = {"restartCount": restarts, "state": {"waiting": {"reason": waiting}} if waiting else {"running": {}}}
    return {
        "metadata": {"name": name, "labels": {**SELECTOR, "pod-template-hash": pod_hash}},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}], "containerStatuses": [container]},
    }


def endpoints(*pods: str, ready: bool | None = True) -> Object:
    conditions = {} if ready is None else {"ready": ready}
    return {
        "metadata": {"name": "slice"},
        "endpoints": [{"conditions": conditions, "targetRef": {"kind": "Pod", "name": name}} for name in pods],
    }


def view(**changes: Any) -> View:
    """Give a rollout that was adopted: stable is `aaa`, the target's newest revision is `bbb`."""
    settings = objects.settings_document(plan(), "aaa", "bbb", 1)
    whole: dict[str, Any] = {
        "target": target(revision=2),
        "replicasets": [replicaset("aaa"), replicaset("bbb", revision=2)],
        "stables": [stable()],
        "services": {
            "fraud-stable": service("fraud-stable", objects.stable_selector(plan(), "aaa")),
            "fraud-candidate": service("fraud-candidate", objects.candidate_selector(target(), "bbb")),
            "fraud": {"metadata": {"name": "fraud"}, "spec": {"selector": {"app": "router"}, "ports": [{"port": 80}]}},
        },
        "route": route(),
        "settings": objects.config_map(plan(), "fraud-router", "settings.json", settings),
        "endpoints": [endpoints("fraud-stable-aaa-1-x", "fraud-stable-aaa-1-y")],
        "pods": [pod("fraud-bbb-1", "bbb"), pod("fraud-bbb-2", "bbb")],
    }
    return View(**{**deepcopy(whole), **changes})
