"""The input in chunks, each with the place to go on from after it. Raw lines of a CSV file, record batches of a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

from kanarya_inference.features.tables import TableError

READ_BYTES = 4 << 20
MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True)
class Chunk:
    """A part of the input.

    Parameters
    ----------
    content
        whole lines of a CSV file, or a table.
    position
        where the next chunk begins: a byte of a CSV file, a row of a Parquet file.
    """

    content: bytes | pa.Table
    position: int


@dataclass(frozen=True)
class Source:
    """An input file: `columns` in the file's order, and its `size` in bytes of CSV or rows of Parquet."""

    path: Path
    columns: tuple[str, ...]
    size: int
    is_parquet: bool
    first: int
    empty: pa.Table
    """No rows, with the columns' types: those of a CSV file are text here."""

    def chunks(self, position: int, rows: int) -> Iterator[Chunk]:
        """Yield chunks from a position on; `rows` is their size in Parquet, a CSV chunk is about 4 MiB."""
        return _parquet_chunks(self, position, rows) if self.is_parquet else _csv_chunks(self, position)


def open_source(path: Path) -> Source:
    """Look at an input file. Raises `TableError`."""
    try:
        if path.suffix.lower() == ".parquet":
            with parquet.ParquetFile(path) as file:
                schema = file.schema_arrow
                return Source(path, tuple(schema.names), file.metadata.num_rows, is_parquet=True, first=0, empty=schema.empty_table())
        with path.open("rb") as lines:
            header = lines.readline(MAX_LINE_BYTES)
        if not header.endswith(b"\n"):
            raise TableError(f"{path} has no line of column names with a line end")
        with csv.open_csv(pa.BufferReader(header)) as reader:
            names = tuple(reader.schema.names)
        if len(set(names)) != len(names):
            raise TableError(f"{path} has two columns of one name: rename one")
        empty = pa.table({name: pa.array([], pa.string()) for name in names})
        return Source(path, names, path.stat().st_size, is_parquet=False, first=len(header), empty=empty)
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path} cannot be read: {error}") from None


def _csv_chunks(source: Source, position: int) -> Iterator[Chunk]:
    position = max(position, source.first)
    with source.path.open("rb") as file:
        while position < source.size:
            file.seek(position)
            content = file.read(min(READ_BYTES, source.size - position))
            if not content:
                raise TableError(f"{source.path} became shorter while it was read")
            if position + len(content) < source.size:
                end = content.rfind(b"\n") + 1
                if not end:
                    raise TableError(f"{source.path}: the line at byte {position} is longer than {READ_BYTES} bytes")
                content = content[:end]
            position += len(content)
            yield Chunk(content, position)


def _parquet_chunks(source: Source, position: int, rows: int) -> Iterator[Chunk]:
    first = 0
    with parquet.ParquetFile(source.path) as file:
        for group in range(file.metadata.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if first + size > position:
                # Group by group, so that chunks end at the same rows wherever reading begins.
                yield from _group_chunks(file, group, first, position, rows)
            first += size


def _group_chunks(file: parquet.ParquetFile, group: int, first: int, position: int, rows: int) -> Iterator[Chunk]:
    for batch in file.iter_batches(batch_size=rows, row_groups=[group]):
        first += batch.num_rows
        if first > position:
            yield Chunk(pa.Table.from_batches([batch.slice(max(0, position - (first - batch.num_rows)))]), first)
