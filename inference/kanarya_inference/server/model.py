"""A loaded model: an artefact and one ONNX Runtime session, checked and warmed up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanarya_inference.features import RequestReader
from kanarya_inference.registry import Artefact, ArtefactError, OfflineReport, Scorer, load_verified, offline_report, open_session
from kanarya_inference.server.counts import VersionCounts

INPUT, OUTPUT = "features", "probabilities"
WARM_UP_RUNS, WARM_UP_SECONDS = 10, 0.5
INLINE_SECONDS = 0.002
"""An inference expected to take longer leaves the event loop to other requests and runs on a thread."""


class BadScoreError(ValueError):
    """The model's score is not a number from 0 to 1."""


@dataclass(frozen=True)
class Model:
    """Scores vectors; `reader` makes them. `row_seconds` is what one row takes, `number` names the version to the outcomes.

    `watched` are the columns watched for drift: index and what bins a value.
    """

    artefact: Artefact
    reader: RequestReader
    session: Any
    row_seconds: float = 0.0
    number: int = 0
    counts: VersionCounts = field(default_factory=VersionCounts)
    version_header: tuple[bytes, bytes] = (b"x-model-version", b"")
    watched: Sequence[tuple[int, Callable[[float | None], int]]] = ()
    report: OfflineReport = field(default_factory=OfflineReport)

    def scores(self, rows: NDArray[np.float32]) -> list[float]:
        """Return the probability of label 1 for each of n x columns. Raises `BadScoreError` when one is no probability."""
        scores: list[float] = self.session.run([OUTPUT], {INPUT: rows})[0][:, 1].tolist()
        for score in scores:
            if not 0.0 <= score <= 1.0:
                raise BadScoreError("the model's score is not a number from 0 to 1")
        return scores

    def inline(self, rows: int) -> bool:
        """Tell whether this many rows are scored fast enough to do it on the event loop."""
        return self.row_seconds * rows <= INLINE_SECONDS


def load_model(folder: Path, version: str | None = None) -> Model:
    """Read an artefact, open a session on its bytes, compare it with its parity batch and warm it up. Blocks for up to seconds.

    Raises `ArtefactError` when the model does not work or is not the `version` that was meant, `IntegrityError` when it is not the
    trained one.
    """
    opened: list[Any] = []

    def scorer(artefact: Artefact) -> Scorer:
        opened.append(open_session(artefact.model))
        return lambda rows: opened[0].run([OUTPUT], {INPUT: rows})[0][:, 1]

    artefact = load_verified(folder, scorer)
    if version not in (None, artefact.version):
        raise ArtefactError(f"the folder {folder.name} holds version {artefact.version}")
    reader = RequestReader(artefact.schema, artefact.reference)
    model = Model(artefact, reader, opened[0])
    row = np.zeros((1, len(artefact.schema.columns)), dtype=np.float32)
    seconds = [_seconds(model, row)]
    while len(seconds) < WARM_UP_RUNS and sum(seconds) < WARM_UP_SECONDS:
        seconds.append(_seconds(model, row))
    # The fastest run: the others also measure what else the machine does.
    header = (b"x-model-version", artefact.version.encode())
    features = artefact.reference.features
    watched = tuple((index, features[column.name].bin_of) for index, column in enumerate(artefact.schema.columns) if column.drift)
    report = offline_report(folder, artefact)
    return Model(artefact, reader, opened[0], row_seconds=min(seconds), version_header=header, watched=watched, report=report)


def _seconds(model: Model, row: NDArray[np.float32]) -> float:
    started = perf_counter()
    model.scores(row)
    return perf_counter() - started
