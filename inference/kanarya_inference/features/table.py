"""From columns of many rows to the model's input: the definition that training and batch use, and that serving agrees with row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanarya_inference.features.bins import DriftReference, FeatureReference, fill_of
from kanarya_inference.features.schema import FeatureSchema

FLOAT32_MAX = float(np.finfo(np.float32).max)

Values = Mapping[str, NDArray[np.float64]]
"""One array per column, keyed by the column's name: NaN is missing, a category is its position in the schema."""


@dataclass(frozen=True)
class Encoded:
    """The model's input.

    Parameters
    ----------
    matrix
        rows x columns; a row with a problem holds zeros in place of what is wrong with it.
    problems
        why a row cannot be scored, keyed by its position; the first reason in the schema's order.
    """

    matrix: NDArray[np.float32]
    problems: Mapping[int, str]


def encode(schema: FeatureSchema, reference: DriftReference, values: Values, rows: int) -> Encoded:
    """Return the model's input for `rows` rows of `values`, which holds every column of the schema that is no constant."""
    matrix = np.empty((rows, len(schema.columns)), dtype=np.float32)
    problems: dict[int, str] = {}
    for index, column in enumerate(schema.columns):
        if column.constant is not None:
            matrix[:, index] = column.constant
            continue
        found = values[column.name]
        missing = np.isnan(found)
        large = np.abs(found) > FLOAT32_MAX
        fill = fill_of(column, reference)
        matrix[:, index] = np.where(missing | large, 0.0 if fill is None else fill, found)
        if fill is None:
            _note(problems, missing, f"{column.field} is missing")
        _note(problems, large, f"{column.field} is too large: give a number within ±{FLOAT32_MAX:.3g}")
    return Encoded(matrix, problems)


def reference_of(schema: FeatureSchema, values: Values, score: NDArray[np.float64] | None = None) -> DriftReference:
    """Describe the watched columns of the training data and the model's scores of them. Raises `SchemaError`."""
    features = {
        column.name: FeatureReference.from_values(values[column.name], column.categories) for column in schema.columns if column.drift
    }
    return DriftReference(features, None if score is None else FeatureReference.from_values(score))


def _note(problems: dict[int, str], rows: NDArray[np.bool_], sentence: str) -> None:
    for row in np.flatnonzero(rows):
        problems.setdefault(int(row), sentence)
