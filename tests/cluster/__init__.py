"""A cluster for tests: `python -m tests.cluster up` makes one, wherever it is run."""

from __future__ import annotations

from tests.cluster import kind
from tests.cluster.settings import Settings, Unavailable

__all__ = ["Settings", "Unavailable", "environment"]


def environment() -> dict[str, str]:
    """Return DOCKER_HOST (where the tool started an engine), KUBECONFIG and PATH for child processes of tests."""
    return kind.environment(Settings.read())
