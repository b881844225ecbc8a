"""A loaded model: an artefact and one ONNX Runtime session, warmed up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from kanarya_inference.features import RequestReader
from kanarya_inference.registry import Artefact, ArtefactError

INPUT, OUTPUT = "features", "probabilities"


@dataclass(frozen=True)
class Model:
    """Scores vectors; `reader` makes them."""

    artefact: Artefact
    reader: RequestReader
    session: Any

    def score(self, row: NDArray[np.float32]) -> float:
        """Return the probability of label 1 for a vector of shape 1 x columns. Raises `ValueError` when it is no number."""
        score = float(self.session.run([OUTPUT], {INPUT: row})[0][0, 1])
        if not 0.0 <= score <= 1.0:
            raise ValueError("the model's score is not a number from 0 to 1")
        return score


def load_model(artefact: Artefact) -> Model:
    """Open a session on the artefact's bytes and run one inference. Raises `ArtefactError` when the model does not work.

    One thread: a row takes microseconds, and a second thread would only fight the event loop for the pod's CPU.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(artefact.model, options, providers=["CPUExecutionProvider"])
        model = Model(artefact=artefact, reader=RequestReader(artefact.schema, artefact.reference), session=session)
        model.score(np.zeros((1, len(artefact.schema.columns)), dtype=np.float32))
    except Exception as error:  # ONNX Runtime raises a dozen types of its own, with no common parent but this
        raise ArtefactError(f"model {artefact.version} does not work: {type(error).__name__}: {str(error)[:300]}") from error
    return model
