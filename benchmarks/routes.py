"""The candidate's weight on each route over time, by a watch with this machine's clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

from kanarya.cluster import names
from kanarya.cluster.kubernetes import KubernetesApi
from kanarya.cluster.port import HTTPROUTES, Object


def candidate_weight(route: Object) -> int | None:
    """Read the candidate's weight; None when the route is not one of ours."""
    name = names.candidate_service(route["metadata"].get("labels", {}).get(names.ROLLOUT, ""))
    backends = [backend for rule in route["spec"].get("rules", []) for backend in rule.get("backendRefs", [])]
    return next((int(backend.get("weight", 1)) for backend in backends if backend.get("name") == name), None)


class RouteWeights:
    """Weights of the routes of a namespace. `changes` has (epoch seconds, weight) for each route, oldest first."""

    def __init__(self, api: KubernetesApi, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self.changes: dict[str, list[tuple[float, int]]] = {}
        self.listeners: list[Callable[[Object], None]] = []
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        """Watch until cancelled."""
        async with aclosing(self._api.watch(HTTPROUTES, self._namespace)) as events:
            async for event in events:
                seen = time.time()
                if event.type in ("ADDED", "MODIFIED"):
                    self._note(event.object, seen)
                    for listener in self.listeners:
                        listener(event.object)

    def _note(self, route: Object, seen: float) -> None:
        weight = candidate_weight(route)
        changes = self.changes.setdefault(route["metadata"]["name"], [])
        if weight is not None and (not changes or changes[-1][1] != weight):
            changes.append((seen, weight))
            self._changed.set()

    def weight(self, route: str) -> int | None:
        """Give the weight a route has now; None when it was never seen."""
        changes = self.changes.get(route)
        return changes[-1][1] if changes else None

    def first(self, route: str, weight: int, since: float) -> float | None:
        """Give when a route first had this weight at or after `since`."""
        return next((at for at, value in self.changes.get(route, ()) if at >= since and value == weight), None)

    async def until(self, holds: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait until something holds of the weights; raises `TimeoutError` that says what was waited for."""
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}") from None
