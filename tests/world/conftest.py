from __future__ import annotations

from tests.world.test_lives import LIVES, SEED


def pytest_report_header() -> str:
    return f"world: {LIVES} lives from seed {SEED} on (KANARYA_LIVES, KANARYA_SEED)"
