"""Plain FastAPI + pydantic + scikit-learn, as most people begin. Runs in the rivals' own environment."""
# ruff: noqa: INP001 -- a script of another environment
# mypy: ignore-errors

import os

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel


class Tensor(BaseModel):
    """A tensor."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class InferRequest(BaseModel):
    """A request."""

    inputs: list[Tensor]


class InferAnswer(BaseModel):
    """An answer."""

    model_name: str
    model_version: str
    outputs: list[Tensor]


app = FastAPI()
model = joblib.load(os.environ["RIVAL_MODEL"])


@app.post("/v2/models/model/infer")
def infer(request: InferRequest) -> InferAnswer:
    """Score the first tensor."""
    tensor = request.inputs[0]
    rows = np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
    scores = model.predict_proba(rows)[:, 1].tolist()
    outputs = [Tensor(name="score", shape=[len(scores)], datatype="FP32", data=scores)]
    return InferAnswer(model_name="model", model_version="v1", outputs=outputs)
