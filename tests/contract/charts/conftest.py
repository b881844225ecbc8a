"""helm, where `tests.cluster` puts it, else on PATH."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cluster.settings import Settings
from tests.contract.charts.rendering import Helm


@pytest.fixture(scope="session")
def helm() -> Helm:
    own = Settings.read().bin / "helm"
    found = str(own) if own.is_file() else shutil.which("helm")
    if found is None:
        pytest.fail("There is no helm to render the charts with: put it on PATH, or run `make cluster`.", pytrace=False)
    return Helm(Path(found))
