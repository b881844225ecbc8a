"""The model families that can be trained: scikit-learn pipelines whose ONNX form gives the same scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from kanarya_inference.features import FeatureSchema
from kanarya_inference.training.errors import TrainingError

FAMILIES = ("logistic", "boosting", "forest", "extra-trees", "hist-boosting")


def build(schema: FeatureSchema, family: str, seed: int, parameters: Mapping[str, Any] | None = None) -> Pipeline:
    """Return an unfitted pipeline over the schema's vector. Raises `TrainingError`.

    Columns that are not watched for drift and name no rule for missing values (times, identities) stay out of the score: live
    values always lie outside the training window, where a weight fitted on noise would be multiplied by a large number.
    Categories become one column each; every other value is zero in all of them.
    """
    numbers = [
        index
        for index, column in enumerate(schema.columns)
        if column.field is not None and not column.categories and (column.drift or column.missing is not None)
    ]
    categories = [index for index, column in enumerate(schema.columns) if column.categories]
    if not numbers and not categories:
        raise TrainingError("the schema has no column to learn from: give one of them `drift: true`")
    # Trees compare, so that scaling would only cost float32 digits.
    scale = StandardScaler() if family == "logistic" else "passthrough"
    known = [[float(code) for code in range(len(schema.columns[index].categories))] for index in categories]
    encoder = OneHotEncoder(categories=known, handle_unknown="ignore", sparse_output=False)
    chosen = [*([("numbers", scale, numbers)] if numbers else []), *([("categories", encoder, categories)] if categories else [])]
    return Pipeline([("columns", ColumnTransformer(chosen, remainder="drop")), ("classify", _classifier(family, seed, parameters or {}))])


def parameters_of(texts: list[str]) -> dict[str, Any]:
    """Read `name=value` settings of a classifier: whole numbers, numbers, none, or text. Raises `TrainingError`."""
    parameters: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise TrainingError(f"{text!r} is no setting: write NAME=VALUE, for example max_depth=4")
        parameters[name] = _value(value)
    return parameters


def _value(text: str) -> Any:
    if text.lower() == "none":
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        raise TrainingError(f"{text} is no finite number")
    return number if "." in text or "e" in text.lower() else int(text)


def _classifier(family: str, seed: int, parameters: Mapping[str, Any]) -> Any:
    kinds: dict[str, Any] = {
        # Newton steps reach the one optimum closely, so that the written bytes do not depend on where a search stopped.
        "logistic": (LogisticRegression, {"solver": "newton-cholesky", "tol": 1e-8}),
        "boosting": (GradientBoostingClassifier, {"random_state": seed, "n_estimators": 100, "max_depth": 3, "subsample": 0.8}),
        "forest": (RandomForestClassifier, {"random_state": seed, "n_estimators": 100, "max_depth": 8, "n_jobs": 1}),
        "extra-trees": (ExtraTreesClassifier, {"random_state": seed, "n_estimators": 100, "max_depth": 8, "n_jobs": 1}),
        "hist-boosting": (HistGradientBoostingClassifier, {"random_state": seed, "early_stopping": False}),
    }
    if family not in kinds:
        raise TrainingError(f"unknown model family {family}: choose from {', '.join(FAMILIES)}")
    kind, defaults = kinds[family]
    try:
        return kind(**{**defaults, **parameters})
    except TypeError:
        known = ", ".join(sorted(kind().get_params()))
        raise TrainingError(f"a {family} model has no such setting; there are {known}") from None
