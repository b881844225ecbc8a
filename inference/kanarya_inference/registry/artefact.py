"""An artefact: one folder with `model.onnx`, `reference.json` and `metadata.json`, whose sums are checked before anything is loaded.

It may also hold `parity.json`, scores of the trained model to check every load by, and `model.skops`, the trained model itself.
Nothing in it is ever unpickled. The folder may be a ConfigMap mount, where every file is a link through `..data`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from kanarya_inference.features import DriftReference, FeatureSchema, SchemaError

METADATA_VERSION = 1
MODEL, REFERENCE, METADATA = "model.onnx", "reference.json", "metadata.json"
PARITY, SKOPS = "parity.json", "model.skops"
MAX_DOCUMENT_BYTES = 1 << 20
MAX_MODEL_BYTES = 256 << 20
# A version travels in a header and in metric and pod labels: what a Kubernetes label value may be.
_VERSION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class ArtefactError(Exception):
    """The folder holds no artefact this server can use; the message says why, `reason` in one word."""

    reason = "ArtefactUnusable"


class IntegrityError(ArtefactError):
    """A file is not the one that training wrote."""

    reason = "ChecksumMismatch"


@dataclass(frozen=True)
class Artefact:
    """A checked artefact; `model` is the ONNX file's bytes, exactly those that were summed. `parity` is None where there is no batch."""

    version: str
    model: bytes
    model_sha256: str
    reference: DriftReference
    reference_sha256: str
    schema: FeatureSchema
    decision_threshold: float
    metadata: Mapping[str, Any]
    parity: Mapping[str, Any] | None = None


def check_version(version: Any) -> str:
    """Return `version` when it is fit for a header and a label. Raises `ArtefactError`."""
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise ArtefactError(
            f"version {version!r} cannot be a label: use 1 to 63 letters, digits, '.', '_' or '-', with a letter or digit at both ends"
        )
    return version


def read_artefact(folder: Path) -> Artefact:
    """Read and check an artefact. Raises `ArtefactError`, and `IntegrityError` when a sum differs."""
    folder = settled(folder)
    metadata = _document(METADATA, _read(folder, METADATA, MAX_DOCUMENT_BYTES))
    if metadata.get("schemaVersion") != METADATA_VERSION:
        raise ArtefactError(
            f"{METADATA}: schema version {metadata.get('schemaVersion')!r} is unknown; this server reads {METADATA_VERSION}"
        )
    version = check_version(metadata.get("version"))
    threshold = metadata.get("decisionThreshold")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold < 1:
        raise ArtefactError(f"{METADATA}: `decisionThreshold` is a number between 0 and 1")
    model = _checked(folder, MODEL, MAX_MODEL_BYTES, metadata)
    reference = _checked(folder, REFERENCE, MAX_DOCUMENT_BYTES, metadata)
    # The sums say whether there is a batch: deleting the file does not switch its check off.
    parity = _checked(folder, PARITY, MAX_DOCUMENT_BYTES, metadata) if PARITY in metadata.get("sha256", {}) else None
    try:
        schema = FeatureSchema.from_json(metadata.get("features"))
        drift = DriftReference.from_json(_document(REFERENCE, reference), schema)
    except SchemaError as error:
        raise ArtefactError(str(error)) from None
    return Artefact(
        version=version,
        model=model,
        model_sha256=_sha256(model),
        reference=drift,
        reference_sha256=_sha256(reference),
        schema=schema,
        decision_threshold=float(threshold),
        metadata=metadata,
        parity=None if parity is None else _document(PARITY, parity),
    )


def write_artefact(
    folder: Path,
    *,
    model: bytes,
    reference: DriftReference,
    metadata: Mapping[str, Any],
    parity: Mapping[str, Any] | None = None,
    skops: bytes | None = None,
) -> None:
    """Write an artefact; the sums are added to `metadata`, which is written last, so that a half-written folder is refused."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        MODEL: model,
        REFERENCE: _json(reference.to_json()),
        **({} if parity is None else {PARITY: _json(parity)}),
        **({} if skops is None else {SKOPS: skops}),
    }
    (folder / METADATA).unlink(missing_ok=True)
    for name in (PARITY, SKOPS):
        (folder / name).unlink(missing_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    sums = {name: _sha256(content) for name, content in files.items()}
    (folder / METADATA).write_bytes(_json({"schemaVersion": METADATA_VERSION, **metadata, "sha256": sums}))


def settled(folder: Path) -> Path:
    """Return the folder that `..data` points to now: a ConfigMap update swaps that link, and the files must be of one update."""
    data = folder / "..data"
    return Path(os.path.realpath(data)) if data.is_symlink() else folder


def _read(folder: Path, name: str, limit: int) -> bytes:
    try:
        with (folder / name).open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ArtefactError(f"{folder / name} cannot be read: {error.strerror or error}") from None
    if len(content) > limit:
        raise ArtefactError(f"{folder / name} has more than {limit} bytes")
    return content


def _checked(folder: Path, name: str, limit: int, metadata: Mapping[str, Any]) -> bytes:
    sums = metadata.get("sha256")
    expected = sums.get(name) if isinstance(sums, Mapping) else None
    if not isinstance(expected, str):
        raise IntegrityError(f"{METADATA} has no sha256 of {name}: train the artefact again")
    content = _read(folder, name, limit)
    found = _sha256(content)
    if found != expected:
        raise IntegrityError(f"{name} has sha256 {found}, {METADATA} says {expected}: the file is not the one that was trained")
    return content


def _document(name: str, content: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ArtefactError(f"{name} is not JSON") from None
    if not isinstance(document, dict):
        raise ArtefactError(f"{name} is not a JSON object")
    return document


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
