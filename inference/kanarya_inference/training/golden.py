"""The golden set: rows that no model is trained on, kept with their sum, so that versions are measured by the same rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from kanarya_inference.features.arrow import numbers
from kanarya_inference.features.tables import TableError
from kanarya_inference.training.errors import TrainingError
from kanarya_inference.training.tabular import sha256_of

GOLDEN_ROWS = 1000


def split(data: Path, golden: Path, rest: Path, *, rows: int, seed: int, time_column: str | None) -> str:
    """Split a table into a golden set and the rest, and write the golden set's sum beside it; returns the sum.

    With a time column the golden set is the latest rows, as a model meets later ones in use; without, it is drawn with the seed.
    Both parts keep the table's order. Raises `TrainingError`, `TableError`.
    """
    table = _read(data)
    if not 0 < rows < len(table):
        raise TrainingError(f"{data} has {len(table)} rows: {rows} golden ones cannot be taken from it")
    if time_column is None:
        chosen = np.random.default_rng(seed).choice(len(table), rows, replace=False)
    else:
        if time_column not in table.column_names:
            raise TrainingError(f"{data} has no column {time_column}; its columns are {', '.join(table.column_names)}")
        times = numbers(time_column, table.column(time_column), {})
        if np.isnan(times).any():
            raise TrainingError(f"{time_column} is no number in row {int(np.argmax(np.isnan(times))) + 1}")
        chosen = np.argsort(times, kind="stable")[-rows:]
    mask = np.zeros(len(table), dtype=bool)
    mask[chosen] = True
    write(table.filter(pa.array(~mask)), rest)
    write(table.filter(pa.array(mask)), golden)
    return write_sum(golden)


def write(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet or CSV, by the name's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".parquet":
        parquet.write_table(table, path)
    else:
        csv.write_csv(table, path)


def write_sum(path: Path) -> str:
    """Write a file's sum beside it, in the form that `sha256sum --check` reads; returns it."""
    found = sha256_of(path)
    sum_path(path).write_text(f"{found}  {path.name}\n")
    return found


def checked_sum(path: Path, expected: str | None = None) -> str:
    """Return the golden set's sum. Raises `TrainingError` when it is not `expected`, or not what the file beside it says."""
    if expected is None:
        try:
            expected = sum_path(path).read_text().split()[0]
        except (OSError, IndexError):
            raise TrainingError(
                f"{sum_path(path)} holds no sum: make the golden set with `kanarya-ml golden`, or give its sum with --golden-sha256"
            ) from None
    found = sha256_of(path)
    if found != expected.lower():
        raise TrainingError(f"{path} has sha256 {found}, expected is {expected}: it is not the golden set that was agreed on")
    return found


def sum_path(path: Path) -> Path:
    """Return where a golden set's sum stands."""
    return path.with_name(path.name + ".sha256")


def _read(path: Path) -> pa.Table:
    try:
        if path.suffix.lower() == ".parquet":
            return parquet.read_table(path)
        # As text, so that every cell is written as it was read.
        with csv.open_csv(path) as reader:
            names = reader.schema.names
        options = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        return csv.read_csv(path, convert_options=options)
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path} cannot be read: {error}") from None
