"""The columns of a model's input: where each comes from, what a missing value becomes, and whether drift is watched on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

import msgspec

SCHEMA_VERSION = 1
MAX_COLUMNS = 256
MAX_CATEGORIES = 48
REFUSE, MEDIAN, OTHER = "refuse", "median", "other"


class SchemaError(Exception):
    """A feature schema that cannot be used; the message says what to change."""


@dataclass(frozen=True)
class Column:
    """One dimension of the model's input: read from `field` of a row or a snapshot, or the same `constant` for every row.

    Parameters
    ----------
    drift
        whether the column's distribution is compared with the training reference; false for times and constants.
    categories
        the known values of a categorical column; empty for a number. The model's input is the position in this list,
        and one past its end for every other value.
    missing
        what a missing value becomes: `refuse` (the row is refused), `median` (of the training reference, numbers only),
        `other` (categories only) or a number. None is the usual rule: `median` or `other`, `refuse` where drift is not watched.
    """

    name: str
    drift: bool
    field: str | None = None
    constant: float | None = None
    categories: tuple[str, ...] = ()
    missing: str | float | None = None

    @cached_property
    def missing_rule(self) -> str | float:
        """Return `missing`, or the usual rule where it is None."""
        if self.missing is not None:
            return self.missing
        return OTHER if self.categories else MEDIAN if self.drift else REFUSE

    @cached_property
    def codes(self) -> Mapping[str, int]:
        """Return the position of each category; every other value has the position `len(categories)`."""
        return {category: index for index, category in enumerate(self.categories)}

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
            if not _finite(constant):
                raise SchemaError(f"{where} ({name}): `constant` is a finite number")
            if drift:
                raise SchemaError(f"{where} ({name}): a constant cannot drift; set `drift` to false")
            constant = float(constant)
        categories = _categories(data, f"{where} ({name})")
        if constant is not None and (categories or data.get("missing") is not None):
            raise SchemaError(f"{where} ({name}): a constant has neither categories nor a rule for missing values")
        missing = _missing(data.get("missing"), f"{where} ({name})", drift=drift, category=bool(categories))
        return cls(name=name, drift=drift, field=field, constant=constant, categories=categories, missing=missing)

    def to_json(self) -> dict[str, Any]:
        """Write the column as the schema file has it."""
        document: dict[str, Any] = {"name": self.name}
        document.update({"field": self.field} if self.field is not None else {"constant": self.constant})
        if self.categories:
            document.update(type="category", categories=list(self.categories))
        if self.missing is not None:
            document["missing"] = self.missing
        return {**document, "drift": self.drift}


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


def _categories(data: Mapping[str, Any], where: str) -> tuple[str, ...]:
    kind = data.get("type", "category" if "categories" in data else "number")
    categories: Any = data.get("categories", [])
    if kind not in {"number", "category"}:
        raise SchemaError(f"{where}: `type` is number or category")
    if kind == "number" and categories:
        raise SchemaError(f"{where}: a number has no categories; set `type` to category")
    if kind == "number":
        return ()
    if not isinstance(categories, Sequence) or isinstance(categories, str) or not 1 <= len(categories) <= MAX_CATEGORIES:
        raise SchemaError(f"{where}: `categories` is a list of 1 to {MAX_CATEGORIES} values; name the frequent ones, the rest is `other`")
    if not all(isinstance(one, str) and one for one in categories) or len(set(categories)) != len(categories):
        raise SchemaError(f"{where}: categories are texts, each there once (in YAML, put numbers and yes/no in quotes)")
    return tuple(categories)


def _missing(rule: Any, where: str, *, drift: bool, category: bool) -> str | float | None:
    if rule is None or rule == REFUSE:
        found: str | None = rule
        return found
    if category:
        if rule != OTHER:
            raise SchemaError(f"{where}: `missing` of a category is {OTHER} or {REFUSE}")
        return OTHER
    if rule == MEDIAN:
        if not drift:
            raise SchemaError(f"{where}: `missing: median` needs `drift: true`, because the median stands in the drift reference")
        return MEDIAN
    if not _finite(rule):
        raise SchemaError(f"{where}: `missing` of a number is {MEDIAN}, {REFUSE} or a finite number")
    return float(rule)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
