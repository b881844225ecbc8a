"""`/ml/predict` and `/ml/predict/batch`: market snapshots in, scores out."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from kanarya_inference.features import MalformedRequestError, SnapshotError
from kanarya_inference.server.model import Model
from kanarya_inference.server.plane import Rows, Scored
from kanarya_inference.server.replies import Refused, encode


class Prediction(msgspec.Struct, omit_defaults=True):
    """Answer of `/ml/predict`; `latency_ms` is the server's own time. A fallback has no `prediction_id`: it is no prediction."""

    score: float
    label: int
    model_version: str
    latency_ms: float
    prediction_id: str | None = None
    fallback: str | None = None


class BatchPrediction(msgspec.Struct, omit_defaults=True):
    """One row of a batch's answer."""

    score: float
    label: int
    prediction_id: str | None = None


class BatchAnswer(msgspec.Struct, omit_defaults=True):
    """Answer of `/ml/predict/batch`, rows in the order they were sent."""

    predictions: list[BatchPrediction]
    model_version: str
    latency_ms: float
    fallback: str | None = None


class SinglePrediction:
    """`{"snapshot": {…}}`."""

    snapshot_status = 422

    def read(self, model: Model, body: bytes) -> Rows:
        """Read the one snapshot."""
        row, bins = model.reader.read(body)
        return Rows(row, (bins,))

    def write(self, rows: Rows, scored: Scored) -> bytes:  # noqa: ARG002 -- the answer of one row needs nothing of the request
        """Write the one score."""
        score = scored.scores[0]
        prediction_id = scored.ids[0] if scored.ids else None
        version = scored.model.artefact.version
        return encode(Prediction(score, scored.label(score), version, scored.milliseconds, prediction_id, scored.fallback))


class _Batch(msgspec.Struct):
    snapshots: list[msgspec.Raw]


class BatchOfPredictions:
    """`{"snapshots": [{…}, …]}`: all rows or none, in one inference."""

    snapshot_status = 422

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._decoder = msgspec.json.Decoder(_Batch)

    def read(self, model: Model, body: bytes) -> Rows:
        """Read each snapshot as a request of its own would be read; the message names the first that is wrong."""
        try:
            snapshots = self._decoder.decode(body).snapshots
        except msgspec.ValidationError:
            raise SnapshotError('send {"snapshots": [{…}, …]}') from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise MalformedRequestError("the body is not JSON (neither are NaN and Infinity: send null for what is not known)") from None
        if not 1 <= len(snapshots) <= self._max_rows:
            raise Refused(422, f"there are {len(snapshots)} snapshots: send 1 to {self._max_rows}")
        return read_snapshots(model, [bytes(snapshot) for snapshot in snapshots], "snapshots")

    def write(self, rows: Rows, scored: Scored) -> bytes:  # noqa: ARG002 -- rows are answered in their order
        """Write every score."""
        ids: Sequence[str | None] = scored.ids or [None] * len(scored.scores)
        predictions = [BatchPrediction(score, scored.label(score), id_) for score, id_ in zip(scored.scores, ids, strict=True)]
        return encode(BatchAnswer(predictions, scored.model.artefact.version, scored.milliseconds, scored.fallback))


def read_snapshots(model: Model, snapshots: list[bytes], where: str) -> Rows:
    """Read JSON texts of snapshots into rows. Raises what the reader raises, with the row's place in front."""
    rows, bins = [], []
    for index, snapshot in enumerate(snapshots):
        try:
            row, row_bins = model.reader.read(b'{"snapshot":' + snapshot + b"}")
        except (MalformedRequestError, SnapshotError) as error:
            raise type(error)(f"{where}[{index}]: {error}") from None
        rows.append(row)
        bins.append(row_bins)
    return Rows(np.concatenate(rows), bins)
