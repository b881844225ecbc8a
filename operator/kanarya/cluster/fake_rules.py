"""What the API server's own kinds allow: names, labels, immutable fields, and which writes count as a new generation.

Only rules that Kanarya can run into are here; each is held to a real API server by the contract suite.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, TypeVar

from kanarya.cluster.port import (
    CONFIGMAPS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    HTTPROUTES,
    PODS,
    REPLICASETS,
    ROLLOUTS,
    SERVICES,
    Invalid,
    Object,
    Resource,
)

T = TypeVar("T")

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+")

MOST_ANNOTATION_BYTES = 256 * 1024
MOST_DATA_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Traits:
    """How the API server treats a kind."""

    status: bool = False
    """It has the `status` subresource."""
    status_is_separate: bool = False
    """Writes to the object leave `status` alone."""
    scale: bool = False
    generation: bool = False
    annotations_count: bool = False
    """A change of annotations is a new generation too."""


_TRAITS = {
    # Pods and ReplicaSets are written by those who play their controllers, so their status may come with the object.
    PODS: Traits(status=True),
    REPLICASETS: Traits(status=True, scale=True, generation=True),
    SERVICES: Traits(status=True),
    DEPLOYMENTS: Traits(status=True, status_is_separate=True, scale=True, generation=True, annotations_count=True),
    HTTPROUTES: Traits(status=True, status_is_separate=True, generation=True),
    ROLLOUTS: Traits(status=True, status_is_separate=True, scale=True, generation=True),
    ENDPOINTSLICES: Traits(generation=True),
}


def traits(resource: Resource) -> Traits:
    """Return how the API server treats this kind."""
    return _TRAITS.get(resource, Traits())


def content(body: Object) -> Object:
    """Return what a kind's generation counts: everything but metadata and status."""
    return {key: value for key, value in body.items() if key not in {"apiVersion", "kind", "metadata", "status"}}


def default(resource: Resource, body: Object) -> None:
    """Fill in, in place, the one default that Kanarya reads back."""
    if resource in {DEPLOYMENTS, REPLICASETS} and isinstance(body.get("spec"), dict):
        body["spec"].setdefault("replicas", 1)


def validate(resource: Resource, body: Object) -> None:
    """Refuse an object that the API server would refuse. Raises `Invalid`."""
    metadata = body["metadata"]
    name = metadata["name"]
    if resource == SERVICES:
        _require(len(name) <= 63 and _SERVICE_NAME.fullmatch(name), f"metadata.name: {name!r:.80} is no DNS-1035 label")
    _require(len(name) <= 253 and _SUBDOMAIN.fullmatch(name), f"metadata.name: {name!r:.80} is no DNS subdomain")
    _labels(metadata.get("labels"), "metadata.labels")
    annotations = _strings(metadata.get("annotations"), "metadata.annotations")
    for key in annotations:
        _require(_is_qualified(key.lower()), f"metadata.annotations: {key!r:.80} is no qualified name")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    _require(size <= MOST_ANNOTATION_BYTES, f"metadata.annotations: may not be more than {MOST_ANNOTATION_BYTES} bytes")
    if resource == CONFIGMAPS:
        _validate_config_map(body)
    elif resource == SERVICES:
        _labels(_spec(body).get("selector"), "spec.selector")
    elif resource in {DEPLOYMENTS, REPLICASETS}:
        _validate_template(_spec(body))


def validate_update(resource: Resource, old: Object, new: Object) -> None:
    """Refuse a change of what may not change. Raises `Invalid`."""
    if resource == CONFIGMAPS and old.get("immutable"):
        _require(new.get("immutable"), "immutable: field is immutable when `immutable` is set")
        for key in ("data", "binaryData"):
            _require(old.get(key) == new.get(key), f"{key}: field is immutable when `immutable` is set")
    if resource in {DEPLOYMENTS, REPLICASETS}:
        _require(_spec(old).get("selector") == _spec(new).get("selector"), "spec.selector: field is immutable")


def validate_replicas(replicas: object) -> None:
    """Refuse what is no replica count. Raises `Invalid`."""
    whole = isinstance(replicas, int) and not isinstance(replicas, bool)
    _require(whole and replicas >= 0, f"spec.replicas: {replicas!r:.80} is no whole number of at least 0")  # type: ignore[operator]


def duplicate(value: T) -> T:
    """Copy what JSON can say, all of it; several times faster than `copy.deepcopy`, which most of the fake's time went into."""
    copied: T = _duplicate(value)
    return copied


def _duplicate(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _duplicate(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_duplicate(item) for item in value]
    return value


def normal(body: Object) -> Object:
    """Return a deep copy as it would come back from the server: JSON types only, no nulls, no empty maps in metadata."""
    pruned: Object = _without_nulls(json.loads(json.dumps(body)))
    metadata = pruned.get("metadata")
    if isinstance(metadata, dict):
        for key in ("labels", "annotations", "finalizers", "ownerReferences"):
            if key in metadata and not metadata[key]:
                del metadata[key]
    return pruned


def scale_of(body: Object) -> Object:
    """Return the object's `scale` subresource, an `autoscaling/v1` Scale."""
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    selector = body["spec"].get("selector", {}).get("matchLabels", {})
    status: Object = {"replicas": body.get("status", {}).get("replicas", 0)}
    if selector:
        status["selector"] = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {key: body["metadata"][key] for key in kept},
        "spec": {"replicas": body["spec"]["replicas"]},
        "status": status,
    }


def _validate_config_map(body: Object) -> None:
    size = 0
    for field in ("data", "binaryData"):
        for key, value in _strings(body.get(field), field).items():
            _require(len(key) <= 253 and _DATA_KEY.fullmatch(key), f"{field}: {key!r:.80} is no valid key")
            size += len(value.encode())
    _require(size <= MOST_DATA_BYTES, f"data: may not be more than {MOST_DATA_BYTES} bytes")


def _validate_template(spec: Object) -> None:
    selector = (spec.get("selector") or {}).get("matchLabels") or {}
    _labels(selector, "spec.selector.matchLabels")
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    _labels(labels, "spec.template.metadata.labels")
    _require(selector or (spec.get("selector") or {}).get("matchExpressions"), "spec.selector: a selector is required")
    _require(selector.items() <= labels.items(), "spec.template.metadata.labels: `selector` does not match template `labels`")
    validate_replicas(spec.get("replicas", 1))


def _labels(labels: object, field: str) -> None:
    for key, value in _strings(labels, field).items():
        _require(_is_qualified(key), f"{field}: {key!r:.80} is no qualified name")
        _require(value == "" or (len(value) <= 63 and _LABEL.fullmatch(value)), f"{field}: {value!r:.80} is no label value")


def _is_qualified(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    if slash and not (len(prefix) <= 253 and _SUBDOMAIN.fullmatch(prefix)):
        return False
    return len(name) <= 63 and _LABEL.fullmatch(name) is not None


def _strings(values: object, field: str) -> dict[str, str]:
    if values is None:
        return {}
    _require(isinstance(values, dict), f"{field}: must be a map")
    assert isinstance(values, dict)  # noqa: S101 -- for the type checker
    for key, value in values.items():
        _require(isinstance(value, str), f"{field}: the value of {key!r:.80} must be a string")
    return values


def _spec(body: Object) -> Object:
    spec = body.get("spec")
    return spec if isinstance(spec, dict) else {}


def _require(holds: object, sentence: str) -> None:
    if not holds:
        raise Invalid(sentence)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
