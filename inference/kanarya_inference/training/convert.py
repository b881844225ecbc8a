"""The two written forms of a fitted pipeline: ONNX, which is served, and skops, from which work can go on. Nothing is ever pickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType

from kanarya_inference.registry import PARITY_TOLERANCE, ParityBatch, open_session
from kanarya_inference.training.errors import TrainingError

OPSET = 17
PARITY_ROWS, PARITY_CELLS = 64, 8192
TRUSTED = ("sklearn.tree._tree.Tree",)
"""Trusted beside what skops trusts by itself: the arrays of a tree."""


def to_onnx(pipeline: Any, columns: int) -> bytes:
    """Convert to ONNX; probabilities are a plain tensor (`zipmap` off), the graph has a fixed name. Raises `TrainingError`."""
    try:
        model = convert_sklearn(
            pipeline,
            name="kanarya",
            initial_types=[("features", FloatTensorType([None, columns]))],
            options={id(pipeline): {"zipmap": False}},
            target_opset=OPSET,
        )
    except Exception as error:  # skl2onnx and onnx raise whatever their inner workings meet
        classifier = type(pipeline.steps[-1][1]).__name__
        raise TrainingError(
            f"{classifier} cannot be converted to ONNX with these library versions ({str(error).splitlines()[0][:120]}): "
            "choose --model logistic, boosting, forest or extra-trees"
        ) from error
    # They come out of a set of texts, whose order is another in each process.
    imports = sorted(model.opset_import, key=lambda one: str(one.domain))
    del model.opset_import[:]
    model.opset_import.extend(imports)
    content: bytes = model.SerializeToString()
    return content


def onnx_scores(model: bytes, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    """Score rows with the ONNX form, on one thread."""
    scores: NDArray[np.float64] = open_session(model).run(["probabilities"], {"features": matrix})[0][:, 1].astype(np.float64)
    return scores


def check_parity(pipeline: Any, model: bytes, matrix: NDArray[np.float32]) -> tuple[ParityBatch, float]:
    """Compare both forms on `matrix`; returns a batch of its rows to check by later, and the largest difference.

    Raises `TrainingError` when they differ: a tree's threshold is rounded to float32, and a row may fall on the other side.
    """
    expected = np.asarray(pipeline.predict_proba(matrix)[:, 1], dtype=np.float64)
    difference = float(np.abs(expected - onnx_scores(model, matrix)).max())
    if not difference < PARITY_TOLERANCE:
        raise TrainingError(f"the ONNX model differs from the trained one by up to {difference:.2g}; at most {PARITY_TOLERANCE} is allowed")
    rows = min(len(matrix), PARITY_ROWS, max(1, PARITY_CELLS // matrix.shape[1]))
    chosen = np.linspace(0, len(matrix) - 1, rows).astype(np.int64)
    return ParityBatch(matrix[chosen], expected[chosen]), difference


def to_skops(pipeline: Any) -> bytes:
    """Write the pipeline itself."""
    content: bytes = skops.io.dumps(pipeline)
    return content


def read_skops(path: Path) -> Any:
    """Load a pipeline that `to_skops` wrote. Raises `TrainingError` when the file names a type that is not trusted."""
    unknown = sorted(set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED))
    if unknown:
        raise TrainingError(f"{path} holds {', '.join(unknown[:5])}, which is not trusted: it is not loaded")
    return skops.io.load(path, trusted=list(TRUSTED))
