"""`/v2/*`: the Open Inference Protocol beside the infer call, with the repository extension."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from kanarya_inference.server.oip import metadata
from kanarya_inference.server.replies import Refused, Reply, document, not_ready
from kanarya_inference.server.requests import Handler, Request, decode
from kanarya_inference.server.settings import ServerSettings
from kanarya_inference.server.store import ModelStore

SERVER = "kanarya"
EXTENSIONS = ["model_repository"]


class IndexBody(msgspec.Struct):
    """Body of the repository index; `ready` leaves out what is not loaded."""

    ready: bool = False


class LoadParameters(msgspec.Struct):
    """Which version is meant."""

    version: str | None = None


class LoadBody(msgspec.Struct):
    """Body of load and unload."""

    parameters: LoadParameters | None = None


class V2Routes:
    """The handlers by path, those of a model by what follows its name."""

    def __init__(self, settings: ServerSettings, *, store: ModelStore, draining: Callable[[], bool]) -> None:
        self._settings, self._store, self._draining = settings, store, draining
        self.handlers: dict[str, dict[str, Handler]] = {
            "/v2": {"GET": self._server},
            "/v2/health/live": {"GET": self._live},
            "/v2/health/ready": {"GET": self._ready},
            "/v2/models": {"GET": self._models},
            "/v2/repository/index": {"POST": self._index},
        }
        self.model_handlers: dict[str, dict[str, Handler]] = {"": {"GET": self._metadata}, "ready": {"GET": self._model_ready}}
        self.repository_handlers: dict[str, dict[str, Handler]] = {"load": {"POST": self._load}, "unload": {"POST": self._unload}}

    async def _server(self, _: Request) -> Reply:
        return document({"name": SERVER, "version": _own_version(), "extensions": EXTENSIONS})

    async def _live(self, _: Request) -> Reply:
        return document({"live": True})

    async def _ready(self, _: Request) -> Reply:
        ready = self._store.active is not None and not self._draining()
        return document({"ready": ready}, status=200 if ready else 503)

    async def _models(self, _: Request) -> Reply:
        return document({"models": [self._settings.name] if self._store.active is not None else []})

    async def _metadata(self, request: Request) -> Reply:
        model = await self._store.get(request.version)
        return document(metadata(self._settings.name, model, self._store.versions()), [model.version_header])

    async def _model_ready(self, request: Request) -> Reply:
        active = self._store.active
        asked = request.version or (active.artefact.version if active else None)
        if asked is not None and asked not in self._store.versions():
            raise Refused(404, f"there is no version {asked[:63]!r} of model {self._settings.name}")
        ready = asked is not None and asked in self._store.loaded and not self._draining()
        return document({"name": self._settings.name, "ready": ready}, status=200 if ready else 503)

    async def _index(self, request: Request) -> Reply:
        only_ready = decode(await request.body() or b"{}", IndexBody).ready
        loaded = self._store.loaded
        entries: list[dict[str, Any]] = []
        for name in self._store.versions():
            ready = name in loaded
            if ready or not only_ready:
                reason = "" if ready else self._store.refusal_of(name) or "not loaded"
                state = "READY" if ready else "UNAVAILABLE"
                entries.append({"name": self._settings.name, "version": name, "state": state, "reason": reason})
        return document(entries)

    async def _load(self, request: Request) -> Reply:
        """Make a version active, as a client of the protocol expects of a load: the infer call without version uses it."""
        request.must_control(self._settings.model_control)
        await self._store.activate(await _version_of(request), by=request.client)
        return document({})

    async def _unload(self, request: Request) -> Reply:
        request.must_control(self._settings.model_control)
        if (named := await _version_of(request)) is None:
            if self._store.active is None:
                raise not_ready(self._store.problem)
            named = self._store.active.artefact.version
        await self._store.unload(named, by=request.client)
        return document({})


async def _version_of(request: Request) -> str | None:
    parameters = decode(await request.body() or b"{}", LoadBody).parameters
    return parameters.version if parameters is not None else None


def _own_version() -> str:
    try:
        return version("kanarya")
    except PackageNotFoundError:
        return "unknown"
