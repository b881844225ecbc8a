"""A cluster small enough for the router's tests: objects in dicts, watches as queues, pods as servers on loopback."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, cast

import aiohttp
from aiohttp import web

from kanarya.cluster.port import CONFIGMAPS, ENDPOINTSLICES, HTTPROUTES, Conflict, KubeApi, Object, Resource, Unavailable, WatchEvent

NAMESPACE = "models"
ROLLOUT = "fraud"
BUCKETS = [1, 2, 5, 10, 20, 40, 80, 120, 250, 500, 1000, 2500, 5000]


def settings_document(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "schemaVersion": 1,
        "rollout": ROLLOUT,
        "routeGeneration": 1,
        "tracks": {
            "stable": {"service": "fraud-stable", "revision": "7d4b9c"},
            "candidate": {"service": "fraud-candidate", "revision": "5f6c8d"},
        },
        "mirrorPercent": 0,
        "mirrorTimeoutMilliseconds": 8000,
        "matchTolerance": 0.05,
        "fallback": "Unavailable",
        "latencyBucketsMilliseconds": BUCKETS,
    }
    document.update(changes)
    return document


def no_candidate() -> dict[str, Any]:
    tracks = settings_document()["tracks"]
    tracks["candidate"]["revision"] = None
    return {"tracks": tracks}


def configmap(text: str | None = None, **changes: Any) -> Object:
    data = {"settings.json": text if text is not None else json.dumps(settings_document(**changes))}
    return {"metadata": {"name": f"{ROLLOUT}-router", "namespace": NAMESPACE}, "data": data}


def route(stable: int | None = 100, candidate: int | None = 0, *, generation: int = 1, backends: Any = None, **spec: Any) -> Object:
    if backends is None:
        backends = [backend("fraud-stable", stable), backend("fraud-candidate", candidate)]
    return {
        "apiVersion": HTTPROUTES.api_version,
        "kind": "HTTPRoute",
        "metadata": {
            "name": ROLLOUT,
            "namespace": NAMESPACE,
            "generation": generation,
            "labels": {"kanarya.dev/rollout": ROLLOUT},
            "resourceVersion": f"{generation}",
        },
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "fraud", "port": 80}],
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": backends}],
            **spec,
        },
    }


def backend(name: str, weight: int | None) -> Object:
    return {"group": "", "kind": "Service", "name": name, "port": 80, "weight": weight}


def endpoint_slice(service: str, addresses: list[tuple[str, int]], *, ready: bool = True, suffix: str = "") -> Object:
    port = addresses[0][1] if addresses else 80
    return {
        "metadata": {"name": f"{service}{suffix}-x", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "metrics", "port": 1}, {"name": "http", "port": port}],
        "endpoints": [{"addresses": [host], "conditions": {"ready": ready, "serving": True}} for host, _ in addresses],
    }


class StubApi:
    """Lists and watches what `put` and `remove` say; takes status patches like an API server."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.patches: list[Object] = []
        self.away = False
        self._watchers: list[tuple[Resource, Callable[[Object], bool], asyncio.Queue[WatchEvent]]] = []
        self._version = 1000

    @property
    def port(self) -> KubeApi:
        return cast("KubeApi", self)

    def put(self, resource: Resource, body: Object) -> Object:
        key = (resource.plural, body["metadata"]["name"])
        known = key in self.objects
        self._version += 1
        body = copy.deepcopy(body)
        body["metadata"]["resourceVersion"] = str(self._version)
        self.objects[key] = body
        self._tell(resource, WatchEvent("MODIFIED" if known else "ADDED", body))
        return body

    def remove(self, resource: Resource, name: str) -> None:
        self._tell(resource, WatchEvent("DELETED", self.objects.pop((resource.plural, name))))

    def put_pods(self, service: str, *addresses: tuple[str, int]) -> None:
        """One slice for each port: a slice has one, and pods on loopback share the address."""
        for (_, name), body in list(self.objects.items()):
            if body["metadata"].get("labels", {}).get("kubernetes.io/service-name") == service:
                self.remove(ENDPOINTSLICES, name)
        for host, port in addresses:
            self.put(ENDPOINTSLICES, endpoint_slice(service, [(host, port)], suffix=f"-{port}"))

    def _tell(self, resource: Resource, event: WatchEvent) -> None:
        for watched, wanted, queue in self._watchers:
            if watched == resource and wanted(event.object):
                queue.put_nowait(event)

    async def watch(
        self, resource: Resource, namespace: str | None, *, labels: Mapping[str, str] | None = None, name: str | None = None
    ) -> AsyncIterator[WatchEvent]:
        def wanted(body: Object) -> bool:
            have = body["metadata"].get("labels", {})
            return name in (None, body["metadata"]["name"]) and all(have.get(key) == value for key, value in (labels or {}).items())

        queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        self._watchers.append((resource, wanted, queue))
        for (plural, _), body in list(self.objects.items()):
            if plural == resource.plural and wanted(body):
                yield WatchEvent("ADDED", body)
        yield WatchEvent("SYNCED", {})
        while True:
            yield await queue.get()

    async def merge_patch(self, resource: Resource, namespace: str, name: str, patch: Object, *, subresource: str | None = None) -> Object:
        assert subresource == "status"
        if self.away:
            raise Unavailable("away")
        body = self.objects[resource.plural, name]
        if patch["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise Conflict("changed")
        self.patches.append(patch)
        return self.put(resource, {**body, "status": patch["status"]})

    async def close(self) -> None:
        self._watchers.clear()


class Pod:
    """A model server on loopback. Set `score`, `status`, `delay` or `handler`; see what came in `requests`."""

    def __init__(self, score: float = 0.5, *, delay: float = 0.0) -> None:
        self.score: float | None = score
        self.status = 200
        self.delay = delay
        self.handler: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.address = ("127.0.0.1", 0)
        self._runner: web.AppRunner | None = None

    @property
    def live(self) -> int:
        return sum("x-kanarya-mirror" not in headers for _, headers, _ in self.requests)

    @property
    def mirrored(self) -> int:
        return len(self.requests) - self.live

    async def start(self) -> None:
        server = web.Application(client_max_size=20 * 2**20)
        server.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(server, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.address = ("127.0.0.1", self._runner.addresses[0][1])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((f"{request.method} {request.raw_path}", headers, await request.read()))
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.handler is not None:
            return await self.handler(request)
        body = {"label": 1} if self.score is None else {"score": self.score, "label": 1}
        return web.json_response(body, status=self.status)


class StreamingPod(Pod):
    """A model server that reads a body piece by piece, and is told when to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.received = 0
        self.lengths: list[int | None] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.finished = 0
        self.broken = 0

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((f"{request.method} {request.raw_path}", {k.lower(): v for k, v in request.headers.items()}, b""))
        self.lengths.append(request.content_length)
        if self.handler is not None:
            return await self.handler(request)
        try:
            await self.may_read.wait()
            async for piece in request.content.iter_any():
                self.received += len(piece)
                await self.may_read.wait()
        except (aiohttp.ClientError, ConnectionError, asyncio.CancelledError):
            self.broken += 1
            raise
        self.finished += 1
        return web.json_response({"score": 0.5, "label": 1})


def standard_objects(api: StubApi, *, stable: int = 100, candidate: int = 0, **settings: Any) -> None:
    api.put(HTTPROUTES, route(stable, candidate))
    api.put(CONFIGMAPS, configmap(**settings))
