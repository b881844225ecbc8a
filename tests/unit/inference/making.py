"""Artefacts and models for tests: changed copies of trained ones, and one that is slow to compute."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from kanarya_inference.registry.artefact import PARITY


def rewritten(source: Path, folder: Path, *, version: str | None = None, model: bytes | None = None, parity: Any = None) -> Path:
    """Copy an artefact with another version, model or parity batch, its sums right again. Another model has no batch unless one is given."""
    shutil.copytree(source, folder)
    metadata = json.loads((folder / "metadata.json").read_text())
    if version is not None:
        metadata["version"] = version
    if model is not None:
        (folder / "model.onnx").write_bytes(model)
        (folder / PARITY).unlink()
        del metadata["sha256"][PARITY]
    if parity is not None:
        (folder / PARITY).write_text(json.dumps(parity))
    for name in ("model.onnx", "reference.json", PARITY):
        if (folder / name).exists():
            metadata["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder


def slow_model(columns: int, size: int = 900, products: int = 2) -> bytes:
    """A model of real work: products of two large matrices, made while it runs, that leave every score at 0.5."""
    nodes = [
        helper.make_node("ConstantOfShape", ["square"], ["big"], value=helper.make_tensor("one", TensorProto.FLOAT, [1], [1e-6])),
        *(helper.make_node("MatMul", ["big" if i == 0 else f"p{i - 1}", "big"], [f"p{i}"]) for i in range(products)),
        helper.make_node("ReduceMax", [f"p{products - 1}"], ["top"], keepdims=0),
        # The features decide the square's size, so that nothing is computed before there is a request.
        helper.make_node("Shape", ["features"], ["shape"]),
        helper.make_node("Gather", ["shape", "second"], ["columns"]),
        helper.make_node("Mul", ["columns", "factor"], ["side"]),
        helper.make_node("Concat", ["side", "side"], ["square"], axis=0),
        helper.make_node("MatMul", ["features", "zeros"], ["nothing"]),
        helper.make_node("Mul", ["nothing", "top"], ["still"]),
        helper.make_node("Add", ["still", "half"], ["probabilities"]),
    ]
    ordered = nodes[-7:-3] + nodes[:-7] + nodes[-3:]
    constants = [
        numpy_helper.from_array(np.array([1], dtype=np.int64), "second"),
        numpy_helper.from_array(np.array([size // columns], dtype=np.int64), "factor"),
        numpy_helper.from_array(np.zeros((columns, 2), dtype=np.float32), "zeros"),
        numpy_helper.from_array(np.full(2, 0.5, dtype=np.float32), "half"),
    ]
    graph = helper.make_graph(
        ordered,
        "slow",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content
