"""One chunk in, its scored rows and its bad rows out. Runs on several threads: Arrow, numpy and ONNX Runtime let go of the lock."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from kanarya_inference.batch.source import Source
from kanarya_inference.features import encode
from kanarya_inference.features.arrow import convert_options, csv_types, fields_of, values_of
from kanarya_inference.features.tables import TableError
from kanarya_inference.registry import Artefact, Scorer

ROW, SCORE, LABEL = "row", "score", "label"


@dataclass(frozen=True)
class Scored:
    """The results of a chunk; `bad` are `(row within the chunk, reason)`, and `rows` counts good and bad ones."""

    table: pa.Table
    bad: Sequence[tuple[int, str]]
    rows: int


class ChunkScorer:
    """Scores chunks of a source; what it gives depends on the chunk alone."""

    def __init__(self, artefact: Artefact, scorer: Scorer, source: Source, keep: Sequence[str]) -> None:
        self._artefact, self._scorer, self._source, self._keep = artefact, scorer, source, tuple(keep)
        wanted = dict.fromkeys([*fields_of(artefact.schema), *keep])
        if missing := [name for name in wanted if name not in source.columns]:
            raise TableError(f"{source.path} has no column {missing[0]}; its columns are {', '.join(source.columns)}")
        if clash := sorted({ROW, SCORE, LABEL} & set(keep)):
            raise TableError(f"column {clash[0]} cannot be kept: the output has one of that name")
        self._wanted = list(wanted)

    def score(self, content: bytes | pa.Table) -> Scored:
        """Score a chunk; the rows of the result are numbered from 0 within it."""
        bad: dict[int, str] = {}
        table = self._parse(content, bad) if isinstance(content, bytes) else content.select(self._wanted)
        rows = len(table) + len(bad)
        # Rows that Arrow could not even split have no place in the table: the others keep their own numbers.
        numbers = np.delete(np.arange(rows), list(bad))
        values, problems = values_of(self._artefact.schema, table)
        if isinstance(content, bytes) and _has_empty_line(content):
            problems = {**problems, **dict.fromkeys(_all_missing(table), "the line is empty")}
        encoded = encode(self._artefact.schema, self._artefact.reference, values, len(table))
        for row, reason in {**encoded.problems, **problems}.items():
            bad[int(numbers[row])] = reason
        good = np.delete(np.arange(len(table)), [*encoded.problems, *problems])
        scores = np.zeros(0) if not len(good) else np.asarray(self._scorer(encoded.matrix[good]), dtype=np.float64)
        broken = ~((scores >= 0) & (scores <= 1))
        for row in good[broken]:
            bad[int(numbers[row])] = "the model gives no number for this row"
        good, scores = good[~broken], scores[~broken]
        columns: dict[str, Any] = {ROW: numbers[good], **self._kept(table, values, good)}
        columns[SCORE] = scores.astype(np.float32)
        columns[LABEL] = (scores >= self._artefact.decision_threshold).astype(np.int8)
        return Scored(pa.table(columns), sorted(bad.items()), rows)

    def _kept(self, table: pa.Table, values: Mapping[str, NDArray[np.float64]], rows: NDArray[np.int64]) -> dict[str, Any]:
        columns = {name: table.column(name).take(pa.array(rows)) for name in self._keep}
        if not self._source.is_parquet:
            # A chunk that had to be read as text gives numbers all the same.
            for column in self._artefact.schema.columns:
                if column.field in columns and not column.categories:
                    found = values[column.name][rows]
                    columns[column.field] = pa.array(found, pa.float64(), mask=np.isnan(found))
        return columns

    def _parse(self, content: bytes, bad: dict[int, str]) -> pa.Table:
        """Read lines with the columns' types; where a cell is no number, read them again as text, to name it."""
        types = {name: kind for name, kind in csv_types(self._artefact.schema).items() if name in self._wanted}
        types = {**dict.fromkeys(self._wanted, pa.string()), **types}
        try:
            return self._read(content, types, bad)
        except pa.ArrowInvalid:
            bad.clear()
            return self._read(content, dict.fromkeys(types, pa.string()), bad)

    def _read(self, content: bytes, types: Mapping[str, pa.DataType], bad: dict[int, str]) -> pa.Table:
        def refuse(row: csv.InvalidRow) -> str:
            bad[row.number - 1] = f"the line has {row.actual_columns} cells, the header {row.expected_columns}"
            return "skip"

        if not content.isascii():
            content = _without_bad_bytes(content)
        return csv.read_csv(
            pa.BufferReader(content),
            # One thread and one block: only then are rows numbered, and the other core has a chunk of its own.
            read_options=csv.ReadOptions(column_names=list(self._source.columns), use_threads=False, block_size=len(content) + 1),
            parse_options=csv.ParseOptions(invalid_row_handler=refuse, ignore_empty_lines=False),
            convert_options=convert_options(dict(types), self._wanted),
        )


def _without_bad_bytes(content: bytes) -> bytes:
    # A byte that is no UTF-8 becomes a mark, so that it spoils its own cell and not the chunk.
    return content.decode("utf-8", errors="replace").encode()


def _has_empty_line(content: bytes) -> bool:
    return content.startswith((b"\n", b"\r")) or b"\n\n" in content or b"\n\r\n" in content


def _all_missing(table: pa.Table) -> list[int]:
    """Name the rows without any cell, which is what Arrow makes of an empty line."""
    missing = np.all([column.is_null().to_numpy() for column in table.columns], axis=0)
    return [int(row) for row in np.flatnonzero(missing)]


def as_csv(table: pa.Table) -> bytes:
    """Write rows as CSV lines without a header."""
    target = io.BytesIO()
    csv.write_csv(table, target, csv.WriteOptions(include_header=False))
    return target.getvalue()


def as_arrow(table: pa.Table) -> bytes:
    """Write rows as messages of an Arrow stream, without its head and end."""
    return b"".join(batch.serialize().to_pybytes() for batch in table.combine_chunks().to_batches())


def as_lines(bad: Sequence[tuple[int, str]]) -> bytes:
    """Write bad rows as JSON lines."""
    return b"".join(json.dumps({"row": row, "reason": reason}).encode() + b"\n" for row, reason in bad)


def numbered(table: pa.Table, first: int) -> pa.Table:
    """Number the rows in the whole file, from 1."""
    return table.set_column(0, ROW, pc.add(table.column(ROW), first + 1))
