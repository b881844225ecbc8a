from __future__ import annotations

import pytest

from tests.unit.telemetry.watched import World


@pytest.fixture
def world() -> World:
    world = World()
    world.run_to(1003.0)
    return world
