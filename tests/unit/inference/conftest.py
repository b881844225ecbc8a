from pathlib import Path

import pytest

from kanarya_inference.training.train import train
from tests.unit.inference.tables import demo, trained


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


@pytest.fixture(scope="session")
def demo_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.csv, golden.csv and its sum, schema.json and best.json."""
    return demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def tabular(demo_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact of a logistic model trained on the demonstration table."""
    return trained(demo_tables, tmp_path_factory.mktemp("tabular") / "v1")
