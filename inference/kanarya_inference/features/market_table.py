"""The market features of a CSV or Parquet table of quotes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from kanarya_inference.features.arrow import convert_options, numbers
from kanarya_inference.features.market import QuoteError, market_features
from kanarya_inference.features.tables import TableError


def add_market_features(source: Path, target: Path, ts: str, bid: str, ask: str) -> int:
    """Write the table with the six features added; returns its rows. Raises `TableError`, `QuoteError`."""
    wanted = (ts, bid, ask)
    try:
        table = (
            parquet.read_table(source)
            if source.suffix.lower() == ".parquet"
            else csv.read_csv(source, convert_options=convert_options(dict.fromkeys(wanted, pa.float64())))
        )
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{source} cannot be read: {error}") from None
    problems: dict[int, str] = {}
    for name in wanted:
        if name not in table.column_names:
            raise TableError(f"{source} has no column {name}; its columns are {', '.join(table.column_names)}")
    columns = [numbers(name, table.column(name), problems) for name in wanted]
    if problems:
        row = min(problems)
        raise QuoteError(f"row {row + 1}: {problems[row]}")
    for name, values in market_features(*columns).items():
        if name in table.column_names:
            raise TableError(f"{source} has a column {name} already: rename it")
        table = table.append_column(name, pa.array(values, mask=np.isnan(values)))
    if target.suffix.lower() == ".parquet":
        parquet.write_table(table, target)
    else:
        csv.write_csv(table, target)
    return len(table)
