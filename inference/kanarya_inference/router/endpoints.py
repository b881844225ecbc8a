"""The pods behind a track's Service, and which of them gets the next request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Any

from kanarya_inference.router.windows import Clock

REST_SECONDS = 2.0
"""How long a pod that refused a connection is passed over while others are ready: slices learn of a dead node much later."""


@dataclass(slots=True, eq=False)
class Endpoint:
    """One pod's address. `outstanding` requests are on their way to it from this router."""

    host: str
    port: int
    outstanding: int = 0
    rests_until: float = 0.0

    @property
    def authority(self) -> str:
        """`host:port`, for logs."""
        return f"{self.host}:{self.port}"


class Pool:
    """The endpoints of one Service. Each pick takes the less busy of two drawn at random."""

    def __init__(self, random: Random, clock: Clock) -> None:
        self.synced = False
        """True once the slices have been listed: before that, no endpoint means nothing."""
        self._random = random
        self._clock = clock
        self._endpoints: list[Endpoint] = []
        self._resting_until = 0.0

    @property
    def ready(self) -> bool:
        """True when there is an endpoint to send to."""
        return bool(self._endpoints)

    def update(self, slices: Iterable[dict[str, Any]]) -> None:
        """Take over the addresses of the Service's EndpointSlices; known endpoints keep their counts."""
        known = {(endpoint.host, endpoint.port): endpoint for endpoint in self._endpoints}
        self._endpoints = [known.get(address) or Endpoint(*address) for address in addresses(slices)]

    def pick(self, avoid: Endpoint | None = None) -> Endpoint | None:
        """Choose an endpoint other than `avoid`; None when there is none."""
        endpoints = self._endpoints
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


def _port(piece: dict[str, Any]) -> int | None:
    ports = [port for port in piece.get("ports") or [] if isinstance(port.get("port"), int)]
    named = [port for port in ports if port.get("name") == "http"]
    return next((int(port["port"]) for port in named or ports), None)
