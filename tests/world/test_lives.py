"""Lives by chance, other ones each time: `KANARYA_SEED` repeats a run, `KANARYA_LIVES` says how many."""

from __future__ import annotations

import os
from random import SystemRandom

import pytest

from tests.world.many import live_all

LIVES = int(os.environ.get("KANARYA_LIVES", "500"))
SEED = int(os.environ.get("KANARYA_SEED", SystemRandom().randrange(10**9)))
CHUNK = 25


@pytest.mark.parametrize("chunk", range(-(-LIVES // CHUNK)))
def test_every_promise_holds_in_every_life(chunk: int) -> None:
    """The seeds are not in the parameters: workers of pytest-xdist choose their own, and must collect the same tests."""
    first = SEED + chunk * CHUNK
    tally = live_all(range(first, min(first + CHUNK, SEED + LIVES)))
    assert not tally.failures, "\n\n".join(tally.failures)
