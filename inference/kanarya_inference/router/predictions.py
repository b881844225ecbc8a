"""What a model server's answer predicts, in any of the shapes that are in use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

Compare = Literal["Score", "Label"]
Value = float | int | str | bool

SINGLE = ""
"""Name of the only tensor of an answer that names none."""

_BATCHES = ("predictions", "results")
_FLOATS = frozenset({"FP16", "FP32", "FP64", "BF16"})
_NO_NUMBERS = frozenset({"BOOL", "BYTES"})


@dataclass(frozen=True, slots=True)
class Prediction:
    """Values by tensor, each list with `rows` times n values, row after row."""

    rows: int
    tensors: Mapping[str, list[Value]]


class _Scored(msgspec.Struct):
    score: float


class _Labelled(msgspec.Struct):
    label: bool | int | str


_single: dict[Compare, msgspec.json.Decoder[_Scored] | msgspec.json.Decoder[_Labelled]] = {
    "Score": msgspec.json.Decoder(_Scored),
    "Label": msgspec.json.Decoder(_Labelled),
}
_anything = msgspec.json.Decoder()


def read_prediction(body: bytes, compare: Compare) -> Prediction | None:
    """Read the scores, or labels, of an answer; None when it has none that can be compared.

    Known are one object with the number `score` or with a `label`; lists of such objects or of plain values under `predictions` or
    `results` (the V1 protocol); and the `outputs` of the Open Inference Protocol v2. There, scores are the tensors of floating
    point numbers, or, when there is none, those of whole numbers; labels are all but floating point.
    """
    try:
        one = _single[compare].decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_many(body, compare)
    return Prediction(1, {SINGLE: [one.score if isinstance(one, _Scored) else one.label]})


def _read_many(body: bytes, compare: Compare) -> Prediction | None:
    try:
        document = _anything.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    outputs = document.get("outputs")
    if isinstance(outputs, list):
        return _read_tensors(outputs, compare)
    rows = next((document[name] for name in _BATCHES if isinstance(document.get(name), list)), None)
    return _read_rows(rows, compare) if rows else None


def _read_rows(rows: list[Any], compare: Compare) -> Prediction | None:
    field = compare.lower()
    values = _values((row.get(field) if isinstance(row, dict) else row for row in rows), compare)
    return Prediction(len(rows), {SINGLE: values}) if values and len(values) % len(rows) == 0 else None


def _read_tensors(outputs: list[Any], compare: Compare) -> Prediction | None:
    if not all(isinstance(tensor, dict) for tensor in outputs):
        return None
    floats = [tensor for tensor in outputs if tensor.get("datatype") in _FLOATS]
    others = [tensor for tensor in outputs if tensor.get("datatype") not in _FLOATS]
    numbers = [tensor for tensor in others if tensor.get("datatype") not in _NO_NUMBERS]
    chosen = (floats or numbers) if compare == "Score" else others
    tensors: dict[str, list[Value]] = {}
    rows = {_rows(tensor) for tensor in chosen}
    count = rows.pop() if len(rows) == 1 else 0
    for tensor in chosen:
        values = _values(tensor.get("data"), compare) if isinstance(tensor.get("data"), list) else None
        if not count or not values or len(values) % count:
            return None
        tensors[str(tensor.get("name"))] = values
    return Prediction(count, tensors) if tensors else None


def _rows(tensor: dict[str, Any]) -> int:
    """Length of the first dimension; 1 for a tensor without dimensions, 0 for one without a usable shape."""
    shape = tensor.get("shape")
    if not isinstance(shape, list):
        return 0
    first = shape[0] if shape else 1
    return first if isinstance(first, int) and not isinstance(first, bool) and first > 0 else 0


def _values(nested: Any, compare: Compare) -> list[Value] | None:
    """Values of a nested list, row-major; None when one of them cannot be compared."""
    found: list[Value] = []
    try:
        for value in _flattened(nested):
            if compare == "Score" and isinstance(value, float | int) and not isinstance(value, bool):
                found.append(float(value))
            elif compare == "Label" and isinstance(value, bool | int | str):
                found.append(value)
            else:
                return None
    except OverflowError:  # a whole number beyond what a float holds
        return None
    return found


def _flattened(nested: Iterable[Any]) -> Iterable[Any]:
    """Go through a nested list, however deep."""
    open_lists = [iter(nested)]
    while open_lists:
        for part in open_lists[-1]:
            if isinstance(part, list):
                open_lists.append(iter(part))
                break
            yield part
        else:
            open_lists.pop()
