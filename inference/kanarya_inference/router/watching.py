"""The watches: the route, the settings, and the EndpointSlices of both tracks' Services."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from random import Random

from kanarya.cluster.port import CONFIGMAPS, ENDPOINTSLICES, HTTPROUTES, KubeApi, Object, Resource
from kanarya_inference.router.control import Control
from kanarya_inference.router.endpoints import Pool
from kanarya_inference.router.windows import Clock

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0

SERVICE_LABEL = "kubernetes.io/service-name"

logger = logging.getLogger(__name__)


class Watching:
    """Feeds the control with what the API server says, for ever. While the API server is away, what was last seen stays."""

    def __init__(self, api: KubeApi, namespace: str, rollout: str, *, random: Random, clock: Clock) -> None:
        self._api = api
        self._namespace = namespace
        self._rollout = rollout
        self._random = random
        self._clock = clock
        self._pools: dict[str, Pool] = {}
        self._slices: dict[str, asyncio.Task[None]] = {}

    def pool(self, service: str) -> Pool:
        """Return the endpoints of a Service, empty until its slices are watched and seen."""
        if service not in self._pools:
            self._pools[service] = Pool(self._random, self._clock)
        return self._pools[service]

    async def run(self, control: Control, changed: Callable[[], None], *, follow_route: bool = True) -> None:
        """Watch until cancelled. `changed` is called after each change of route or settings."""

        def route(seen: Mapping[str, Object]) -> None:
            control.see_route(seen.get(self._rollout))
            self._follow(control.services)
            changed()

        def settings(seen: Mapping[str, Object]) -> None:
            control.see_settings(seen.get(f"{self._rollout}-router"))
            self._follow(control.services)
            changed()

        try:
            watches = [self._watch(CONFIGMAPS, settings, name=f"{self._rollout}-router")]
            if follow_route:
                watches.append(self._watch(HTTPROUTES, route, name=self._rollout))
            await asyncio.gather(*watches)
        finally:
            self._follow(frozenset())

    def _follow(self, services: frozenset[str]) -> None:
        for service in self._slices.keys() - services:
            self._slices.pop(service).cancel()
            self._pools.pop(service, None)
        for service in services - self._slices.keys():
            self._slices[service] = asyncio.create_task(self._watch_slices(self.pool(service), service))

    async def _watch_slices(self, pool: Pool, service: str) -> None:
        def slices(seen: Mapping[str, Object]) -> None:
            pool.update(seen.values())
            pool.synced = True

        await self._watch(ENDPOINTSLICES, slices, labels={SERVICE_LABEL: service})

    async def _watch(
        self,
        resource: Resource,
        handle: Callable[[Mapping[str, Object]], None],
        *,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> None:
        """Call `handle` with all objects there are, by name: once when the first list is complete, then at every change."""
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            seen: dict[str, Object] = {}
            listed = False
            try:
                async for event in self._api.watch(resource, self._namespace, labels=labels, name=name):
                    backoff = FIRST_BACKOFF_SECONDS
                    if event.type == "SYNCED" and listed:
                        continue
                    if event.type == "SYNCED":
                        listed = True
                    elif event.type == "DELETED":
                        seen.pop(event.object["metadata"]["name"], None)
                    else:
                        seen[event.object["metadata"]["name"]] = event.object
                    if listed:
                        _guarded(handle, seen)
            except Exception:
                # The watch itself renews connections: what comes up here is refused (RBAC, no such kind) or unforeseen.
                logger.exception("watch of %s failed, starting again in about %.1f s", resource.plural, backoff)
            await asyncio.sleep(backoff * self._random.uniform(0.5, 1.5))
            backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)


def _guarded(handle: Callable[[Mapping[str, Object]], None], seen: Mapping[str, Object]) -> None:
    """An object that nobody foresaw must not end the watch: what came before it stays in force."""
    try:
        handle(seen)
    except Exception:
        logger.exception("an object could not be taken in")
