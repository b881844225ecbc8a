"""What a decision may know of the cluster: one look, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kanarya.decision.counts import Reading
from kanarya.decision.state import Identity


@dataclass(frozen=True)
class Target:
    """The target Deployment. `identity` is None while its controller has not caught up with its template."""

    identity: Identity | None
    replicas: int
    changed: float
    """When its template, or the rollout's spec, was last seen to change (epoch seconds)."""


@dataclass(frozen=True)
class Pods:
    """The candidate's pods: those of the run's own revision."""

    ready: int = 0
    restarts: int = 0
    crash_looping: str = ""
    """Name of a pod with a container in CrashLoopBackOff; empty when none is."""
    stuck: str = ""
    """A pod that does not start, and the cluster's word for why, such as ImagePullBackOff; empty when none is."""


@dataclass(frozen=True)
class Stable:
    """One stable Deployment of ours."""

    identity: Identity
    replicas: int
    available: int
    """Pods that could serve, of whichever template."""
    intact: bool = True
    """Whether it still is what we wrote."""
    rolling: bool = False
    """Whether pods of an older template may be left."""


@dataclass(frozen=True)
class Route:
    """The HTTPRoute. `weight` is the candidate's; None when the route's backends are not the two we wrote."""

    weight: int | None
    intact: bool
    accepted: bool
    resource_version: str
    rolled_back: str = ""
    """Run named by the route's own record of a rollback."""


@dataclass(frozen=True)
class World:
    """One look at the cluster."""

    target: Target | None
    pods: Pods = Pods()
    stables: Mapping[str, Stable] = field(default_factory=dict)
    stable_service: str | None = None
    """Revision that the stable Service selects; None when there is no such Service."""
    candidate_service: str | None = None
    stable_endpoints: int = 0
    """Ready endpoints behind the stable Service that belong to the revision it selects."""
    stale_endpoints: int = 0
    """Ready endpoints behind the stable Service that belong to another revision."""
    route: Route | None = None
    settings: tuple[str, str | None] | None = None
    """Revisions (stable, candidate) in the router's settings."""
    settings_intact: bool = False
    selecting: tuple[str, ...] = ()
    """Services that clients call and that select the target's pods."""
    service_exists: bool = True
    """Whether the Service that clients call is there."""
    reading: Reading | None = None
    abort: str = ""
    retry: str = ""
    started: float = 0.0
    """When this operator process began."""
    forecast: bool = True
    """Whether verdicts are to say when there will be enough."""
