from pathlib import Path

import pytest

from kanarya_inference.training.train import train


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small artefact of each kind: baseline, candidate, disagreeing, drifted."""
    root = tmp_path_factory.mktemp("artefacts")
    train(root / "baseline", version="v1.8.0", rows=8000, seed=7)
    train(root / "candidate", version="v1.8.1", rows=12000, seed=11)
    train(root / "disagreeing", version="v1.8.2", rows=8000, seed=7, kind="disagreeing")
    train(root / "drifted", version="v1.8.3", rows=8000, seed=7, kind="drifted")
    return root


@pytest.fixture(scope="session")
def baseline(artefacts: Path) -> Path:
    return artefacts / "baseline"


@pytest.fixture(scope="session")
def candidate(artefacts: Path) -> Path:
    return artefacts / "candidate"
