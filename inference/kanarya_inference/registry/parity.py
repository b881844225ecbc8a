"""The parity batch of an artefact: inputs with the scores the trained model gave them, against which every load is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanarya_inference.registry.artefact import PARITY, Artefact, ArtefactError, IntegrityError, read_artefact

PARITY_VERSION = 1
PARITY_TOLERANCE = 1e-5

Scorer = Callable[[NDArray[np.float32]], NDArray[Any]]
"""Gives the probability of label 1 for each row of a matrix, rows x columns."""


class ParityError(IntegrityError):
    """The ONNX model does not give the scores that the trained model gave."""

    reason = "ParityMismatch"


@dataclass(frozen=True)
class ParityBatch:
    """Inputs, rows x columns, and the trained model's probability of label 1 for each row."""

    inputs: NDArray[np.float32]
    scores: NDArray[np.float64]

    @classmethod
    def from_json(cls, data: Mapping[str, Any], columns: int) -> ParityBatch:
        """Read a batch. Raises `ArtefactError`."""
        if data.get("schemaVersion") != PARITY_VERSION:
            raise ArtefactError(f"{PARITY}: schema version {data.get('schemaVersion')!r} is unknown; this server reads {PARITY_VERSION}")
        try:
            inputs, scores = np.array(data["inputs"], dtype=np.float32), np.array(data["scores"], dtype=np.float64)
        except (KeyError, TypeError, ValueError):
            raise ArtefactError(f"{PARITY} is an object with `inputs`, rows of numbers, and `scores`") from None
        if inputs.ndim != 2 or inputs.shape != (len(scores), columns) or not len(scores) or not np.isfinite(scores).all():
            raise ArtefactError(f"{PARITY} has to hold rows of {columns} numbers and a score for each")
        return cls(inputs, scores)

    def to_json(self) -> dict[str, Any]:
        """Write the batch; float32 numbers keep every bit as decimal text."""
        return {"schemaVersion": PARITY_VERSION, "inputs": self.inputs.astype(float).tolist(), "scores": self.scores.tolist()}


def load_verified(folder: Path, scorer: Callable[[Artefact], Scorer] | None = None) -> Artefact:
    """Read an artefact, and let nothing through whose sums or scores are not those of training.

    Parameters
    ----------
    folder
        of the artefact.
    scorer
        makes, from the artefact, what scores its rows: a server gives its own session here. None opens one for the check.

    Raises
    ------
    ArtefactError
        With `reason` `ArtefactUnusable`; `IntegrityError` has `ChecksumMismatch`, `ParityError` has `ParityMismatch`.
        An artefact written without a parity batch has its sums checked, and its model has to score one row of zeros.
    """
    artefact = read_artefact(folder)
    columns = len(artefact.schema.columns)
    batch = None if artefact.parity is None else ParityBatch.from_json(artefact.parity, columns)
    inputs = np.zeros((1, columns), dtype=np.float32) if batch is None else batch.inputs
    try:
        found = np.asarray((scorer or onnx_scorer)(artefact)(inputs), dtype=np.float64)
    except Exception as error:  # ONNX Runtime raises a dozen types of its own, with no common parent but this
        raise ArtefactError(f"model {artefact.version} does not work: {type(error).__name__}: {str(error)[:300]}") from error
    if found.shape != (len(inputs),) or not ((found >= 0) & (found <= 1)).all():
        raise ArtefactError(f"model {artefact.version} does not give one probability for each row")
    if batch is not None:
        difference = float(np.abs(found - batch.scores).max())
        if not difference < PARITY_TOLERANCE:
            raise ParityError(
                f"model {artefact.version} gives scores that differ from training's by up to {difference:.2g}; at most {PARITY_TOLERANCE} "
                "is allowed: its ONNX file is not the trained model, or this ONNX Runtime computes something else"
            )
    return artefact


def open_session(model: bytes) -> Any:
    """Open a session of one thread: a row takes microseconds, and a second one would only fight others for the CPU."""
    import onnxruntime  # noqa: PLC0415 -- a registry can be listed without it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def onnx_scorer(artefact: Artefact) -> Scorer:
    """Open a session on the artefact's model, and give what scores with it."""
    session = open_session(artefact.model)

    def score(matrix: NDArray[np.float32]) -> NDArray[Any]:
        probabilities: NDArray[Any] = session.run(["probabilities"], {"features": matrix})[0][:, 1]
        return probabilities

    return score
