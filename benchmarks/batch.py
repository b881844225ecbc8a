"""Rows a second of `kanarya-ml batch` beside a loop of pandas and scikit-learn, on the same CSV file and model, in one run.

Three repeats of each, taken in turns, medians. Both read the file, score and write a CSV file; the loop reads chunks of 50,000 rows and
fills missing values as the schema says. Neither's start is counted. Processor seconds stand beside the wall's, which other work on
the machine stretches.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.figures import table
from kanarya_inference.batch.run import Job, run
from kanarya_inference.features import read_schema_file
from kanarya_inference.registry import Artefact, read_artefact
from kanarya_inference.training.convert import read_skops
from kanarya_inference.training.demo_data import write_demo
from kanarya_inference.training.tabular import Recipe, train_table

REPEATS = 3
LOOP_ROWS = 50_000
TRAINING_ROWS = 20_000
FAMILIES = ("logistic", "forest")


def loop(folder: Path, source: Path, target: Path) -> None:
    """Score a file as one would without this program."""
    artefact, pipeline = read_artefact(folder), read_skops(folder / "model.skops")
    for number, chunk in enumerate(pd.read_csv(source, chunksize=LOOP_ROWS)):
        score = pipeline.predict_proba(_vector(artefact, chunk))[:, 1]
        result = pd.DataFrame({"id": chunk["id"], "score": score, "label": (score >= artefact.decision_threshold).astype(int)})
        result.to_csv(target, mode="a" if number else "w", header=not number, index=False)


def _vector(artefact: Artefact, chunk: Any) -> Any:
    columns = []
    for column in artefact.schema.columns:
        if column.categories:
            columns.append(chunk[column.field].map(column.codes).fillna(len(column.categories)))
        else:
            columns.append(chunk[column.field].fillna(artefact.reference.features[column.name].median if column.drift else 0.0))
    return pd.concat(columns, axis=1).to_numpy(dtype=np.float32)


def measure(work: Callable[[], Any]) -> tuple[float, float]:
    """Give wall and processor seconds of a piece of work."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def compare(folder: Path, source: Path, out: Path, rows: int) -> tuple[object, ...]:
    """Measure both in turns; gives a row of the table."""
    job = Job(folder, source, out / "ours.csv", out / "bad.jsonl", ("id",))
    ours, loops = [], []
    for _ in range(REPEATS):
        ours.append(measure(lambda: run(job)))
        loops.append(measure(lambda: loop(folder, source, out / "loop.csv")))
    _same(out)
    wall, loop_wall = median(one[0] for one in ours), median(one[0] for one in loops)
    processor, loop_processor = median(one[1] for one in ours), median(one[1] for one in loops)
    return (
        f"{rows:,}",
        folder.name,
        f"{rows / wall:,.0f}",
        f"{rows / loop_wall:,.0f}",
        f"{loop_wall / wall:.1f}",
        f"{rows / processor:,.0f}",
        f"{rows / loop_processor:,.0f}",
        f"{loop_processor / processor:.1f}",
        f"{os.getloadavg()[0]:.1f}",
    )


def _same(out: Path) -> None:
    ours, other = pd.read_csv(out / "ours.csv"), pd.read_csv(out / "loop.csv")
    difference = float(np.abs(ours["score"].to_numpy() - other["score"].to_numpy()).max())
    if len(ours) != len(other) or difference > 1e-5:
        raise SystemExit(f"the two do not agree: {len(ours)} and {len(other)} rows, scores differ by up to {difference:.2g}")


def main() -> None:
    """Measure each number of rows with each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[11_000])
    parser.add_argument("--models", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    args = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_demo(folder / "training", rows=TRAINING_ROWS, seed=7, days=1500)
        for family in args.models:
            recipe = Recipe(version="v1", label="label", family=family, folds=2)
            train_table(folder / "training/train.csv", read_schema_file(folder / "training/schema.json"), folder / family, recipe)
        for rows in args.rows:
            write_demo(folder / "data", rows=rows + 1000, seed=8, days=1500)
            results += [compare(folder / family, folder / "data/train.csv", folder, rows) for family in args.models]
    heads = (
        "rows", "model", "rows/s", "the loop's", "ratio", "rows per CPU second", "the loop's", "ratio", "load",
    )  # fmt: skip
    sys.stdout.write(table(heads, results) + "\n")


if __name__ == "__main__":
    main()
