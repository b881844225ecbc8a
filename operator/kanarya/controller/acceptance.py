"""Whether a rollout can be worked on, and what to go by when its newest spec cannot."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from kanarya.api.crd import NAME_NOT_LABEL, NAME_TOO_LONG
from kanarya.api.rollout import NAME_LIMIT, InvalidSpec, RolloutSpec, parse_spec
from kanarya.cluster import names
from kanarya.cluster.port import Object
from kanarya.telemetry.queries import Values, problems

_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_KEPT = ("replicas", "scaleDownDelaySeconds", "mode")
"""What a run under way needs of the spec besides its references and what it has latched."""


class Refused(Exception):  # noqa: N818 -- reads as the condition it becomes
    """A rollout is not worked on, for a reason that its owner can change."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def check_name(name: str) -> None:
    """Refuse a name from which those of Services cannot be made; raises `Refused`."""
    if len(name) > NAME_LIMIT:
        raise Refused("InvalidName", NAME_TOO_LONG)
    if not _LABEL.fullmatch(name):
        raise Refused("InvalidName", NAME_NOT_LABEL)


def check_queries(spec: RolloutSpec, namespace: str, name: str, *, allowed: bool) -> None:
    """Refuse queries of the rollout's own where the installation does not allow them, and those that may not be asked.

    Raises
    ------
    Refused
        With what to change.
    """
    if not spec.analysis.metrics:
        return
    if not allowed:
        sentence = "this installation does not allow queries of rollouts: remove spec.analysis.metrics"
        raise Refused("QueriesNotAllowed", f"{sentence}, or set allowCustomQueries in the operator's chart")
    templates = {
        metric.name: {part: text for part in ("query", "bad", "total") if (text := getattr(metric, part)) is not None}
        for metric in spec.analysis.metrics
    }
    found = problems(templates, Values(namespace, name, "revision"))
    if found:
        raise Refused("InvalidQuery", "spec.analysis.metrics: " + "; ".join(found[:5]))


def check_alone(rollout: Object, spec: RolloutSpec, others: Sequence[Object]) -> None:
    """Refuse the younger of two rollouts that want the same target or Service, and a target whose pods look like another's routers.

    Parameters
    ----------
    rollout, spec
        The rollout and what it wants.
    others
        All rollouts of its namespace, itself among them.

    Raises
    ------
    Refused
        With what to change.
    """
    mine = (rollout["metadata"].get("creationTimestamp", ""), rollout["metadata"]["name"])
    for other in others:
        name = other["metadata"]["name"]
        if spec.target_ref.name == names.router_pods(name).removesuffix("-"):
            like = f"Deployment {spec.target_ref.name} is called like the router of MLModelRollout {name}"
            raise Refused("TargetTaken", f"{like}: its pods would be taken for routers, give it another name")
        older = (other["metadata"].get("creationTimestamp", ""), name) < mine
        shares = referred(other, "targetRef") == spec.target_ref.name
        serves = referred(other, "serviceRef") == spec.service_ref.name
        if older and (shares or serves):
            what = f"Deployment {spec.target_ref.name}" if shares else f"Service {spec.service_ref.name}"
            remedy = "name another Deployment in spec.targetRef" if shares else "name another Service in spec.serviceRef"
            raise Refused("TargetTaken", f"{what} already belongs to MLModelRollout {name}: {remedy}, or delete one of the two")


def referred(rollout: Object, reference: str) -> str:
    """Give the name in `targetRef` or `serviceRef` of a rollout that nobody has checked; empty when there is none."""
    spec = rollout.get("spec")
    found = spec.get(reference) if isinstance(spec, dict) else None
    name = found.get("name") if isinstance(found, dict) else None
    return name if isinstance(name, str) else ""


def salvaged(data: Any) -> RolloutSpec:
    """Give what can be used of a spec, paused: a run under way keeps to what it latched, and must be able to go down.

    Raises
    ------
    InvalidSpec
        When not even the references can be read.
    """
    whole = data if isinstance(data, dict) else {}
    kept = {key: whole.get(key) for key in ("targetRef", "serviceRef")}
    spec = parse_spec(kept)
    for key in _KEPT:
        try:
            spec = parse_spec({**kept, key: whole[key]})
        except (InvalidSpec, KeyError):
            continue
        kept[key] = whole[key]
    return spec.model_copy(update={"paused": True})
