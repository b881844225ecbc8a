"""A labelled table to try the path on, whose best possible quality is known: the labels are drawn from known probabilities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kanarya_inference.training.errors import TrainingError
from kanarya_inference.training.golden import GOLDEN_ROWS, write, write_sum
from kanarya_inference.training.scores import quality

FIRST_TS, DAY = 1_640_995_200, 86_400
INTERCEPT = -1.6
VENUES = {"alpha": 0.5, "beta": 0.0, "gamma": -0.6}
MISSING_RATE = 0.01
MIN_ROWS, MAX_ROWS = 2_000, 20_000_000
# Weight in the true log odds for each standard deviation, and the standard deviation of the column.
NUMBERS = {
    "mid_logret_1m": (0.7, 8e-4),
    "mid_logret_5m": (0.4, 18e-4),
    "spread_bp": (-0.9, 1.9),
    "vol1m_log": (0.8, 0.5),
    "rsi14_z": (0.6, 1.0),
    "zscore_mid_24h": (-0.5, 1.0),
}
SCHEMA: dict[str, Any] = {
    "schemaVersion": 1,
    "columns": [
        {"name": "ts", "drift": False},
        *({"name": name} for name in NUMBERS),
        {"name": "venue", "type": "category", "categories": list(VENUES)},
    ],
}


def demo_table(rng: np.random.Generator, rows: int, days: int) -> tuple[pa.Table, NDArray[np.float64]]:
    """Draw rows in the order of time and the true probability of label 1 of each."""
    columns: dict[str, Any] = {"id": np.arange(1, rows + 1), "ts": FIRST_TS + np.sort(rng.integers(0, days * DAY, rows))}
    logit = np.full(rows, INTERCEPT)
    for name, (weight, deviation) in NUMBERS.items():
        standard = rng.normal(size=rows)
        logit += weight * standard
        value = np.exp(np.log(4) + 0.45 * standard) if name == "spread_bp" else deviation * standard
        columns[name] = pa.array(np.round(value, 7), mask=rng.random(rows) < MISSING_RATE)
    venues = rng.choice(4, rows, p=[0.5, 0.3, 0.18, 0.02])
    logit += np.array([*VENUES.values(), 0.0])[venues]
    columns["venue"] = pa.array(np.array([*VENUES, "delta"])[venues])
    probability = 1 / (1 + np.exp(-logit))
    columns["label"] = (rng.random(rows) < probability).astype(np.int64)
    return pa.table(columns), probability


def write_demo(folder: Path, *, rows: int, seed: int, days: int, form: str = "csv") -> dict[str, Any]:
    """Write `train`, `golden` (the latest 1,000 rows, with their sum), `schema.json` and `best.json`; returns the last.

    `best.json` is the quality of the true probabilities on the golden set: no model is better in the long run, and a model
    that beats it by much was shown the answers. Raises `TrainingError`.
    """
    if not MIN_ROWS <= rows <= MAX_ROWS:
        raise TrainingError(f"rows is {rows}: give between {MIN_ROWS} and {MAX_ROWS}")
    if days < 1:
        raise TrainingError(f"days is {days}: give at least 1")
    table, probability = demo_table(np.random.default_rng(seed), rows, days)
    first = rows - GOLDEN_ROWS
    write(table.slice(0, first), folder / f"train.{form}")
    write(table.slice(first), folder / f"golden.{form}")
    labels = table.column("label").to_numpy()
    best = {
        "goldenSha256": write_sum(folder / f"golden.{form}"),
        "golden": _rounded(quality(labels[first:], probability[first:])),
        "train": _rounded(quality(labels[:first], probability[:first])),
        "prevalence": round(float(labels.mean()), 6),
        "seed": seed,
    }
    for name, document in (("schema.json", SCHEMA), ("best.json", best)):
        (folder / name).write_text(json.dumps(document, indent=1) + "\n")
    return best


def _rounded(measured: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in measured.items()}
