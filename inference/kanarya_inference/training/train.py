"""Trains a demonstration model on generated data and writes its artefact. The same inputs give the same bytes."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from kanarya_inference.features import DriftReference, FeatureSchema, reference_of, snapshot_schema
from kanarya_inference.registry import check_version, write_artefact
from kanarya_inference.training.convert import check_parity, to_onnx
from kanarya_inference.training.data import Values, draw
from kanarya_inference.training.errors import TrainingError

Kind = Literal["good", "disagreeing", "drifted"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DRIFT_SHIFT = {"spread_bp": 1.2, "vol1m": 1.2}
"""How far, in standard deviations, the training data of a `drifted` model lies from live traffic."""
PERMUTED_LABELS = 0.6
"""Share of a `disagreeing` model's labels that are shuffled among themselves."""
HELD_OUT_ROWS = 2000
TS_START, TS_SPAN = 1_750_000_000, 30 * 86_400
MIN_ROWS, MAX_ROWS = 500, 2_000_000


def train(folder: Path, *, version: str, rows: int = 20_000, seed: int = 7, kind: Kind = "good") -> dict[str, Any]:
    """Train a model of `kind` and write its artefact to `folder`; returns the metadata without the sums.

    Raises `TrainingError`, `ArtefactError` (a version that cannot be a label).
    """
    check_version(version)
    if not MIN_ROWS <= rows <= MAX_ROWS:
        raise TrainingError(f"rows is {rows}: give between {MIN_ROWS} and {MAX_ROWS}")
    schema = snapshot_schema()
    data_rng, label_rng, held_out_rng = np.random.default_rng(seed).spawn(3)
    shift = DRIFT_SHIFT if kind == "drifted" else {}
    values, probability = draw(data_rng, rows, shift)
    reference = reference_of(schema, values)
    labels = (label_rng.random(rows) < probability).astype(np.int64)
    if kind == "disagreeing":
        chosen = np.flatnonzero(label_rng.random(rows) < PERMUTED_LABELS)
        labels[chosen] = label_rng.permutation(labels[chosen])
    held_out, truth = draw(held_out_rng, HELD_OUT_ROWS, shift)
    pipeline = fit(schema, matrix(schema, reference, values, data_rng), labels)
    model = to_onnx(pipeline, len(schema.columns))
    rows_held_out = matrix(schema, reference, held_out, held_out_rng)
    parity, _ = check_parity(pipeline, model, rows_held_out)
    score = pipeline.predict_proba(rows_held_out)[:, 1]
    metadata = {
        "version": version,
        "kind": kind,
        "seed": seed,
        "rows": rows,
        "decisionThreshold": 0.5,
        "features": schema.to_json(),
        "libraries": {name: importlib.metadata.version(name) for name in ("numpy", "onnx", "scikit-learn", "skl2onnx")},
        # The best any model can reach is known, because the data are generated from `truth`.
        "quality": {"logLoss": _log_loss(score, truth), "bestLogLoss": _log_loss(truth, truth)},
    }
    write_artefact(folder, model=model, reference=reference, metadata=metadata, parity=parity.to_json())
    return metadata


def matrix(schema: FeatureSchema, reference: DriftReference, values: Values, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the model's input, rows x columns: missing values take the median, as in serving; times are drawn."""
    rows = len(next(iter(values.values())))
    columns = []
    for column in schema.columns:
        if column.constant is not None:
            columns.append(np.full(rows, column.constant))
        elif column.name in values:
            columns.append(np.nan_to_num(values[column.name], nan=reference.features[column.name].median))
        else:
            columns.append(TS_START + np.sort(rng.random(rows)) * TS_SPAN)
    return np.stack(columns, axis=1).astype(np.float32)


def fit(schema: FeatureSchema, rows: NDArray[np.float32], labels: NDArray[np.int64]) -> Any:
    """Fit scaler and classifier on the columns watched for drift.

    Time and constants stay out of the score: live times always lie outside the training window, where a weight fitted on
    noise would be multiplied by a large number.
    """
    used = [index for index, column in enumerate(schema.columns) if column.drift]
    pipeline = Pipeline(
        [
            ("columns", ColumnTransformer([("scale", StandardScaler(), used)], remainder="drop")),
            # Newton steps reach the one optimum closely, so that the written bytes do not depend on where a search stopped.
            ("classify", LogisticRegression(solver="newton-cholesky", tol=1e-8)),
        ]
    )
    # The order of a sum depends on the number of threads.
    with threadpool_limits(limits=1):
        return pipeline.fit(rows, labels)


def _log_loss(score: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Expected log loss of `score` under the true probabilities, to six digits."""
    return round(float(-np.mean(truth * np.log(score) + (1 - truth) * np.log1p(-score))), 6)


def summary(metadata: Mapping[str, Any], folder: Path) -> str:
    """Return one line for people."""
    quality = metadata["quality"]
    return (
        f"{folder}: {metadata['kind']} model {metadata['version']} from {metadata['rows']} rows, "
        f"log loss {quality['logLoss']} (best possible {quality['bestLogLoss']})"
    )
