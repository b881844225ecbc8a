"""Fits the model of `kanarya-ml train` with the rivals' own scikit-learn: `python fit.py TABLE.npz OUT.joblib`."""
# ruff: noqa: INP001 -- a script of another environment
# mypy: ignore-errors

import sys

import joblib
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

table = np.load(sys.argv[1])
pipeline = Pipeline(
    [
        ("columns", ColumnTransformer([("scale", StandardScaler(), table["used"].tolist())], remainder="drop")),
        ("classify", LogisticRegression(solver="newton-cholesky", tol=1e-8)),
    ]
)
joblib.dump(pipeline.fit(table["rows"], table["labels"]), sys.argv[2])
