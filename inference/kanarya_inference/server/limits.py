"""How much one client, and all clients together, may ask for."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

from kanarya_inference.server.counts import Counts
from kanarya_inference.server.replies import Refused
from kanarya_inference.server.settings import ServerSettings
from kanarya_inference.serving import Scope

KNOWN_CLIENTS = 10_000


class ClientRate:
    """Requests a second of each client, by the generic cell rate algorithm: one number for each client.

    A client may send a second's worth at once. The clients heard of least recently are forgotten beyond 10,000: a flood of
    invented names gets past this limit, not past the queue's.
    """

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate
        self._burst = max(1.0, self._interval)
        self._due: OrderedDict[bytes, float] = OrderedDict()

    def wait(self, client: bytes, now: float) -> float:
        """Count a request; returns 0, or the seconds after which it would be let through."""
        due = max(self._due.get(client, 0.0), now) + self._interval
        if due - now > self._burst + 1e-9:
            return due - now - self._burst
        self._due[client] = due
        self._due.move_to_end(client)
        if len(self._due) > KNOWN_CLIENTS:
            self._due.popitem(last=False)
        return 0.0


class Admission:
    """Lets prediction requests in, up to the queue's size and each client's rate."""

    def __init__(self, settings: ServerSettings, counts: Counts, clock: Callable[[], float]) -> None:
        self._counts = counts
        self._queue = settings.queue or math.inf
        self._rate = ClientRate(settings.client_rate) if settings.client_rate else None
        self._header = settings.client_header.lower().encode() if settings.client_header else None
        self._clock = clock

    def enter(self, scope: Scope) -> None:
        """Count a request in; `leave` must follow. Raises `Refused` (429) with `Retry-After`."""
        if self._rate is not None and (seconds := self._rate.wait(self._client(scope), self._clock())):
            raise _limited("this client sends more requests than it may", math.ceil(seconds))
        if self._counts.queue_depth >= self._queue:
            raise _limited("the queue is full", 1)
        self._counts.queue_depth += 1

    def leave(self) -> None:
        """Count a request out."""
        self._counts.queue_depth -= 1

    def _client(self, scope: Scope) -> bytes:
        """Name the client: by its header when one is set and sent, else by its address."""
        if self._header is not None:
            values = [value for name, value in scope["headers"] if name == self._header]
            if values:
                # Whoever passes a request on adds to the end of x-forwarded-for; what stands before may be invented.
                name: bytes = values[-1].rpartition(b",")[2].strip() if self._header == b"x-forwarded-for" else values[-1]
                return name[:64]
        client = scope.get("client")
        return str(client[0]).encode() if client else b""


def _limited(message: str, seconds: int) -> Refused:
    headers = [(b"retry-after", str(max(1, seconds)).encode())]
    return Refused(429, f"{message}: try again after {max(1, seconds)} s", headers=headers, counted="limited")
