"""The golden batch of an artefact: inputs with the scores that training got, which the loaded model must give again.

A sum shows that a file is the trained one. The batch shows that this runtime, on this processor, makes the same scores of it.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kanarya_inference.registry import Artefact, ArtefactError, IntegrityError

GOLDEN = "golden.json"
MAX_BYTES = 4 << 20
MAX_TOLERANCE = 0.01


class GoldenBatch(msgspec.Struct):
    """`inputs` is rows x columns as the model gets them, `scores` one for each row, `tolerance` the largest difference allowed."""

    inputs: list[list[float]]
    scores: list[float]
    tolerance: float = 1e-5


def read_golden(folder: Path, artefact: Artefact) -> GoldenBatch | None:
    """Return the artefact's golden batch, None when it has none. Raises `IntegrityError` when it is not the one training wrote."""
    sums: Any = artefact.metadata.get("sha256")
    expected = sums.get(GOLDEN) if isinstance(sums, dict) else None
    try:
        with (folder / GOLDEN).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        if expected is not None:
            raise IntegrityError(f"{GOLDEN} is missing, though the metadata has its sum") from None
        return None
    except OSError as error:
        raise ArtefactError(f"{folder / GOLDEN} cannot be read: {error.strerror or error}") from None
    if len(content) > MAX_BYTES:
        raise ArtefactError(f"{GOLDEN} has more than {MAX_BYTES} bytes")
    found = hashlib.sha256(content).hexdigest()
    if expected is not None and found != expected:
        raise IntegrityError(f"{GOLDEN} has sha256 {found}, the metadata says {expected}: the file is not the one that was trained")
    try:
        batch = msgspec.json.decode(content, type=GoldenBatch)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtefactError(f"{GOLDEN} is no golden batch: {error}") from None
    columns = len(artefact.schema.columns)
    if not batch.inputs or len(batch.inputs) != len(batch.scores) or any(len(row) != columns for row in batch.inputs):
        raise ArtefactError(f"{GOLDEN} needs as many `scores` as `inputs`, and {columns} numbers in each input")
    if not 0 < batch.tolerance <= MAX_TOLERANCE:
        raise ArtefactError(f"{GOLDEN}: `tolerance` is above 0 and at most {MAX_TOLERANCE}")
    return batch


def check_parity(batch: GoldenBatch, scores: NDArray[np.float64]) -> None:
    """Raise `IntegrityError` when a score is further from the trained one than the batch allows."""
    differences = np.abs(scores - np.asarray(batch.scores, dtype=np.float64))
    worst = float(np.max(differences))
    if math.isnan(worst) or worst > batch.tolerance:
        row = int(np.argmax(differences))
        raise IntegrityError(
            f"golden batch: row {row} has score {scores[row]:.6g} here and {batch.scores[row]:.6g} in training, "
            f"more than {batch.tolerance:g} apart: this runtime does not compute the trained model"
        )
