"""What is sent where: URL paths, selectors, and the checks that keep a call from doing something else than was meant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote

from kanarya.cluster.port import Invalid, Resource, Subresource

MOST_BODY_BYTES = 2**20
"""A larger body is not sent: the API server keeps no ConfigMap of that size, and writing it would hold up the event loop."""


def segment(value: object, what: str) -> str:
    """Return `value` when it can stand as one segment of a path; raise `Invalid` when not.

    An empty name would turn the deletion of one object into that of the whole collection, and a dot would climb out of it.
    """
    if not isinstance(value, str) or value in {"", ".", ".."} or "/" in value or "%" in value:
        raise Invalid(f"{value!r:.100} cannot be a {what}: it must be a non-empty name without '/' and '%'")
    return value


def collection_path(resource: Resource, namespace: str | None) -> str:
    """Path of a kind in one namespace, or in all of them (None)."""
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    if namespace is None:
        return f"{root}/{resource.plural}"
    return f"{root}/namespaces/{quote(segment(namespace, 'namespace'), safe='')}/{resource.plural}"


def object_path(resource: Resource, namespace: str, name: object, subresource: Subresource | None = None) -> str:
    """Path of one object or of its subresource."""
    path = f"{collection_path(resource, namespace)}/{quote(segment(name, 'name'), safe='')}"
    return f"{path}/{subresource}" if subresource else path


def label_selector(labels: Mapping[str, str] | None, exists: str | None = None) -> str:
    """Write a selector: labels that must be equal, and one that must be there."""
    terms = [f"{key}={value}" for key, value in (labels or {}).items()]
    return ",".join([*terms, exists] if exists else terms)


def check_body(body: object, what: str) -> None:
    """Raise `Invalid` when a body is too large to be sent or is no JSON."""
    try:
        size = 0 if body is None else len(json.dumps(body, allow_nan=False))
    except ValueError as error:
        raise Invalid(f"{what}: the body is no JSON: {error}") from error
    if size > MOST_BODY_BYTES:
        raise Invalid(f"{what}: a body of {size} bytes is too large, {MOST_BODY_BYTES} are allowed")
