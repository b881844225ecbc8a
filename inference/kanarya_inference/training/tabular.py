"""Trains a model on a table and writes its artefact: the same table, schema, seed and library versions give the same ONNX bytes."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold, TimeSeriesSplit
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from kanarya_inference.features import DriftReference, FeatureSchema, SchemaError, encode, reference_of
from kanarya_inference.features.arrow import csv_types, numbers, read_table, values_of
from kanarya_inference.features.bins import FeatureReference
from kanarya_inference.registry import check_version, write_artefact
from kanarya_inference.training.convert import check_parity, to_onnx, to_skops
from kanarya_inference.training.errors import TrainingError
from kanarya_inference.training.pipelines import build
from kanarya_inference.training.scores import quality

LIBRARIES = ("numpy", "onnx", "onnxruntime", "pyarrow", "scikit-learn", "skl2onnx", "skops")
MIN_ROWS = 100
SHOWN_PROBLEMS = 5


@dataclass(frozen=True)
class Labelled:
    """A table ready to learn from.

    Parameters
    ----------
    values
        the schema's columns, NaN where missing.
    labels
        0 or 1.
    times
        seconds since the epoch where a time column was named, else None.
    """

    schema: FeatureSchema
    values: Mapping[str, NDArray[np.float64]]
    labels: NDArray[np.int64]
    times: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[Any]) -> Labelled:
        """Return some of the rows."""
        values = {name: column[rows] for name, column in self.values.items()}
        return Labelled(self.schema, values, self.labels[rows], None if self.times is None else self.times[rows])

    def matrix(self, reference: DriftReference) -> NDArray[np.float32]:
        """Return the model's input. Raises `TrainingError` for rows that serving would refuse."""
        encoded = encode(self.schema, reference, self.values, len(self))
        raise_for(encoded.problems)
        return encoded.matrix


@dataclass(frozen=True)
class Recipe:
    """How to train; see `kanarya-ml train --help`."""

    version: str
    label: str
    family: str = "logistic"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 7
    folds: int = 5
    time_column: str | None = None
    threshold: float = 0.5


def read_labelled(path: Path, schema: FeatureSchema, label: str, time_column: str | None = None) -> Labelled:
    """Read a CSV or Parquet table with its labels. Raises `TrainingError`, `TableError`."""
    if label in {column.field for column in schema.columns}:
        raise TrainingError(f"the label {label} is a column of the schema: a model that reads its answer learns nothing")
    types = {**csv_types(schema), label: pa.float64(), **({time_column: pa.float64()} if time_column else {})}
    table = read_table(path, types)
    values, problems = values_of(schema, table)
    found = numbers(label, table.column(label), problems)
    times = numbers(time_column, table.column(time_column), problems) if time_column else None
    for row in np.flatnonzero(~np.isin(found, (0.0, 1.0))):
        problems.setdefault(int(row), f"{label} is neither 0 nor 1")
    if times is not None:
        for row in np.flatnonzero(~np.isfinite(times)):
            problems.setdefault(int(row), f"{time_column} is no time in seconds")
    raise_for(problems)
    return Labelled(schema, values, found.astype(np.int64), times)


def raise_for(problems: Mapping[int, str]) -> None:
    """Raise `TrainingError` that names the first rows with a problem."""
    if problems:
        first = "; ".join(f"row {row + 1}: {problems[row]}" for row in sorted(problems)[:SHOWN_PROBLEMS])
        raise TrainingError(
            f"{len(problems)} rows cannot be used: {first}. Mend or remove them, or give the column a rule for missing values"
        )


def train_table(data: Path, schema: FeatureSchema, folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Train on a table and write the artefact to `folder`; returns the metadata without the sums.

    Raises `TrainingError`, `TableError`, `SchemaError`, `ArtefactError` (a version that cannot be a label).
    """
    check_version(recipe.version)
    if not 0 < recipe.threshold < 1:
        raise TrainingError(f"the decision threshold is {recipe.threshold}: give a number between 0 and 1")
    labelled = read_labelled(data, schema, recipe.label, recipe.time_column)
    _check_labels(labelled.labels, recipe.folds)
    reference = _reference(labelled)
    matrix = labelled.matrix(reference)
    # The order of a sum depends on the number of threads.
    with threadpool_limits(limits=1):
        pipeline = build(schema, recipe.family, recipe.seed, recipe.parameters)
        folds = cross_validate(pipeline, matrix, labelled, recipe)
        fit(pipeline, matrix, labelled.labels)
        model = to_onnx(pipeline, len(schema.columns))
        parity, difference = check_parity(pipeline, model, matrix)
        scores = np.asarray(pipeline.predict_proba(matrix)[:, 1], dtype=np.float64)
    metadata = {
        "version": recipe.version,
        "kind": recipe.family,
        "parameters": dict(recipe.parameters),
        "seed": recipe.seed,
        "rows": len(labelled),
        "label": recipe.label,
        "prevalence": round(float(labelled.labels.mean()), 6),
        "decisionThreshold": recipe.threshold,
        "features": schema.to_json(),
        "data": {"file": data.name, "sha256": sha256_of(data)},
        "gitSha": git_sha(),
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "quality": {"crossValidation": folds},
        "parity": {"rows": len(matrix), "largestDifference": difference},
    }
    reference = DriftReference(reference.features, FeatureReference.from_values(scores))
    write_artefact(folder, model=model, reference=reference, metadata=metadata, parity=parity.to_json(), skops=to_skops(pipeline))
    return metadata


def fit(pipeline: Any, matrix: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    """Fit in place. Raises `TrainingError` for a setting the classifier refuses."""
    try:
        pipeline.fit(matrix, labels)
    except ValueError as error:
        raise TrainingError(f"the model could not be fitted: {str(error).splitlines()[0]}") from None


def cross_validate(pipeline: Any, matrix: NDArray[np.float32], labelled: Labelled, recipe: Recipe) -> dict[str, Any]:
    """Return quality on rows the model had not seen: mean and standard deviation over the folds.

    With a time column every fold learns from earlier rows and is tested on later ones; without, folds are drawn with the seed.
    """
    measured = []
    for train_rows, test_rows in _folds(labelled, recipe):
        fold = clone(pipeline)
        fit(fold, matrix[train_rows], labelled.labels[train_rows])
        tested = labelled.labels[test_rows]
        if 0 < tested.sum() < len(tested):
            measured.append(quality(tested, fold.predict_proba(matrix[test_rows])[:, 1]))
    if not measured:
        raise TrainingError("no fold has rows of both labels: give more rows, or fewer --folds")
    names = list(measured[0])
    return {
        "folds": len(measured),
        "by": "time" if recipe.time_column else "chance",
        "mean": {name: round(float(np.mean([one[name] for one in measured])), 6) for name in names},
        "sd": {name: round(float(np.std([one[name] for one in measured])), 6) for name in names},
    }


def _folds(labelled: Labelled, recipe: Recipe) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    if labelled.times is None:
        yield from StratifiedKFold(recipe.folds, shuffle=True, random_state=recipe.seed).split(labelled.labels, labelled.labels)
        return
    order = np.argsort(labelled.times, kind="stable")
    for earlier, later in TimeSeriesSplit(recipe.folds).split(order):
        yield order[earlier], order[later]


def _check_labels(labels: NDArray[np.int64], folds: int) -> None:
    positives = int(labels.sum())
    if len(labels) < MIN_ROWS:
        raise TrainingError(f"the table has {len(labels)} rows: at least {MIN_ROWS} are needed")
    if folds < 2:
        raise TrainingError(f"{folds} folds: give at least 2")
    if min(positives, len(labels) - positives) < folds:
        raise TrainingError(f"{positives} of {len(labels)} rows have label 1: both labels are needed, each at least once for every fold")


def _reference(labelled: Labelled) -> DriftReference:
    for column in labelled.schema.columns:
        if column.drift:
            try:
                FeatureReference.from_values(labelled.values[column.name], column.categories)
            except SchemaError as error:
                raise TrainingError(f"column {column.field}: {error}") from None
    return reference_of(labelled.schema, labelled.values)


def sha256_of(path: Path) -> str:
    """Return the sum of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_sha() -> str | None:
    """Return the commit of the working directory, with `-dirty` where files differ from it; None outside a repository."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],  # noqa: S607 -- the user's own git
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def summary(metadata: Mapping[str, Any], folder: Path) -> str:
    """Return one line for people."""
    folds = metadata["quality"]["crossValidation"]
    means = ", ".join(f"{name} {folds['mean'][name]:.3f} ± {folds['sd'][name]:.3f}" for name in ("auc", "brier"))
    return f"{folder}: {metadata['kind']} model {metadata['version']} from {metadata['rows']} rows; {folds['folds']} folds: {means}"
