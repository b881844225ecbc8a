"""CSV and Parquet to the columns that `table.encode` takes. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, parquet

from kanarya_inference.features.schema import Column, FeatureSchema
from kanarya_inference.features.tables import TableError

MISSING_TEXTS = ["", "null", "NaN", "nan"]
"""What a CSV cell of a missing value holds. `NA` is a category like any other."""


def fields_of(schema: FeatureSchema) -> list[str]:
    """Return the table's columns that the schema reads."""
    return [column.field for column in schema.columns if column.field is not None]


def csv_types(schema: FeatureSchema) -> dict[str, pa.DataType]:
    """Return how each column of a CSV file is read."""
    return {column.field: pa.string() if column.categories else pa.float64() for column in schema.columns if column.field is not None}


def convert_options(types: dict[str, pa.DataType], columns: Sequence[str] = ()) -> csv.ConvertOptions:
    """Return how cells become values: empty ones are missing, and a column without a type is kept as text."""
    return csv.ConvertOptions(column_types=types, include_columns=list(columns), null_values=MISSING_TEXTS, strings_can_be_null=True)


def read_table(path: Path, types: dict[str, pa.DataType]) -> pa.Table:
    """Read the named columns of a CSV or Parquet file, whole. Raises `TableError`."""
    try:
        if path.suffix.lower() == ".parquet":
            names = parquet.read_schema(path).names
            _require(path, names, list(types))
            return parquet.read_table(path, columns=list(types))
        with csv.open_csv(path) as reader:
            _require(path, reader.schema.names, list(types))
        return csv.read_csv(path, convert_options=convert_options(types, list(types)))
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path} cannot be read: {error}") from None


def values_of(schema: FeatureSchema, table: pa.Table) -> tuple[dict[str, NDArray[np.float64]], dict[int, str]]:
    """Return the schema's columns, NaN where missing, and why a row's cell cannot be read, keyed by the row's position."""
    values: dict[str, NDArray[np.float64]] = {}
    problems: dict[int, str] = {}
    for column in schema.columns:
        if column.field is None:
            continue
        cells = table.column(column.field)
        values[column.name] = _codes(column, cells) if column.categories else numbers(column.field, cells, problems)
    return values, problems


def numbers(field: str, cells: pa.ChunkedArray, problems: dict[int, str]) -> NDArray[np.float64]:
    """Return a column as numbers; cells that are none are NaN and noted in `problems`."""
    if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
        return _parse(field, cells, problems)
    try:
        found = cells.cast(pa.float64(), safe=False)
    except pa.ArrowException:
        raise TableError(f"column {field} holds {cells.type}, not numbers: convert it first") from None
    result: NDArray[np.float64] = found.to_numpy()
    return result


def _parse(field: str, cells: pa.ChunkedArray, problems: dict[int, str]) -> NDArray[np.float64]:
    cells = pc.utf8_trim_whitespace(cells)
    known = pc.if_else(pc.is_in(cells, value_set=pa.array(MISSING_TEXTS, cells.type)), pa.scalar(None, cells.type), cells)
    try:
        whole: NDArray[np.float64] = known.cast(pa.float64()).to_numpy()
    except pa.ArrowException:
        pass
    else:
        return whole
    result = np.full(len(cells), np.nan)
    for row, text in enumerate(cells.to_pylist()):
        if text is None or text in MISSING_TEXTS:
            continue
        try:
            # float() takes digits that Arrow's parser does not, such as 1_000: a row must not depend on its neighbours' cells.
            result[row] = pa.scalar(text).cast(pa.float64()).as_py()
        except pa.ArrowException:
            problems.setdefault(row, f"{field} is not a number: {text[:40]!r}")
    return result


def _codes(column: Column, cells: pa.ChunkedArray) -> NDArray[np.float64]:
    texts = cells.cast(pa.string())
    positions = pc.index_in(texts, value_set=pa.array(column.categories, pa.string()), skip_nulls=True)
    codes = pc.if_else(pc.is_valid(texts), pc.fill_null(positions, len(column.categories)), pa.scalar(None, pa.int32()))
    result: NDArray[np.float64] = codes.cast(pa.float64()).to_numpy()
    return result


def _require(path: Path, found: Sequence[str], wanted: Sequence[str]) -> None:
    if missing := [name for name in wanted if name not in found]:
        raise TableError(f"{path} has no column {missing[0]}; its columns are {', '.join(found)}")
