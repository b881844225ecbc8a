"""Running a command whose libraries may be missing, and saying in one sentence what went wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable

LIBRARIES = (
    "matplotlib", "numpy", "onnx", "onnxruntime", "pyarrow", "rich", "scipy", "skl2onnx", "sklearn", "skops", "threadpoolctl",
)  # fmt: skip
FAILED, UNUSABLE = 1, 2


def guarded(command: str, run: Callable[[], int], failed: int = FAILED) -> int:
    """Run a command's body; an expected error becomes a sentence and the exit status `failed`, a missing library status 2."""
    try:
        return _run(run, command, failed)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in LIBRARIES:
            raise
        sys.stderr.write(f"kanarya-ml {command} needs {error.name}, which the training extra brings: pip install 'kanarya[training]'\n")
        return UNUSABLE


def _run(run: Callable[[], int], command: str, failed: int) -> int:
    from kanarya_inference.errors import EXPECTED  # noqa: PLC0415 -- may miss a library

    try:
        return run()
    except (*EXPECTED, OSError, ValueError) as error:
        sys.stderr.write(f"kanarya-ml {command}: {error}\n")
        return failed
