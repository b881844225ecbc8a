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


MOST_WEIGHT = 1_000_000
"""The largest that Gateway API allows."""

_ODD = (AttributeError, KeyError, TypeError, ValueError, OverflowError)
"""What reading an object of another shape than its kind's ends in: a custom resource is as strict as whoever installed its kind."""


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
    except _ODD:
        return None
    if set(weights) != {names.stable_service(plan.name), names.candidate_service(plan.name)}:
        return None
    weight = weights[names.candidate_service(plan.name)]
    return weight if 0 <= weight <= MOST_WEIGHT else None


def route_intact(plan: Plan, body: Object) -> bool:
    """Whether the route is exactly what we write, for some weight."""
    weight = route_weight(plan, body)
    labelled = names.labels(plan.name).items() <= (body["metadata"].get("labels") or {}).items()
    return weight is not None and labelled and bool(body["spec"] == route_spec(plan, weight))


def route_accepted(body: Object) -> bool:
    """Whether ml-router says that it follows this generation of the route."""
    generation = body["metadata"].get("generation", 0)
    try:
        return any(_accepts(parent, generation) for parent in body.get("status", {}).get("parents", []))
    except _ODD:
        return False


def _accepts(parent: Object, generation: int) -> bool:
    held = {
        condition.get("type")
        for condition in parent.get("conditions", [])
        if condition.get("status") == "True" and condition.get("observedGeneration", 0) >= generation
    }
    return parent.get("controllerName") == names.ROUTER_CONTROLLER and {"Accepted", "ResolvedRefs"} <= held


def released_rules(body: Object) -> list[Object] | None:
    """Give the route's rules with all weight on stable, working from the route alone; None when they do not name stable."""
    stable = names.stable_service(body["metadata"]["labels"][names.ROLLOUT])
    try:
        rules: list[Object] = deepcopy(body["spec"]["rules"])
        backends: list[Object] = [backend for rule in rules for backend in rule["backendRefs"]]
        total = sum(int(backend.get("weight", 1)) for backend in backends) or 100
        for backend in backends:
            backend["weight"] = total if backend["name"] == stable else 0
    except _ODD:
        return None
    return rules if any(backend["name"] == stable for backend in backends) else None


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


def is_labelled(body: Object, rollout: str) -> bool:
    """Whether an object has our label with this rollout's name."""
    return (body["metadata"].get("labels") or {}).get(names.ROLLOUT) == rollout


def selects(body: Object | None, template: Object) -> bool:
    """Whether a Service selects pods of this template."""
    selector = (body or {}).get("spec", {}).get("selector") or {}
    have = template.get("metadata", {}).get("labels", {})
    return bool(selector) and selector.items() <= have.items()


# -- workloads ------------------------------------------------------------------------------------------------------------


def images(template: Object) -> tuple[str, ...]:
    """Give the images of a pod template's containers."""
    return tuple(str(container.get("image", "")) for container in template["spec"]["containers"])


def printable(text: str) -> str:
    """Give a text that can stand in a log, an Event and a terminal: control and direction characters become `?`."""
    return "".join(character if character.isprintable() else "?" for character in text)


def identity(revision: str, template: Object) -> Identity:
    """Give what a pod template is: its revision, its version for people, its images."""
    found = images(template)
    version = template.get("metadata", {}).get("labels", {}).get("app.kubernetes.io/version", "")
    if not version:
        without_digest = found[0].partition("@")[0]
        version = without_digest.rsplit("/", 1)[-1].partition(":")[2]
    return Identity(revision=revision, version=printable(version), images=found)


def stable_template(plan: Plan, target: Object, replicaset_template: Object, revision: str) -> Object:
    """Give the stable pods' template: the revision's own, without the labels by which the target would adopt them."""
    template = deepcopy(replicaset_template)
    metadata = template.setdefault("metadata", {})
    metadata.pop("creationTimestamp", None)
    dropped = {*target["spec"]["selector"].get("matchLabels", {}), names.HASH}
    kept = {key: value for key, value in metadata.get("labels", {}).items() if key not in dropped}
    metadata["labels"] = {**kept, **stable_selector(plan, revision)}
    return template


def stable_labels(plan: Plan, revision: str) -> dict[str, str]:
    """Give the labels of the pinned stable of a revision."""
    return {**names.labels(plan.name), names.TRACK: "stable", names.REVISION: revision}


def stable_deployment(plan: Plan, target: Object, replicaset_template: Object, revision: str, replicas: int) -> Object:
    """Give the pinned stable of a revision."""
    template = stable_template(plan, target, replicaset_template, revision)
    known = identity(revision, replicaset_template)
    metadata = {**meta(plan, names.stable_deployment(plan.name, revision)), "labels": stable_labels(plan, revision)}
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
        found = tuple(str(image) for image in json.loads(annotations.get(names.IMAGES, "[]")))
    except (ValueError, TypeError, RecursionError):
        found = ()
    return Identity(revision=revision, version=printable(annotations.get(names.VERSION, "")), images=found)


# -- the router's settings ------------------------------------------------------------------------------------------------


def settings_document(plan: Plan, stable: str, candidate: str | None, generation: int) -> dict[str, Any]:
    """Give the router's settings; see docs/reference/objects.md."""
    latency, match, traffic = plan.latched.analysis.latency, plan.latched.analysis.match, plan.latched.traffic
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
        "matchCompare": match.compare,
        "matchTolerance": match.tolerance,
        "matchRelativeTolerance": match.relative_tolerance,
        "fallback": traffic.fallback,
        "stickyHeader": traffic.sticky_header,
        "latencyBucketsMilliseconds": buckets,
    }


def config_map(plan: Plan, name: str, key: str, document: Any, extra: Mapping[str, str] | None = None) -> Object:
    """Give a ConfigMap with one JSON document."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta(plan, name, extra),
        "data": {key: json.dumps(document, sort_keys=True)},
    }


def read_document(body: Object | None, key: str) -> Any | None:
    """Read the JSON document of a ConfigMap; None when it is absent or unreadable."""
    try:
        return json.loads(read_text(body, key))
    except (ValueError, RecursionError):  # the last: brackets nested without end
        return None


def read_text(body: Object | None, key: str) -> str:
    """Read an entry of a ConfigMap; empty when it is absent."""
    data = (body or {}).get("data")
    text = data.get(key) if isinstance(data, dict) else None
    return text if isinstance(text, str) else ""
