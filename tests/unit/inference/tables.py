"""Demonstration tables and models trained on them, for tests of the path from a table to a served model."""

from pathlib import Path

from kanarya_inference.features import read_schema_file
from kanarya_inference.training.demo_data import write_demo
from kanarya_inference.training.tabular import Recipe, train_table


def demo(folder: Path, rows: int = 4000, days: int = 1500) -> Path:
    """Write the demonstration tables."""
    write_demo(folder, rows=rows, seed=7, days=days)
    return folder


def trained(data: Path, out: Path, version: str = "v1", family: str = "logistic", **changes: object) -> Path:
    """Train on the demonstration table with few folds."""
    recipe = Recipe(version=version, label="label", family=family, folds=2, **changes)  # type: ignore[arg-type]
    train_table(data / "train.csv", read_schema_file(data / "schema.json"), out, recipe)
    return out
