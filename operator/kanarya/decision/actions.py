"""What a decision asks for. Each action is idempotent: carried out twice, it changes nothing the second time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class LowerWeight:
    """Write the route with this weight for the candidate, whatever stands there now. Waits for nothing."""

    weight: int
    rolled_back: str = ""
    """Run whose rollback this is: recorded on the route in the same write."""


@dataclass(frozen=True)
class RaiseWeight:
    """Write a higher weight, only if the route still is as it was when this was decided."""

    weight: int
    resource_version: str


@dataclass(frozen=True)
class EnsureStable:
    """Have the stable Deployment of this revision, cloned from the target's ReplicaSet if there is none."""

    revision: str
    replicas: int


@dataclass(frozen=True)
class DeleteStable:
    """Delete the stable Deployment of this revision."""

    revision: str


@dataclass(frozen=True)
class PointStable:
    """Have the stable Service select this revision."""

    revision: str


@dataclass(frozen=True)
class PointCandidate:
    """Have the candidate Service select this revision of the target."""

    revision: str


@dataclass(frozen=True)
class WriteSettings:
    """Give the router these revisions."""

    stable: str
    candidate: str | None


@dataclass(frozen=True)
class ScaleTarget:
    """Set the target's replica count through its scale subresource."""

    replicas: int


Action = LowerWeight | RaiseWeight | EnsureStable | DeleteStable | PointStable | PointCandidate | WriteSettings | ScaleTarget


@dataclass(frozen=True)
class Notice:
    """Something worth an Event on the rollout."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Entry:
    """An entry for the run's evidence."""

    kind: str
    data: dict[str, Any]
