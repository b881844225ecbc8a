"""The pods behind a track's Service, and which of them gets the next request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Any

from kanarya_inference.router.windows import Clock

REST_SECONDS = 2.0
"""How long a pod that refused a connection is passed over while others are ready: slices learn of a dead node much later."""
LINGER_SECONDS = 10.0
"""How long the last endpoints of a revision are tried after all vanished at once: somebody changed or deleted the Service."""


@dataclass(slots=True, eq=False)
class Endpoint:
    """One pod's address. `outstanding` requests are on their way to it from this router."""

    host: str
    port: int
    outstanding: int = 0
    rests_until: float = 0.0
    pod: str = ""
    """The pod's name, empty when the slice has none."""

    @property
    def authority(self) -> str:
        """`host:port`, for logs."""
        return f"{self.host}:{self.port}"


class Pool:
    """The endpoints of one Service. Each pick takes the less busy of two drawn at random."""

    def __init__(self, random: Random, clock: Clock) -> None:
        self.synced = False
        """True once the slices have been listed: before that, no endpoint means nothing."""
        self.revision: str | None = None
        """The revision that the pods are of: when all vanish at once, its last endpoints are kept for a while, and no other's."""
        self._vanished_at: float | None = None
        self._random = random
        self._clock = clock
        self._endpoints: list[Endpoint] = []
        self._resting_until = 0.0

    @property
    def ready(self) -> bool:
        """True when there is an endpoint to send to."""
        return bool(self._present())

    def update(self, slices: Iterable[dict[str, Any]]) -> None:
        """Take over the addresses of the Service's EndpointSlices; known endpoints keep their counts."""
        slices = list(slices)
        found, names = addresses(slices), pod_names(slices)
        if not found and self._endpoints:
            self._vanished_at = self._clock() if self._vanished_at is None else self._vanished_at
            return
        self._vanished_at = None
        known = {(endpoint.host, endpoint.port): endpoint for endpoint in self._endpoints}
        self._endpoints = [known.get(address) or Endpoint(*address, pod=names.get(address[0], "")) for address in found]

    def pick(self, avoid: Endpoint | None = None) -> Endpoint | None:
        """Choose an endpoint other than `avoid`; None when there is none."""
        endpoints = self._present()
        if avoid is not None:
            endpoints = [endpoint for endpoint in endpoints if endpoint is not avoid]
        if self._resting_until:
            endpoints = self._rested(endpoints)
        if len(endpoints) < 2:
            return endpoints[0] if endpoints else None
        first = int(self._random.random() * len(endpoints))
        second = int(self._random.random() * (len(endpoints) - 1))
        one, other = endpoints[first], endpoints[second + (second >= first)]
        return one if one.outstanding <= other.outstanding else other

    def _present(self) -> list[Endpoint]:
        if self._vanished_at is None:
            return self._endpoints
        if self._clock() - self._vanished_at >= LINGER_SECONDS:
            self._endpoints, self._vanished_at = [], None
        # Pods of a track are named after its revision, whatever the Service selects by now.
        return [endpoint for endpoint in self._endpoints if self.revision and f"-{self.revision}-" in endpoint.pod]

    def rest(self, endpoint: Endpoint) -> None:
        """Pass over an endpoint that could not be reached for a while."""
        endpoint.rests_until = self._resting_until = self._clock() + REST_SECONDS

    def _rested(self, endpoints: list[Endpoint]) -> list[Endpoint]:
        now = self._clock()
        if now >= self._resting_until:
            self._resting_until = 0.0
            return endpoints
        return [endpoint for endpoint in endpoints if endpoint.rests_until <= now] or endpoints


def addresses(slices: Iterable[dict[str, Any]]) -> list[tuple[str, int]]:
    """List the addresses to send to, each once: ready ones, or, when none is, those that still serve while terminating.

    Pods of a dual-stack Service are in one slice for each family; IPv4 is taken when there is any.
    """
    ready: dict[str, dict[tuple[str, int], None]] = {"IPv4": {}, "IPv6": {}}
    serving: dict[str, dict[tuple[str, int], None]] = {"IPv4": {}, "IPv6": {}}
    for piece in slices:
        family, port = piece.get("addressType"), _port(piece)
        if family not in ready or port is None:
            continue
        for endpoint in piece.get("endpoints") or []:
            # Consumers use the first address only: the API says all of them are the same pod.
            host = next(iter(endpoint.get("addresses") or []), None)
            conditions = endpoint.get("conditions") or {}
            if host is None:
                continue
            if conditions.get("ready") is not False:
                ready[family][host, port] = None
            elif conditions.get("serving"):
                serving[family][host, port] = None
    for found in (ready["IPv4"], ready["IPv6"], serving["IPv4"], serving["IPv6"]):
        if found:
            return list(found)
    return []


def pod_names(slices: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Give the names of the pods behind the addresses of EndpointSlices."""
    found: dict[str, str] = {}
    for piece in slices:
        for endpoint in piece.get("endpoints") or []:
            reference = endpoint.get("targetRef") or {}
            if reference.get("kind") == "Pod":
                found.update(dict.fromkeys(endpoint.get("addresses") or [], str(reference.get("name", ""))))
    return found


def _port(piece: dict[str, Any]) -> int | None:
    ports = [port for port in piece.get("ports") or [] if isinstance(port.get("port"), int)]
    named = [port for port in ports if port.get("name") == "http"]
    return next((int(port["port"]) for port in named or ports), None)
