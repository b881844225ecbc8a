"""The columns of a model's input: where each comes from in a snapshot, and whether drift is watched on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import msgspec

SCHEMA_VERSION = 1
MAX_COLUMNS = 256


class SchemaError(Exception):
    """A feature schema that cannot be used; the message says what to change."""


@dataclass(frozen=True)
class Column:
    """One dimension of the model's input: taken from a snapshot's `field`, or the same `constant` for every request."""

    name: str
    drift: bool
    field: str | None = None
    constant: float | None = None

    @classmethod
    def from_json(cls, data: Any, where: str) -> Column:
        """Read one column. Raises `SchemaError`."""
        if not isinstance(data, Mapping):
            raise SchemaError(f"{where}: a column is an object with `name`, `drift` and either `field` or `constant`")
        name, drift, field, constant = (data.get(key) for key in ("name", "drift", "field", "constant"))
        if not isinstance(name, str) or not name:
            raise SchemaError(f"{where}: give the column a `name`")
        if not isinstance(drift, bool):
            raise SchemaError(f"{where} ({name}): `drift` is either true or false")
        if (field is None) == (constant is None):
            raise SchemaError(f"{where} ({name}): give exactly one of `field` and `constant`")
        if field is not None and (not isinstance(field, str) or not field):
            raise SchemaError(f"{where} ({name}): `field` is the key of the snapshot that the column is read from")
        if constant is not None:
            if isinstance(constant, bool) or not isinstance(constant, int | float) or not math.isfinite(constant):
                raise SchemaError(f"{where} ({name}): `constant` is a finite number")
            if drift:
                raise SchemaError(f"{where} ({name}): a constant cannot drift; set `drift` to false")
            constant = float(constant)
        return cls(name=name, drift=drift, field=field, constant=constant)

    def to_json(self) -> dict[str, Any]:
        """Write the column as the schema file has it."""
        source: dict[str, Any] = {"field": self.field} if self.field is not None else {"constant": self.constant}
        return {"name": self.name, **source, "drift": self.drift}


@dataclass(frozen=True)
class FeatureSchema:
    """The columns of a model's input vector, in its order."""

    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns, in the vector's order."""
        return tuple(column.name for column in self.columns)

    @property
    def drift_names(self) -> tuple[str, ...]:
        """Names of the columns whose distribution is watched."""
        return tuple(column.name for column in self.columns if column.drift)

    @classmethod
    def from_json(cls, data: Any) -> FeatureSchema:
        """Read a schema document. Raises `SchemaError`."""
        if not isinstance(data, Mapping):
            raise SchemaError("a feature schema is an object with `schemaVersion` and `columns`")
        if data.get("schemaVersion") != SCHEMA_VERSION:
            found = data.get("schemaVersion")
            raise SchemaError(f"feature schema version {found!r} is unknown; this server reads {SCHEMA_VERSION}")
        columns = data.get("columns")
        if not isinstance(columns, list) or not 1 <= len(columns) <= MAX_COLUMNS:
            raise SchemaError(f"`columns` is a list of 1 to {MAX_COLUMNS} columns")
        schema = cls(tuple(Column.from_json(column, f"columns[{index}]") for index, column in enumerate(columns)))
        if len(set(schema.names)) != len(schema.names):
            raise SchemaError("two columns have the same `name`; each needs its own")
        return schema

    def to_json(self) -> dict[str, Any]:
        """Write the schema document."""
        return {"schemaVersion": SCHEMA_VERSION, "columns": [column.to_json() for column in self.columns]}


@cache
def snapshot_schema() -> FeatureSchema:
    """Return the schema of the market snapshot: `ts, mid, spread_bp, vol1m, rsi14, bias`."""
    return FeatureSchema.from_json(msgspec.json.decode(resources.files(__package__).joinpath("snapshot.json").read_bytes()))
