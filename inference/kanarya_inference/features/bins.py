"""Drift bins: where a value falls between the deciles of a training reference.

Training counts the reference with the same `bin_of` that serving uses, so a value that equals an edge falls on the same side in both.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from kanarya_inference.features.schema import FeatureSchema, SchemaError

REFERENCE_VERSION = 1
VALUE_BINS = 10
MISSING = VALUE_BINS
"""Index of the bin of missing values, after the ten bins of values."""
BIN_LABELS = (*(str(index) for index in range(VALUE_BINS)), "missing")


@dataclass(frozen=True)
class FeatureReference:
    """What training saw of one feature.

    Parameters
    ----------
    edges
        the nine inner deciles, not falling; the outer bins are open.
    counts
        rows in each of the eleven bins, `missing` last.
    median
        what the model is given in place of a missing value.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    median: float

    def bin_of(self, value: float | None) -> int:
        """Return the index of the bin that `value` falls in; None is missing."""
        return MISSING if value is None else bisect_right(self.edges, value)

    @classmethod
    def from_json(cls, name: str, data: Any) -> FeatureReference:
        """Read one feature's part of a reference document. Raises `SchemaError`."""
        if not isinstance(data, Mapping):
            raise SchemaError(f"reference of {name}: an object with `edges`, `counts`, `missing` and `median`")
        edges: Any = data.get("edges")
        counts: Any = data.get("counts")
        missing: Any = data.get("missing")
        median: Any = data.get("median")
        if not _numbers(edges, VALUE_BINS - 1) or any(left > right for left, right in pairwise(edges)):
            raise SchemaError(f"reference of {name}: `edges` is a list of {VALUE_BINS - 1} finite numbers that do not fall")
        if not isinstance(counts, list) or len(counts) != VALUE_BINS or not all(map(_count, [*counts, missing])):
            raise SchemaError(f"reference of {name}: `counts` is a list of {VALUE_BINS} whole numbers, `missing` one more")
        if not _numbers([median], 1):
            raise SchemaError(f"reference of {name}: `median` is a finite number")
        return cls(tuple(map(float, edges)), (*counts, missing), float(median))

    def to_json(self) -> dict[str, Any]:
        """Write the feature's part of a reference document."""
        *counts, missing = self.counts
        return {"edges": list(self.edges), "counts": counts, "missing": missing, "median": self.median}


@dataclass(frozen=True)
class DriftReference:
    """The training reference: one `FeatureReference` for each column that is watched for drift."""

    features: Mapping[str, FeatureReference]

    @classmethod
    def from_json(cls, data: Any, schema: FeatureSchema) -> DriftReference:
        """Read a reference document, which must describe exactly the watched columns of `schema`. Raises `SchemaError`."""
        if not isinstance(data, Mapping) or not isinstance(data.get("features"), Mapping):
            raise SchemaError("a drift reference is an object with `schemaVersion` and `features`")
        if data.get("schemaVersion") != REFERENCE_VERSION:
            found = data.get("schemaVersion")
            raise SchemaError(f"drift reference version {found!r} is unknown; this server reads {REFERENCE_VERSION}")
        features = data["features"]
        if set(features) != set(schema.drift_names):
            raise SchemaError(
                f"the drift reference describes {sorted(features)}, the schema watches {sorted(schema.drift_names)}: train them together"
            )
        return cls({name: FeatureReference.from_json(name, features[name]) for name in schema.drift_names})

    def to_json(self) -> dict[str, Any]:
        """Write the reference document."""
        return {
            "schemaVersion": REFERENCE_VERSION,
            "features": {name: feature.to_json() for name, feature in self.features.items()},
        }


def _numbers(values: Any, length: int) -> bool:
    return (
        isinstance(values, Sequence)
        and len(values) == length
        and all(isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values)
    )


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
