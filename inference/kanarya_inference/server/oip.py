"""Inference by the Open Inference Protocol, version 2, over REST.

A model takes either one tensor `features`, n x columns as the model itself sees them, or one tensor of n values for each field of a
snapshot, which is read like `/ml/predict`: there null is allowed, and the schema's words stand in error messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kanarya_inference.features import MalformedRequestError
from kanarya_inference.features.table import FLOAT32_MAX
from kanarya_inference.server.model import INPUT, OUTPUT, Model
from kanarya_inference.server.plane import Rows, Scored
from kanarya_inference.server.predict import read_snapshots
from kanarya_inference.server.replies import Refused, encode
from kanarya_inference.server.tensors import InferAnswer, InferRequest, RequestedOutput, Tensor, TensorError, check_shape, flat_values

PLATFORM = "onnx_onnxv1"
OUTPUTS = ("score", "label", OUTPUT)
MATRIX = f"input {INPUT}"
_Matrix = tuple[NDArray[np.float32], Sequence[Sequence[int]]]


class Infer:
    """The infer call."""

    snapshot_status = 400

    def __init__(self, name: str, max_rows: int) -> None:
        self._name, self._max_rows = name, max_rows
        self._decoder = msgspec.json.Decoder(InferRequest)

    def read(self, model: Model, body: bytes) -> Rows:
        """Read the input tensors."""
        try:
            request = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise Refused(400, f"the body is no infer request: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise MalformedRequestError("the body is not JSON (neither are NaN and Infinity)") from None
        wanted = _wanted(request.outputs) if request.outputs else OUTPUTS
        try:
            matrix, bins = self._matrix(model, request.inputs[0]) if _is_matrix(request.inputs) else self._fields(model, request.inputs)
        except TensorError as error:
            raise Refused(400, str(error)) from None
        return Rows(matrix, bins, (request.id, wanted))

    def write(self, rows: Rows, scored: Scored) -> bytes:
        """Write the outputs asked for."""
        request_id, wanted = rows.context
        parameters: dict[str, Any] = {"prediction_ids": scored.ids} if scored.ids else {}
        if scored.fallback is not None:
            parameters["fallback"] = scored.fallback
        answer = InferAnswer(self._name, scored.model.artefact.version, _outputs(wanted, scored), request_id, parameters or None)
        return encode(answer)

    def _matrix(self, model: Model, tensor: Tensor) -> _Matrix:
        columns, shape = model.artefact.schema.columns, tensor.shape
        if tensor.datatype == "BYTES":
            raise TensorError(f"{MATRIX}: datatype BYTES holds no numbers: send FP32")
        if len(shape) != 2 or shape[1] != len(columns) or not 1 <= shape[0] <= self._max_rows:
            raise self._wrong_shape(tensor, [column.name for column in columns])
        values, with_null = flat_values(tensor, MATRIX)
        if with_null:
            raise TensorError(f"{MATRIX}: null is allowed only where each field is a tensor of its own")
        if tensor.datatype == "FP64" and not (min(values) >= -FLOAT32_MAX and max(values) <= FLOAT32_MAX):
            raise TensorError(f"{MATRIX}: a value is beyond ±{FLOAT32_MAX:.3g}")
        # Binned as they were sent: after rounding to float32 a value could fall on the other side of an edge.
        if shape[0] == 1:
            bins = [[bin_of(values[index]) for index, bin_of in model.watched]]
        else:
            starts = range(0, len(values), len(columns))
            bins = [[bin_of(values[start + index]) for index, bin_of in model.watched] for start in starts]
        return np.array(values, dtype=np.float32).reshape(shape), bins

    def _wrong_shape(self, tensor: Tensor, columns: list[str]) -> TensorError:
        check_shape(tensor, MATRIX)
        if len(tensor.shape) != 2 or tensor.shape[1] != len(columns):
            return TensorError(f"{MATRIX}: shape is [rows, {len(columns)}], in the order {', '.join(columns)}")
        return self._wrong_size(tensor.shape[0])

    def _fields(self, model: Model, tensors: list[Tensor]) -> _Matrix:
        fields = {column.field for column in model.artefact.schema.columns if column.field is not None}
        if not tensors:
            raise TensorError(f"inputs: send one tensor {INPUT}, or one for each of {', '.join(sorted(fields))}")
        columns: dict[str, list[Any]] = {}
        for tensor in tensors:
            where = f"input {tensor.name[:60]}"
            if tensor.name not in fields:
                raise TensorError(f"{where}: unknown; send one tensor {INPUT}, or one for each of {', '.join(sorted(fields))}")
            if tensor.name in columns:
                raise TensorError(f"{where}: there are two of this name")
            check_shape(tensor, where)
            if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ([], [1]):
                raise TensorError(f"{where}: shape is [rows] or [rows, 1]")
            columns[tensor.name], _ = flat_values(tensor, where)
        sizes = {len(values) for values in columns.values()}
        if len(sizes) > 1:
            raise TensorError("the inputs have different numbers of rows")
        if not 1 <= (size := sizes.pop()) <= self._max_rows:
            raise self._wrong_size(size)
        rows = zip(*columns.values(), strict=True)
        read = read_snapshots(model, [encode(dict(zip(columns, row, strict=True))) for row in rows], "row")
        return read.matrix, read.bins

    def _wrong_size(self, rows: int) -> TensorError:
        return TensorError(f"there are {rows} rows: send 1 to {self._max_rows}")


def _wanted(outputs: list[RequestedOutput]) -> tuple[str, ...]:
    """Return the names asked for, each once. Raises `Refused`."""
    for output in outputs:
        if output.name not in OUTPUTS:
            raise Refused(400, f"there is no output {output.name[:60]!r}: choose from {', '.join(OUTPUTS)}")
    return tuple(dict.fromkeys(output.name for output in outputs))


def _is_matrix(inputs: list[Tensor]) -> bool:
    return len(inputs) == 1 and inputs[0].name == INPUT


def _outputs(wanted: tuple[str, ...], scored: Scored) -> list[Tensor]:
    scores, outputs = scored.scores, []
    rows = len(scores)
    for name in wanted:
        if name == "score":
            outputs.append(Tensor(name, [rows], "FP32", scores))
        elif name == "label":
            threshold = scored.model.artefact.decision_threshold
            outputs.append(Tensor(name, [rows], "INT64", [1 if score >= threshold else 0 for score in scores]))
        else:
            outputs.append(Tensor(name, [rows, 2], "FP32", [part for score in scores for part in (1 - score, score)]))
    return outputs


def metadata(name: str, model: Model, versions: list[str]) -> dict[str, Any]:
    """Return the model's metadata: what its inputs and outputs are called, -1 for any number of rows."""
    columns = model.artefact.schema.columns
    return {
        "name": name,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": [
            {
                "name": INPUT,
                "datatype": "FP32",
                "shape": [-1, len(columns)],
                "parameters": {"columns": [column.name for column in columns]},
            }
        ],
        "outputs": [
            {"name": "score", "datatype": "FP32", "shape": [-1]},
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": OUTPUT, "datatype": "FP32", "shape": [-1, 2]},
        ],
    }
