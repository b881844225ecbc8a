"""Drift bins: where a value falls between the deciles of a training reference, or which category it is.

Training counts the reference with the same bins that serving uses, so a value that equals an edge falls on the same side in both.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanarya_inference.features.schema import Column, FeatureSchema, SchemaError

REFERENCE_VERSION = 1
VALUE_BINS = 10
MISSING = VALUE_BINS
"""Index of the bin of missing values of a number without ties, after its ten bins of values."""
SCORE = "score"


@dataclass(frozen=True)
class FeatureReference:
    """What training saw of one feature.

    Parameters
    ----------
    edges
        the inner deciles, not falling, at most nine: where deciles are equal they are one edge. The outer bins are open.
    counts
        rows in each bin, `missing` last.
    median
        what the model is given in place of a missing value, where the schema's rule says so.
    categories
        of a categorical feature, which has no edges: a bin for each, then one for every other value.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    median: float
    categories: tuple[str, ...] = ()

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels of the bins in the order of `counts`: `0`, `1`, and so on, then `missing`."""
        return (*map(str, range(len(self.counts) - 1)), "missing")

    def bin_of(self, value: float | None) -> int:
        """Return the index of the bin that `value` falls in; None is missing. A category is given as its position."""
        if value is None:
            return len(self.counts) - 1
        return int(value) if self.categories else bisect_right(self.edges, value)

    def bins_of(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the bin of each value; NaN is missing. The same as `bin_of`, row by row."""
        missing = np.isnan(values)
        if self.categories:
            bins = np.where(missing, 0, values).astype(np.int64)
        else:
            bins = np.searchsorted(np.asarray(self.edges), values, side="right").astype(np.int64)
        bins[missing] = len(self.counts) - 1
        return bins

    @classmethod
    def from_values(cls, values: NDArray[np.float64], categories: tuple[str, ...] = ()) -> FeatureReference:
        """Describe what training saw: `values` has NaN where missing. Raises `SchemaError` when there are no two values to tell apart."""
        present = values[~np.isnan(values)]
        if not categories and not len(present):
            raise SchemaError("every value is missing: leave the column out")
        edges: tuple[float, ...] = ()
        median = 0.0
        if not categories:
            edges, median = _edges(present), float(np.median(present))
        size = (len(categories) if categories else len(edges)) + 2
        empty = cls(edges=edges, counts=(0,) * size, median=median, categories=categories)
        counts = np.bincount(empty.bins_of(values), minlength=size)
        return cls(edges=edges, counts=tuple(int(count) for count in counts), median=median, categories=categories)

    @classmethod
    def from_json(cls, name: str, data: Any, categories: tuple[str, ...] = ()) -> FeatureReference:
        """Read one feature's part of a reference document. Raises `SchemaError`."""
        wanted = "`categories`, `counts` and `missing`" if categories else "`edges`, `counts`, `missing` and `median`"
        if not isinstance(data, Mapping):
            raise SchemaError(f"reference of {name}: an object with {wanted}")
        counts, missing = data.get("counts"), data.get("missing")
        edges: Any = data.get("edges", [] if categories else None)
        median: Any = data.get("median", 0.0 if categories else None)
        if tuple(data.get("categories") or ()) != categories:
            raise SchemaError(f"reference of {name}: its categories are not those of the schema: train them together")
        if not categories and not (
            _numbers(edges) and 1 <= len(edges) < VALUE_BINS and all(left <= right for left, right in pairwise(edges))
        ):
            raise SchemaError(f"reference of {name}: `edges` is a list of 1 to {VALUE_BINS - 1} finite numbers that do not fall")
        size = (len(categories) if categories else len(edges)) + 1
        if (
            not isinstance(counts, list)
            or len(counts) != size
            or not all(map(_count, counts))
            or not isinstance(missing, int)
            or missing < 0
        ):
            raise SchemaError(f"reference of {name}: `counts` is a list of {size} whole numbers, `missing` one more")
        if not _numbers([median]):
            raise SchemaError(f"reference of {name}: `median` is a finite number")
        return cls(tuple(map(float, edges)), (*counts, missing), float(median), categories)

    def to_json(self) -> dict[str, Any]:
        """Write the feature's part of a reference document."""
        *counts, missing = self.counts
        if self.categories:
            return {"categories": list(self.categories), "counts": counts, "missing": missing}
        return {"edges": list(self.edges), "counts": counts, "missing": missing, "median": self.median}


@dataclass(frozen=True)
class DriftReference:
    """The training reference: a `FeatureReference` for each column that is watched for drift, and one for the model's scores.

    `score` is None in artefacts that were written without one.
    """

    features: Mapping[str, FeatureReference]
    score: FeatureReference | None = None

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
        score = data.get(SCORE)
        return cls(
            {
                column.name: FeatureReference.from_json(column.name, features[column.name], column.categories)
                for column in schema.columns
                if column.drift
            },
            None if score is None else FeatureReference.from_json(SCORE, score),
        )

    def to_json(self) -> dict[str, Any]:
        """Write the reference document."""
        document: dict[str, Any] = {
            "schemaVersion": REFERENCE_VERSION,
            "features": {name: feature.to_json() for name, feature in self.features.items()},
        }
        return document if self.score is None else {**document, SCORE: self.score.to_json()}


def fill_of(column: Column, reference: DriftReference) -> float | None:
    """Return what the model is given in place of a missing value; None when the row is to be refused."""
    rule = column.missing_rule
    if isinstance(rule, float):
        return rule
    if rule == "refuse":
        return None
    return float(len(column.categories)) if column.categories else reference.features[column.name].median


def _edges(present: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the distinct inner deciles above the smallest value, each a value that was seen: no bin of the reference is empty."""
    deciles = np.unique(np.quantile(present, np.arange(1, VALUE_BINS) / VALUE_BINS, method="inverted_cdf"))
    above = present[present > present.min()]
    if not len(above):
        raise SchemaError("every value is the same: set `drift: false`, or leave the column out")
    edges = deciles[deciles > present.min()]
    return tuple(float(edge) for edge in edges) or (float(above.min()),)


def _numbers(values: Any) -> bool:
    return isinstance(values, Sequence) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
    )


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
