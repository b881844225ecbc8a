"""A registry of one model's versions in a folder, for example on a persistent volume.

    <root>/<model>/index.json            stages, lineage and the sum of every file; replaced whole
    <root>/<model>/versions/<version>/   an artefact, written once and never changed, and its offline report, which servers read there
    <root>/<model>/.lock                 held by writers; readers need no lock

A version is there from the moment the index names it. What a killed writer left behind is not named, and removed by the next one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from kanarya_inference.registry.artefact import (
    METADATA,
    MODEL,
    PARITY,
    REFERENCE,
    SKOPS,
    Artefact,
    ArtefactError,
    IntegrityError,
    check_version,
    read_artefact,
)
from kanarya_inference.registry.files import flush_folder, locked, write_atomically, write_flushed
from kanarya_inference.registry.offline import REPORT
from kanarya_inference.registry.parity import Scorer, load_verified

INDEX_VERSION = 1
INDEX, LOCK, VERSIONS = "index.json", ".lock", "versions"
STAGES = ("candidate", "staging", "production", "archived")
PRODUCTION, ARCHIVED = "production", "archived"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_FILES = (MODEL, REFERENCE, PARITY, SKOPS)
_INCOMING = ".incoming"


class RegistryError(Exception):
    """The registry cannot do what was asked; the message says what to change."""


class Registry:
    """The versions of one model. Raises `RegistryError`, and `ArtefactError` for artefacts that are not what they were."""

    def __init__(self, root: Path, name: str, clock: Callable[[], float] = time.time) -> None:
        if not _NAME.fullmatch(name):
            raise RegistryError(f"model name {name!r}: use 1 to 63 lower-case letters, digits and '-', with a letter or digit at both ends")
        self.folder = root / name
        self._name = name
        self._clock = clock

    # -- reading ----------------------------------------------------------------------------------------------------------

    def versions(self) -> dict[str, dict[str, Any]]:
        """Return every version's entry, oldest first."""
        return dict(self._index()["versions"])

    def entry(self, version: str) -> dict[str, Any]:
        """Return one version's entry."""
        known = self.versions()
        if version not in known:
            raise RegistryError(f"{self._name} has no version {version}; there are {', '.join(known) or 'none'}")
        return known[version]

    def in_stage(self, stage: str) -> list[str]:
        """Name the versions in a stage."""
        return [version for version, entry in self.versions().items() if entry["stage"] == stage]

    def lineage(self, version: str) -> list[str]:
        """Return the version and the versions it comes from, nearest first."""
        known, chain = self.versions(), [version]
        while (parent := known.get(chain[-1], {}).get("parent")) and parent not in chain:
            chain.append(parent)
        return chain

    def path(self, version: str) -> Path:
        """Return the folder of a version's artefact."""
        self.entry(version)
        return self.folder / VERSIONS / version

    def load_verified(self, version: str, scorer: Callable[[Artefact], Scorer] | None = None) -> Artefact:
        """Return a version's artefact, when every file has the sum that the index names and the model gives training's scores."""
        folder = self.path(version)
        self._check_sums(version, folder)
        return load_verified(folder, scorer)

    def verify(self) -> dict[str, str]:
        """Check every version; returns what is wrong, keyed by version."""
        problems = {}
        for version in self.versions():
            try:
                self.load_verified(version)
            except ArtefactError as error:
                problems[version] = f"{error.reason}: {error}"
        return problems

    # -- writing ----------------------------------------------------------------------------------------------------------

    def add(self, artefact: Path, *, parent: str | None = None) -> str:
        """Copy an artefact in as a candidate; returns its version. Adding the same artefact again changes nothing."""
        version = read_artefact(artefact).version
        with self._writing() as index:
            known = index["versions"]
            if parent is not None and parent not in known:
                raise RegistryError(f"{self._name} has no version {parent} to descend from")
            incoming = self.folder / VERSIONS / _INCOMING
            sums = self._copy(artefact, incoming)
            copied = load_verified(incoming)
            if copied.version != version:
                raise RegistryError(f"{artefact} changed while it was read: add it again")
            if version in known:
                shutil.rmtree(incoming)
                if known[version]["sha256"] != sums:
                    raise RegistryError(
                        f"{self._name} has another version {version}: a version never changes, give the new model a new one"
                    )
                return version
            target = self.folder / VERSIONS / version
            shutil.rmtree(target, ignore_errors=True)  # of a writer that was killed before the index named it
            incoming.rename(target)
            flush_folder(target.parent)
            known[version] = self._entry(copied.metadata, sums, parent)
            self._write(index)
        return version

    def attach(self, version: str, report: Path) -> str:
        """Keep an offline report with the version it is about; returns its verdict."""
        content = report.read_bytes()
        try:
            document = msgspec.json.decode(content)
            found, model, verdict, golden = (document[key] for key in ("version", "modelSha256", "verdict", "golden"))
        except (msgspec.DecodeError, KeyError, TypeError):
            raise RegistryError(f"{report} is no offline report: make it with `kanarya-ml evaluate`") from None
        with self._writing() as index:
            entry = _known(index, version)
            if found != version or model != entry["sha256"][MODEL]:
                raise RegistryError(f"{report} is about version {found} with model {str(model)[:12]}…, not about this {version}")
            write_atomically(self.folder / VERSIONS / version / REPORT, content)
            entry["evaluation"] = {"verdict": verdict, "golden": golden, "reportSha256": _sha256(content)}
            self._write(index)
        return str(verdict)

    def promote(self, version: str, stage: str, *, unevaluated: bool = False) -> list[str]:
        """Move a version to a stage; returns the versions that production archived in its favour.

        Production takes an offline report that passed, unless `unevaluated`, and a model that verifies.
        """
        if stage not in STAGES:
            raise RegistryError(f"unknown stage {stage}: choose from {', '.join(STAGES)}")
        with self._writing() as index:
            entry = _known(index, version)
            replaced: list[str] = []
            if stage == PRODUCTION:
                verdict = (entry.get("evaluation") or {}).get("verdict", "none")
                if verdict != "PASS" and not unevaluated:
                    raise RegistryError(
                        f"version {version} has no offline report that passed (verdict: {verdict}): evaluate it, attach the report"
                    )
                self._check_sums(version, self.folder / VERSIONS / version)
                load_verified(self.folder / VERSIONS / version)
                replaced = [other for other, one in index["versions"].items() if one["stage"] == PRODUCTION and other != version]
            for changed, target in [*((other, ARCHIVED) for other in replaced), (version, stage)]:
                self._move(index["versions"][changed], target)
            self._write(index)
        return replaced

    # -- the parts --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _writing(self) -> Iterator[dict[str, Any]]:
        """Hold the lock, with the index as it is now: read any earlier it could be another writer's past."""
        (self.folder / VERSIONS).mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self.folder / LOCK))
            except TimeoutError as error:
                raise RegistryError(str(error)) from None
            yield self._index()

    def _index(self) -> dict[str, Any]:
        path = self.folder / INDEX
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return {"schemaVersion": INDEX_VERSION, "name": self._name, "versions": {}}
        try:
            index: dict[str, Any] = msgspec.json.decode(content)
            if index["schemaVersion"] != INDEX_VERSION or not isinstance(index["versions"], dict):
                raise RegistryError(f"{path} has schema version {index['schemaVersion']!r}, this program knows {INDEX_VERSION}")
        except (msgspec.DecodeError, KeyError, TypeError):
            raise RegistryError(f"{path} is not the index of a registry") from None
        return index

    def _write(self, index: Mapping[str, Any]) -> None:
        write_atomically(self.folder / INDEX, (json.dumps(index, indent=1) + "\n").encode())

    def _copy(self, source: Path, target: Path) -> dict[str, str]:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        sums = {}
        metadata = (source / METADATA).read_bytes()
        named = msgspec.json.decode(metadata).get("sha256", {})
        for name in [one for one in _FILES if one in named]:
            content = (source / name).read_bytes()
            sums[name] = _sha256(content)
            if sums[name] != named[name]:
                raise IntegrityError(
                    f"{name} has sha256 {sums[name]}, {METADATA} says {named[name]}: the file is not the one that was trained"
                )
            write_flushed(target / name, content)
        write_flushed(target / METADATA, metadata)
        flush_folder(target)
        return {**sums, METADATA: _sha256(metadata)}

    def _check_sums(self, version: str, folder: Path) -> None:
        for name, expected in self.entry(version)["sha256"].items():
            try:
                found = _sha256((folder / name).read_bytes())
            except OSError as error:
                raise IntegrityError(f"{folder / name} cannot be read: {error.strerror}") from None
            if found != expected:
                raise IntegrityError(f"{folder / name} has sha256 {found}, the index says {expected}")

    def _entry(self, metadata: Mapping[str, Any], sums: Mapping[str, str], parent: str | None) -> dict[str, Any]:
        data = metadata.get("data")
        entry: dict[str, Any] = {
            "stage": "",
            "parent": parent,
            "kind": metadata.get("kind"),
            "gitSha": metadata.get("gitSha"),
            "dataSha256": data.get("sha256") if isinstance(data, Mapping) else None,
            "sha256": dict(sums),
            "evaluation": None,
            "history": [],
        }
        self._move(entry, STAGES[0])
        return entry

    def _move(self, entry: dict[str, Any], stage: str) -> None:
        if entry["stage"] != stage:
            entry["stage"] = stage
            entry["history"].append({"stage": stage, "at": round(self._clock(), 3)})


def _known(index: Mapping[str, Any], version: str) -> dict[str, Any]:
    check_version(version)
    if version not in index["versions"]:
        raise RegistryError(f"{index['name']} has no version {version}; there are {', '.join(index['versions']) or 'none'}")
    entry: dict[str, Any] = index["versions"][version]
    return entry


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
