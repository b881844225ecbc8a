"""The offline report beside an artefact: what `kanarya-ml evaluate` said of this very model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from kanarya_inference.registry.artefact import MAX_DOCUMENT_BYTES, Artefact, settled

REPORT: Final = "offline_report.json"
Verdict = Literal["PASS", "FAIL", "missing", "other", "unreadable"]
"""`other`: the report is about another model or version; `unreadable`: the file is no offline report."""


@dataclass(frozen=True)
class OfflineReport:
    """The verdict, and the report's own sha256, empty where there is no file."""

    verdict: Verdict = "missing"
    sha256: str = ""


class Document(msgspec.Struct, rename="camel"):
    """The part of an offline report that says what it is about, and how it ended."""

    version: str
    model_sha256: str
    verdict: Literal["PASS", "FAIL"]


def offline_report(folder: Path, artefact: Artefact) -> OfflineReport:
    """Read the report in an artefact's folder. It counts for the model that it was made of, and for no other; never raises."""
    try:
        with (settled(folder) / REPORT).open("rb") as file:
            content = file.read(MAX_DOCUMENT_BYTES + 1)
    except FileNotFoundError:
        return OfflineReport()
    except OSError:
        return OfflineReport("unreadable")
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        document = msgspec.json.decode(content, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return OfflineReport("unreadable", sha256)
    if (document.version, document.model_sha256) != (artefact.version, artefact.model_sha256):
        return OfflineReport("other", sha256)
    return OfflineReport(document.verdict, sha256)
