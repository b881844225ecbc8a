"""The models in memory: one is active, a few others are kept while they are asked for."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections import OrderedDict
from pathlib import Path

from kanarya_inference.registry import ArtefactError, IntegrityError, check_version
from kanarya_inference.server.counts import Counts
from kanarya_inference.server.logs import audit
from kanarya_inference.server.model import Model, load_model
from kanarya_inference.server.outcomes import Outcomes
from kanarya_inference.server.replies import Refused, not_ready
from kanarya_inference.server.settings import ServerSettings

REFUSED_SECONDS = 10.0
"""How long a version that could not be loaded is refused without being read again."""
MAX_VERSIONS = 1000
log = logging.getLogger(__name__)


class ModelStore:
    """Loads, exchanges and forgets models. Whoever serves a request holds its model, so no exchange disturbs it."""

    def __init__(self, folder: Path, settings: ServerSettings, counts: Counts, outcomes: Outcomes) -> None:
        self.active: Model | None = None
        self.previous: Model | None = None
        self.problem = "the model is being loaded"
        self.last_refusal: str | None = None
        self._folder, self._settings, self._counts, self._outcomes = folder, settings, counts, outcomes
        self._loaded: OrderedDict[str, Model] = OrderedDict()
        self._refused: dict[str, tuple[float, Refused]] = {}
        self._loading = asyncio.Lock()

    @property
    def loaded(self) -> list[str]:
        """Versions in memory, the one used least recently first."""
        return list(self._loaded)

    def versions(self) -> list[str]:
        """Every version that can be asked for, sorted. Reads the repository's folder."""
        found = set(self._loaded)
        if self._settings.repository is not None:
            try:
                folders = [path.name for path in self._settings.repository.iterdir() if (path / "metadata.json").is_file()]
            except OSError as error:
                log.warning("the repository cannot be read: %s", error)
                folders = []
            found |= {name for name in folders[:MAX_VERSIONS] if _is_version(name)}
        return sorted(found)

    def refusal_of(self, version: str) -> str | None:
        """Return why a version could not be loaded a moment ago."""
        return str(refused[1]) if (refused := self._refused.get(version)) else None

    def load_first(self, by: str = "start") -> None:
        """Load the model the server was started with; a failure becomes the reason for not being ready. Blocks for up to seconds."""
        try:
            self._activate(self._read(self._folder, None), by)
        except Refused as error:
            self.problem = str(error)

    async def get(self, version: str | None) -> Model:
        """Return a version, loaded if need be; None is the active one. Raises `Refused` when it is unknown or cannot be loaded."""
        if (active := self.active) is None:
            raise not_ready(self.problem)
        if version is None or version == active.artefact.version:
            return active
        if (model := self._loaded.get(version)) is None:
            model = await self.load(version, by="request")
        self._loaded.move_to_end(version)
        return model

    async def load(self, version: str, by: str) -> Model:
        """Load a version of the repository without making it active. Raises `Refused`."""
        async with self._loading:
            if (model := self._loaded.get(version)) is not None:
                return model
            folder = self._folder_of(version)
            if (refused := self._refused.get(version)) and time.monotonic() - refused[0] < REFUSED_SECONDS:
                raise refused[1]
            try:
                model = self._keep(await asyncio.to_thread(self._read, folder, version))
            except Refused as error:
                self._refused[version] = time.monotonic(), error
                raise
            self._audit("load", model, by)
            return model

    async def activate(self, version: str | None, by: str) -> Model:
        """Make a version active; None reads the folder again that the server was started with. The old one serves until then.

        Raises `Refused`, and everything stays as it was.
        """
        model = await self.load(version, by) if version is not None else None
        async with self._loading:
            if model is None:
                model = await asyncio.to_thread(self._read, self._folder, None)
            return self._activate(model, by)

    async def unload(self, version: str, by: str) -> None:
        """Take a version out of memory. Raises `Refused` when it is not there, or active."""
        async with self._loading:
            if self.active is not None and version == self.active.artefact.version:
                raise Refused(409, f"version {version} is the active one: make another active first")
            if (model := self._loaded.pop(version, None)) is None:
                raise Refused(404, f"version {version} is not loaded")
            self._forget(model)
            self._audit("unload", model, by)

    def _folder_of(self, version: str) -> Path:
        known = self._settings.repository is not None and _is_version(version)
        folder = (self._settings.repository or Path()) / version
        if not known or not folder.is_dir():
            raise Refused(404, f"there is no version {version[:63]!r} of model {self._settings.name}")
        return folder

    def _read(self, folder: Path, version: str | None) -> Model:
        """Read and check a model; what is wrong is counted, logged and raised as `Refused`. Runs on a thread."""
        try:
            model = load_model(folder, version)
        except ArtefactError as error:
            broken = isinstance(error, IntegrityError)
            self._counts.integrity_errors += broken
            self._counts.errors["integrity" if broken else "load"] += 1
            log.error("model refused: %s", error)  # noqa: TRY400 -- the sentence says it all
            problem = str(error)
        except Exception as error:  # a server that cannot say why it is not ready helps nobody
            self._counts.errors["load"] += 1
            log.exception("model not loaded")
            problem = f"the model could not be loaded: {type(error).__name__}; see the server's log"
        else:
            return model
        self.last_refusal = problem
        fields = {"action": "refuse", "version": version, "reason": problem}
        audit.warning("model refused", extra={"fields": {"event": "model_change", **fields}})
        raise Refused(503, problem, counted="error")

    def _activate(self, model: Model, by: str) -> Model:
        before = self.active
        model = self._keep(model)
        if before is not None and before.artefact.version != model.artefact.version:
            self.previous = before
        self._counts.active, self._counts.report = model.artefact, model.report
        self.active = model
        log.info("model %s loaded, sha256 %s", model.artefact.version, model.artefact.model_sha256)
        self._audit("activate", model, by, before)
        self._evict(model)
        return model

    def _keep(self, model: Model) -> Model:
        """Put a model among the loaded ones, and take out the one used least recently when there are too many."""
        version = model.artefact.version
        if self._loaded.get(version) is not model:
            counts = self._counts.use(model.artefact)
            number = self._outcomes.know(version, model.artefact.decision_threshold)
            model = dataclasses.replace(model, counts=counts, number=number)
        self._loaded[version] = model
        self._loaded.move_to_end(version)
        self._refused.pop(version, None)
        self._evict(model)
        return model

    def _evict(self, newest: Model) -> None:
        while len(self._loaded) > self._settings.loaded_models:
            chosen = next((v for v, m in self._loaded.items() if m is not self.active and m is not newest), None)
            if chosen is None:
                break
            evicted = self._loaded.pop(chosen)
            self._forget(evicted)
            self._audit("evict", evicted, "least recently used")
        self._counts.loaded = tuple(self._loaded)

    def _forget(self, model: Model) -> None:
        if self.previous is model:
            self.previous = None
        self._counts.loaded = tuple(self._loaded)

    def _audit(self, action: str, model: Model, by: str, before: Model | None = None) -> None:
        fields = {
            "event": "model_change",
            "action": action,
            "version": model.artefact.version,
            "sha256": model.artefact.model_sha256,
            "previous_version": before.artefact.version if before else None,
            "by": by,
        }
        audit.info("model %s: %s", action, model.artefact.version, extra={"fields": fields})


def _is_version(name: str) -> bool:
    try:
        check_version(name)
    except ArtefactError:
        return False
    return True
