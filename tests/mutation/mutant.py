"""A copy of the operator with one rule taken away, and tests run against it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.mutation.patch import Patch

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "operator/kanarya"
TIMEOUT_SECONDS = 240


def mutant(patch: Patch, folder: Path) -> Path:
    """Copy the operator into `folder` and apply the patch; gives what goes in front of PYTHONPATH.

    Raises
    ------
    ValueError
        When the code to replace does not stand there exactly once.
    """
    copy = folder / "kanarya"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    file = copy / patch.file
    text = file.read_text(encoding="utf-8")
    if text.count(patch.old) != 1:
        raise ValueError(f"{patch.file} holds the code of the patch {patch.breaks!r} {text.count(patch.old)} times: rewrite the patch")
    file.write_text(text.replace(patch.old, patch.new), encoding="utf-8")
    return folder


def run_tests(path: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests against the operator in `path`."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
