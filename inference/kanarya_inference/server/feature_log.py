"""A sampled log of what was scored, one JSON object a line: what retraining needs. Off unless asked for.

Which predictions are in it follows from their id alone, so that the line of an outcome can be written by any pod and still meets
the line of its prediction.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from kanarya_inference.registry import Artefact

WAITING_LINES = 10_000
DEFAULT_MAX_BYTES = 32 << 20
REDACTED = "[redacted]"


@dataclass(frozen=True)
class FeatureLogSettings:
    """Where to write and what.

    Parameters
    ----------
    target
        a file, or `-` for standard output (the server's own log goes to standard error).
    share
        share of predictions that are written, 0 to 1.
    redact
        names of columns whose values are never written.
    max_bytes
        a file of this size is renamed to `NAME.1`, over the one before, and begun anew.
    """

    target: str
    share: float = 0.01
    redact: frozenset[str] = frozenset()
    max_bytes: int = DEFAULT_MAX_BYTES

    def __post_init__(self) -> None:
        """Raise `ValueError` for a share that is none."""
        if not 0 <= self.share <= 1:
            raise ValueError("the share of the feature log is from 0 to 1")


class FeatureLog:
    """Writes lines on a thread of its own: a slow disk or reader costs lines, which are counted, and never a prediction's time."""

    def __init__(self, settings: FeatureLogSettings) -> None:
        self.written = 0
        self.dropped = 0
        self._settings = settings
        self._below = settings.share * 2**32
        self._lines: queue.Queue[bytes | None] = queue.Queue(WAITING_LINES)
        self._thread = threading.Thread(target=self._write, name="feature-log", daemon=True)
        self._thread.start()

    def wants(self, prediction_id: str) -> bool:
        """Tell whether a prediction is among the sampled ones."""
        return zlib.crc32(prediction_id.encode("utf-8", "surrogatepass")) < self._below

    def prediction(self, artefact: Artefact, prediction_id: str, row: NDArray[np.float32], bins: Sequence[int], score: float) -> None:
        """Write a scored row: its columns as the model got them, null where the client sent null."""
        counts = {name: artefact.reference.features[name].counts for name in artefact.schema.drift_names}
        missing = {name for (name, of), index in zip(counts.items(), bins, strict=True) if index == len(of) - 1}
        features = {
            name: REDACTED if name in self._settings.redact else None if name in missing else float(value)
            for name, value in zip(artefact.schema.names, row, strict=True)
        }
        self._put({"kind": "prediction", "id": prediction_id, "model_version": artefact.version, "score": score, "features": features})

    def outcome(self, prediction_id: str, label: int) -> None:
        """Write the true label of a prediction."""
        self._put({"kind": "outcome", "id": prediction_id, "label": label})

    def close(self, seconds: float = 5.0) -> None:
        """Write what waits, for `seconds` at most."""
        try:
            self._lines.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _put(self, line: dict[str, Any]) -> None:
        try:
            self._lines.put_nowait(msgspec.json.encode({"time": round(time.time(), 3), **line}) + b"\n")
        except queue.Full:
            self.dropped += 1

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                with self._open() as file:
                    file.write(line)
                    self.written += 1
                    for _ in range(self._lines.qsize()):  # what has come meanwhile goes into the same open file
                        if (line := self._lines.get()) is None:
                            return
                        file.write(line)
                        self.written += 1
            except OSError:
                self.dropped += 1

    def _open(self) -> BinaryIO:
        if self._settings.target == "-":
            return open(sys.stdout.fileno(), "ab", closefd=False)
        path = Path(self._settings.target)
        if path.exists() and path.stat().st_size >= self._settings.max_bytes:
            path.replace(path.with_name(path.name + ".1"))
        return path.open("ab")
