"""Pure builders of the objects Kanarya owns, and readers of what stands in the cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from kanarya.api.rollout import LatchedSpec, RolloutSpec
from kanarya.cluster import names
from kanarya.cluster.port import Object
from kanarya.decision.evidence import digest
from kanarya.decision.state import Identity, State

BUCKETS_MILLISECONDS = (1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120)


class UnusableTarget(Exception):  # noqa: N818 -- reads as the condition it becomes
    """The target cannot be rolled out; the message says what to change."""


@dataclass(frozen=True)
class Plan:
    """What the builders need of a rollout."""

    name: str
    namespace: str
    spec: RolloutSpec
    latched: LatchedSpec

    @classmethod
    def of(cls, name: str, namespace: str, spec: RolloutSpec, state: State) -> Plan:
        """Take the latched spec of the run under way, else the current one."""
        if state.run is not None and state.run.spec is not None:
            return cls(name, namespace, spec, state.run.spec)
        return cls(name, namespace, spec, LatchedSpec(plan=spec.plan, analysis=spec.analysis, mode=spec.mode, traffic=spec.traffic))

    @property
    def total(self) -> int:
        """What the route's weights add up to."""
        return self.latched.plan.weight_total


def meta(plan: Plan, name: str, extra: Mapping[str, str] | None = None) -> Object:
    """Give the metadata of an object we own."""
    return {"name": name, "namespace": plan.namespace, "labels": {**names.labels(plan.name), **(extra or {})}}


# -- the route ------------------------------------------------------------------------------------------------------------


def route_spec(plan: Plan, weight: int) -> Object:
    """Give the HTTPRoute's spec, every defaulted field written out so that GitOps tools see no difference."""
    port = plan.spec.service_ref.port

    def backend(name: str, share: int) -> Object:
        return {"group": "", "kind": "Service", "name": name, "port": port, "weight": share}

    return {
        "parentRefs": [{"group": "", "kind": "Service", "name": plan.spec.service_ref.name, "port": port}],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "backendRefs": [
                    backend(names.stable_service(plan.name), plan.total - weight),
                    backend(names.candidate_service(plan.name), weight),
                ],
            }
        ],
    }


def route(plan: Plan, weight: int, rolled_back: str = "") -> Object:
    """Give the whole HTTPRoute."""
    metadata = meta(plan, plan.name)
    if rolled_back:
        metadata["annotations"] = {names.ROLLED_BACK: rolled_back}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": metadata,
        "spec": route_spec(plan, weight),
    }


def route_weight(plan: Plan, body: Object) -> int | None:
    """Give the candidate's weight; None when the backends are not the two we wrote."""
    try:
        (rule,) = body["spec"]["rules"]
        weights = {backend["name"]: int(backend.get("weight", 1)) for backend in rule["backendRefs"]}
    except (KeyError, TypeError, ValueError):
        return None
    if set(weights) != {names.stable_service(plan.name), names.candidate_service(plan.name)}:
        return None
    return weights[names.candidate_service(plan.name)]


def route_intact(plan: Plan, body: Object) -> bool:
    """Whether the route is exactly what we write, for some weight."""
    weight = route_weight(plan, body)
    labelled = names.labels(plan.name).items() <= body["metadata"].get("labels", {}).items()
    return weight is not None and labelled and bool(body["spec"] == route_spec(plan, weight))


def route_accepted(body: Object) -> bool:
    """Whether ml-router says that it follows this generation of the route."""
    generation = body["metadata"].get("generation", 0)
    for parent in body.get("status", {}).get("parents", []):
        if parent.get("controllerName") != names.ROUTER_CONTROLLER:
            continue
        held = {
            condition.get("type")
            for condition in parent.get("conditions", [])
            if condition.get("status") == "True" and condition.get("observedGeneration", 0) >= generation
        }
        if {"Accepted", "ResolvedRefs"} <= held:
            return True
    return False


# -- Services -------------------------------------------------------------------------------------------------------------


def stable_selector(plan: Plan, revision: str) -> dict[str, str]:
    """Give the selector of the stable Service, which is also that of the stable Deployment."""
    return {names.ROLLOUT: plan.name, names.TRACK: "stable", names.REVISION: revision}


def candidate_selector(target: Object, revision: str) -> dict[str, str]:
    """Give the selector of the candidate Service."""
    return {**target["spec"]["selector"].get("matchLabels", {}), names.HASH: revision}


def service(plan: Plan, name: str, selector: Mapping[str, str], target_port: int | str) -> Object:
    """Give a track's Service."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(plan, name),
        "spec": {"selector": dict(selector), "ports": service_ports(plan, target_port)},
    }


def service_ports(plan: Plan, target_port: int | str) -> list[Object]:
    """Give a track Service's ports with defaults written out."""
    return [{"name": "http", "port": plan.spec.service_ref.port, "protocol": "TCP", "targetPort": target_port}]


def model_port(template: Object) -> int | str:
    """Give the port of the model container: named `http`, else the only one."""
    ports = [port for container in template["spec"]["containers"] for port in container.get("ports", [])]
    if any(port.get("name") == "http" for port in ports):
        return "http"
    if len(ports) == 1:
        return int(ports[0]["containerPort"])
    raise UnusableTarget(f"the target's pods have {len(ports)} container ports and none is named http: name the model's port http")


def selects(body: Object | None, template: Object) -> bool:
    """Whether a Service selects pods of this template."""
    selector = (body or {}).get("spec", {}).get("selector") or {}
    have = template.get("metadata", {}).get("labels", {})
    return bool(selector) and selector.items() <= have.items()


# -- workloads ------------------------------------------------------------------------------------------------------------


def identity(revision: str, template: Object) -> Identity:
    """Give what a pod template is: its revision, its version for people, its images."""
    images = tuple(container["image"] for container in template["spec"]["containers"])
    version = template.get("metadata", {}).get("labels", {}).get("app.kubernetes.io/version", "")
    if not version:
        without_digest = images[0].partition("@")[0]
        version = without_digest.rsplit("/", 1)[-1].partition(":")[2]
    return Identity(revision=revision, version=version, images=images)


def stable_template(plan: Plan, target: Object, replicaset_template: Object, revision: str) -> Object:
    """Give the stable pods' template: the revision's own, without the labels by which the target would adopt them."""
    template = deepcopy(replicaset_template)
    metadata = template.setdefault("metadata", {})
    metadata.pop("creationTimestamp", None)
    dropped = {*target["spec"]["selector"].get("matchLabels", {}), names.HASH}
    kept = {key: value for key, value in metadata.get("labels", {}).items() if key not in dropped}
    metadata["labels"] = {**kept, **stable_selector(plan, revision)}
    return template


def stable_deployment(plan: Plan, target: Object, replicaset_template: Object, revision: str, replicas: int) -> Object:
    """Give the pinned stable of a revision."""
    template = stable_template(plan, target, replicaset_template, revision)
    known = identity(revision, replicaset_template)
    metadata = meta(plan, names.stable_deployment(plan.name, revision), {names.TRACK: "stable", names.REVISION: revision})
    metadata["annotations"] = {
        names.VERSION: known.version,
        names.IMAGES: json.dumps(list(known.images)),
        names.TEMPLATE_DIGEST: digest(template),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": stable_selector(plan, revision)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": template,
        },
    }


def template_intact(body: Object) -> bool:
    """Whether a stable Deployment's template still is the one that was written."""
    template = deepcopy(body["spec"]["template"])
    template.get("metadata", {}).pop("creationTimestamp", None)
    wanted = body["metadata"].get("annotations", {}).get(names.TEMPLATE_DIGEST)
    return bool(digest(template) == wanted)


def stable_identity(body: Object) -> Identity | None:
    """Read a stable Deployment's identity from its own marks; None when they are gone."""
    metadata = body["metadata"]
    revision = metadata.get("labels", {}).get(names.REVISION)
    if not revision:
        return None
    annotations = metadata.get("annotations", {})
    try:
        images = tuple(str(image) for image in json.loads(annotations.get(names.IMAGES, "[]")))
    except (ValueError, TypeError, RecursionError):
        images = ()
    return Identity(revision=revision, version=annotations.get(names.VERSION, ""), images=images)


# -- the router's settings ------------------------------------------------------------------------------------------------


def settings_document(plan: Plan, stable: str, candidate: str | None, generation: int) -> dict[str, Any]:
    """Give the router's settings; see docs/reference/objects.md."""
    latency, traffic = plan.latched.analysis.latency, plan.latched.traffic
    buckets = sorted({*BUCKETS_MILLISECONDS, latency.slo_milliseconds, latency.abort_milliseconds})
    return {
        "schemaVersion": 1,
        "rollout": plan.name,
        "routeGeneration": generation,
        "tracks": {
            "stable": {"service": names.stable_service(plan.name), "revision": stable},
            "candidate": {"service": names.candidate_service(plan.name), "revision": candidate},
        },
        "mirrorPercent": traffic.mirror_percent,
        "mirrorTimeoutMilliseconds": 2 * latency.abort_milliseconds,
        "matchTolerance": plan.latched.analysis.match.tolerance,
        "fallback": traffic.fallback,
        "latencyBucketsMilliseconds": buckets,
    }


def config_map(plan: Plan, name: str, key: str, document: Any, extra: Mapping[str, str] | None = None) -> Object:
    """Give a ConfigMap with one JSON document."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta(plan, name, extra),
        "data": {key: json.dumps(document, indent=1, sort_keys=True)},
    }


def read_document(body: Object | None, key: str) -> Any | None:
    """Read the JSON document of a ConfigMap; None when it is absent or unreadable."""
    try:
        return json.loads((body or {})["data"][key])
    except (KeyError, TypeError, ValueError, RecursionError):  # the last: brackets nested without end
        return None
