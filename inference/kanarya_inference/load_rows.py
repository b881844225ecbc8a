"""Request bodies from the rows of a CSV file, for `kanarya-ml load --data`."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import msgspec

MISSING_TEXTS = frozenset({"", "null", "nan", "NaN"})
MAX_ROWS = 100_000


def row_bodies(path: Path) -> Iterator[bytes]:
    """Give a body for each row, its columns as the snapshot's fields, over and over. Raises `ValueError` for a file without rows.

    A cell that reads as a number is sent as one, an empty one as null, any other as text.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [_body(row) for row in itertools.islice(csv.DictReader(file, strict=True), MAX_ROWS)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not rows:
        raise ValueError(f"{path} has no rows: give a CSV file with a line of names and a row for each request")
    return itertools.cycle(rows)


def _body(row: dict[str, str]) -> bytes:
    return msgspec.json.encode({"snapshot": {name: _cell(text) for name, text in row.items() if isinstance(name, str)}})


def _cell(text: str | None) -> float | str | None:
    if text is None or text in MISSING_TEXTS:
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text
