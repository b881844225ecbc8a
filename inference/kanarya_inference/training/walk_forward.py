"""Walking forward in time: train on the past, test on what came next, step by step, as the model would have lived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from kanarya_inference.features import SchemaError, reference_of
from kanarya_inference.training.errors import TrainingError
from kanarya_inference.training.pipelines import build
from kanarya_inference.training.scores import quality
from kanarya_inference.training.tabular import Labelled, fit

DAY = 86_400
MIN_TRAIN_ROWS, MIN_TEST_ROWS = 50, 10


@dataclass(frozen=True)
class Walk:
    """Lengths in days; a step moves both windows on by `test_days`."""

    steps: int = 36
    train_days: int = 365
    test_days: int = 30


def walk_forward(labelled: Labelled, walk: Walk, *, family: str, seed: int, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the measures of each step; the last test window ends with the table.

    Bins, medians and the model are made from the step's training window alone. Raises `TrainingError` when the table is too short.
    """
    if labelled.times is None:
        raise TrainingError("walking forward needs the time of each row: give --time-column")
    if walk.steps < 1 or walk.train_days < 1 or walk.test_days < 1:
        raise TrainingError("steps and days of the walk have to be at least 1")
    days = (labelled.times.max() - labelled.times.min()) / DAY
    needed = walk.train_days + walk.steps * walk.test_days
    if days < needed - 1:
        fit_in = max(0, int((days + 1 - walk.train_days) // walk.test_days))
        raise TrainingError(
            f"the table spans {days:.0f} days, {walk.steps} steps of {walk.test_days} days after {walk.train_days} days of training need "
            f"{needed}: at most {fit_in} steps fit (--walk-steps, --train-days, --test-days)"
        )
    end = labelled.times.max() + 1
    splits = [end - (walk.steps - index) * walk.test_days * DAY for index in range(walk.steps)]
    return [_step(labelled, split, walk, family=family, seed=seed, parameters=parameters) for split in splits]


def _step(labelled: Labelled, split: float, walk: Walk, *, family: str, seed: int, parameters: Mapping[str, Any]) -> dict[str, Any]:
    times = labelled.times
    assert times is not None  # noqa: S101 -- checked by the caller, for the type checker
    past = labelled.take(np.flatnonzero((times >= split - walk.train_days * DAY) & (times < split)))
    next_rows = labelled.take(np.flatnonzero((times >= split) & (times < split + walk.test_days * DAY)))
    for name, part, least in (("training", past, MIN_TRAIN_ROWS), ("test", next_rows, MIN_TEST_ROWS)):
        if len(part) < least or not 0 < part.labels.sum() < len(part):
            raise TrainingError(
                f"the step that splits at {split:.0f} has {len(part)} {name} rows, {int(part.labels.sum())} of them positive: "
                f"at least {least} are needed, of both labels"
            )
    try:
        reference = reference_of(past.schema, past.values)
    except SchemaError as error:
        raise TrainingError(f"the step that splits at {split:.0f}: {error}") from None
    pipeline = build(past.schema, family, seed, parameters)
    with threadpool_limits(limits=1):
        fit(pipeline, past.matrix(reference), past.labels)
        scores = pipeline.predict_proba(next_rows.matrix(reference))[:, 1]
    return {
        "from": int(split),
        "trainRows": len(past),
        "testRows": len(next_rows),
        "prevalence": round(float(next_rows.labels.mean()), 6),
        **{name: round(value, 6) for name, value in quality(next_rows.labels, scores).items()},
    }
