"""From the body of a request to the model's input vector, with sentences a client can act on."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kanarya_inference.features.bins import DriftReference, fill_of
from kanarya_inference.features.schema import Column, FeatureSchema
from kanarya_inference.features.table import FLOAT32_MAX


class MalformedRequestError(Exception):
    """The body is not JSON."""


class SnapshotError(Exception):
    """The body is JSON, but no snapshot the model can score; the message names the field and what to change."""


class _RawRequest(msgspec.Struct):
    snapshot: dict[str, msgspec.Raw]


class RequestReader:
    """Reads `{"snapshot": {...}}` into a vector of the schema's columns.

    A key that is missing is the client's mistake and refused: silently imputed it would look like a score. `null` says
    "not known now": it counts as missing for drift, and the model gets what the schema's rule says, by default the training
    reference's median. Keys the schema does not name are ignored, so that a client can be released before the model.
    One row at a time and without numpy calls, because they cost more than the model; `table.encode` gives the same numbers.
    """

    def __init__(self, schema: FeatureSchema, reference: DriftReference) -> None:
        self._row = np.array([[column.constant or 0.0 for column in schema.columns]], dtype=np.float32)
        self._columns: list[tuple[int, Column, str, float | None]] = [
            (index, column, column.field, fill_of(column, reference))
            for index, column in enumerate(schema.columns)
            if column.field is not None
        ]
        self._drift = [(column.name, reference.features[column.name].bin_of) for column in schema.columns if column.drift]

    def read(self, body: bytes) -> tuple[NDArray[np.float32], list[int]]:
        """Return the vector (shape 1 x columns) and the bin of each watched column, in the schema's order.

        Raises `MalformedRequestError`, `SnapshotError`.
        """
        try:
            document = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._explain(body, error) from None
        snapshot = document.get("snapshot") if isinstance(document, dict) else None
        if not isinstance(snapshot, dict):
            raise SnapshotError('send {"snapshot": {…}} with the fields ' + ", ".join(field for _, _, field, _ in self._columns))
        row = self._row.copy()
        values: dict[str, float | None] = {}
        for index, column, field, fill in self._columns:
            read = _category if column.categories else _number
            value = read(snapshot, field, column, optional=fill is not None)
            values[column.name] = value
            row[0, index] = fill if value is None else value
        return row, [bin_of(values[name]) for name, bin_of in self._drift]

    def _explain(self, body: bytes, error: Exception) -> Exception:
        """Name the field whose number is too large for any float; everything else that does not decode is not JSON."""
        if isinstance(error, msgspec.ValidationError):
            try:
                raw = msgspec.json.decode(body, type=_RawRequest)
            except (msgspec.DecodeError, RecursionError):
                return MalformedRequestError("the body has a number that is out of range")
            for _, _, field, _ in self._columns:
                try:
                    msgspec.json.decode(raw.snapshot.get(field, b"null"))
                except msgspec.ValidationError:
                    return _too_large(field)
                except (msgspec.DecodeError, RecursionError):
                    break
            return MalformedRequestError("the body has a number that is out of range")
        return MalformedRequestError("the body is not JSON (neither are NaN and Infinity: send null for a value that is not known)")


def _number(snapshot: dict[str, Any], field: str, _: Column, *, optional: bool) -> float | None:
    value = _present(snapshot, field, "number", optional=optional)
    kind = type(value)  # exact, because a bool is an int
    if kind is float:
        number: float = value
    elif kind is int:
        if abs(value) > FLOAT32_MAX:
            raise _too_large(field)
        number = float(value)
    elif value is None:
        return None
    else:
        raise SnapshotError(f"snapshot.{field} is {_NAMES.get(kind, 'something else')}: send it as a number, without quotes")
    if not -FLOAT32_MAX <= number <= FLOAT32_MAX:
        raise _too_large(field)
    return number


def _category(snapshot: dict[str, Any], field: str, column: Column, *, optional: bool) -> float | None:
    value = _present(snapshot, field, "text", optional=optional)
    if value is None:
        return None
    if not isinstance(value, str):
        raise SnapshotError(f"snapshot.{field} is {_NAMES.get(type(value), 'something else')}: send it as a text, in quotes")
    return float(column.codes.get(value, len(column.categories)))


def _present(snapshot: dict[str, Any], field: str, kind: str, *, optional: bool) -> Any:
    try:
        value = snapshot[field]
    except KeyError:
        hint = ", or null when it is not known" if optional else ""
        raise SnapshotError(f"snapshot.{field} is missing: send it as a {kind}{hint}") from None
    if value is None and not optional:
        raise SnapshotError(f"snapshot.{field} is null: it is always known, send it as a {kind}")
    return value


_NAMES: dict[type, str] = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}


def _too_large(field: str) -> SnapshotError:
    return SnapshotError(f"snapshot.{field} is too large: send a number within ±{FLOAT32_MAX:.3g}")
