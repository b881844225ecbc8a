"""What an HTTPRoute says to ml-router: two weights, matched by the backends' names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kanarya_inference.router.settings import Settings

ROLLOUT_LABEL = "kanarya.dev/rollout"
DEFAULT_WEIGHT = 1
"""What Gateway API gives a backend whose weight is left out."""

_RULE_FIELDS = {"name", "matches", "backendRefs"}


@dataclass(frozen=True)
class Split:
    """Weights of the two tracks, whole numbers of which at least one is positive."""

    stable: int
    candidate: int


class RouteRefused(ValueError):  # noqa: N818 -- a verdict on the route, not a fault of ours
    """The route asks for something ml-router does not do. `reason` is the condition's, the message is for people."""

    def __init__(self, message: str, *, reason: str = "UnsupportedValue", backend_known: bool = True) -> None:
        super().__init__(message)
        self.reason = reason
        self.backend_known = backend_known


def is_ours(route: dict[str, Any], rollout: str) -> bool:
    """Tell whether the route carries the rollout's label and is attached to a Service: then it is ml-router's to follow."""
    labels = route["metadata"].get("labels") or {}
    return labels.get(ROLLOUT_LABEL) == rollout and bool(service_parents(route))


def service_parents(route: dict[str, Any]) -> list[dict[str, Any]]:
    """List the route's parentRefs that name a Service."""
    spec = route.get("spec")
    parents = spec.get("parentRefs") if isinstance(spec, dict) else None
    known = [parent for parent in parents if isinstance(parent, dict)] if isinstance(parents, list) else []
    return [parent for parent in known if parent.get("kind") == "Service" and parent.get("group", "") in ("", "core")]


def read_split(route: dict[str, Any], settings: Settings) -> Split:
    """Read the weights, by the names of the tracks' Services and never by position.

    Raises
    ------
    RouteRefused
        An unknown backend, a feature of HTTPRoute that ml-router does not have, or something else than an HTTPRoute.
    """
    try:
        return _read_split(route, settings)
    except (AttributeError, KeyError, TypeError) as error:
        raise RouteRefused("a part of the route does not have the shape that HTTPRoute gives it") from error


def _read_split(route: dict[str, Any], settings: Settings) -> Split:
    spec = route.get("spec") or {}
    rules = spec.get("rules") or []
    if len(rules) != 1:
        raise RouteRefused(f"exactly one rule is supported, the route has {len(rules)}")
    _check_rule(spec, rules[0])
    services = {settings.tracks.stable.service: "stable", settings.tracks.candidate.service: "candidate"}
    weights: dict[str, int] = {}
    for backend in rules[0].get("backendRefs") or []:
        track = services.get(_service_name(backend, route["metadata"].get("namespace")))
        if track is None:
            raise RouteRefused(f"backend {backend.get('name')!r:.80} is none of {sorted(services)}", backend_known=False)
        if track in weights:
            raise RouteRefused(f"backend {backend['name']!r} is named twice")
        weights[track] = _weight(backend)
    if "stable" not in weights:
        raise RouteRefused(f"backend {settings.tracks.stable.service!r} is missing")
    split = Split(weights["stable"], weights.get("candidate", 0))
    if split.stable + split.candidate == 0:
        raise RouteRefused("all weights are 0")
    return split


def _check_rule(spec: dict[str, Any], rule: dict[str, Any]) -> None:
    if spec.get("hostnames"):
        raise RouteRefused("hostnames are not supported")
    unsupported = sorted(field for field, value in rule.items() if value and field not in _RULE_FIELDS)
    if unsupported:
        raise RouteRefused(f"not supported in a rule: {', '.join(unsupported):.200}")
    for match in rule.get("matches") or []:
        path = match.get("path") or {}
        everything = path.get("type", "PathPrefix") == "PathPrefix" and path.get("value", "/") == "/"
        if not everything or any(value for field, value in match.items() if field != "path"):
            raise RouteRefused("only a match of every path is supported")


def _service_name(backend: dict[str, Any], namespace: str | None) -> str:
    """Name of the backend's Service, or an empty string when it is no Service of the route's namespace."""
    is_service = backend.get("group", "") in ("", "core") and backend.get("kind", "Service") == "Service"
    is_local = backend.get("namespace") in (None, namespace)
    return str(backend.get("name")) if is_service and is_local else ""


def _weight(backend: dict[str, Any]) -> int:
    if backend.get("filters"):
        raise RouteRefused("filters of a backend are not supported")
    weight = backend.get("weight")
    if weight is None:
        return DEFAULT_WEIGHT
    if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= 1_000_000:
        raise RouteRefused(f"weight {weight!r:.40} is not a whole number from 0 to 1,000,000")
    return weight
