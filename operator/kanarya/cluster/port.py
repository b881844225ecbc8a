"""The port through which Kanarya sees Kubernetes: a dozen methods, dict bodies.

Two implementations stand behind it, held to the same behaviour by `tests/contract`: `kubernetes.KubernetesApi` (a real API server)
and `fake.FakeApi` (in memory).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Object = dict[str, Any]
"""A Kubernetes object as the API server sends it."""


@dataclass(frozen=True)
class Resource:
    """A namespaced kind, as the API server's paths name it."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """`apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version


ROLLOUTS = Resource("kanarya.dev", "v1alpha1", "mlmodelrollouts", "MLModelRollout")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
REPLICASETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap")
ENDPOINTSLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
HTTPROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")


class ApiError(Exception):
    """The API server did not do what was asked. The message is ours; no body of a foreign server is passed on whole."""


class NotFound(ApiError):  # noqa: N818 -- the API's own words for these outcomes
    """No such object, or no such kind."""


class AlreadyExists(ApiError):  # noqa: N818
    """Create of a name that is taken."""


class Conflict(ApiError):  # noqa: N818
    """The object changed since it was read (resourceVersion or a JSON patch `test` did not hold)."""


class Invalid(ApiError):  # noqa: N818
    """The API server refuses the object; the message carries its reason (at most 1,000 characters)."""


class Forbidden(ApiError):  # noqa: N818
    """RBAC or admission refuses the call."""


class Unavailable(ApiError):  # noqa: N818
    """No answer, a time-out, 429 or a 5xx: try again later."""


Subresource = Literal["status", "scale"]


@dataclass(frozen=True)
class WatchEvent:
    """`ADDED`, `MODIFIED`, `DELETED`, or `SYNCED` (object is empty) when the initial list has been handed over."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "SYNCED"]
    object: Object


class KubeApi(Protocol):
    """Kubernetes, as far as Kanarya needs it. Every call has a time limit; every failure is an `ApiError`."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """Read one object; None when there is none."""
        ...

    async def list(
        self, resource: Resource, namespace: str | None, *, labels: Mapping[str, str] | None = None, label_exists: str | None = None
    ) -> Sequence[Object]:
        """List objects of one namespace (or of all: None) whose labels equal `labels` and that have the label `label_exists`.

        Each object carries `apiVersion` and `kind`, which the API server leaves out in lists.
        """
        ...

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        """Create; raises `AlreadyExists`, `Invalid`."""
        ...

    async def replace(self, resource: Resource, namespace: str, body: Object) -> Object:
        """Replace the object named in `body.metadata`.

        With `metadata.resourceVersion` in the body it is guarded by it (`Conflict`). Raises `NotFound`.
        """
        ...

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, patch: Object, *, subresource: Subresource | None = None
    ) -> Object:
        """JSON merge patch (RFC 7386).

        With `metadata.resourceVersion` in the patch it is guarded by it. Raises `NotFound`, `Conflict`.
        """
        ...

    async def json_patch(self, resource: Resource, namespace: str, name: str, operations: Sequence[Object]) -> Object:
        """JSON patch (RFC 6902). A `test` that does not hold raises `Conflict`. Raises `NotFound`."""
        ...

    async def delete(self, resource: Resource, namespace: str, name: str) -> None:
        """Delete, dependants in the background; an object that is not there is fine."""
        ...

    def watch(
        self, resource: Resource, namespace: str | None, *, labels: Mapping[str, str] | None = None, name: str | None = None
    ) -> AsyncIterator[WatchEvent]:
        """List, then watch, for ever: connections are renewed and lists repeated as needed, with backoff.

        After each list a `SYNCED` event follows it; objects that vanished between two lists come as `DELETED`. While the API server
        is away nothing is yielded: what was last seen stays true.
        """
        ...

    async def close(self) -> None:
        """Give up connections."""
        ...
