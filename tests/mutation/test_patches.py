"""Every rule that keeps people safe has a test that fails without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.mutant import mutant, run_tests
from tests.mutation.patch import Patch
from tests.mutation.patches import PATCHES

TESTS_FAILED = 1
"""pytest's exit code when tests ran and failed; a mutant that cannot be imported gives another."""


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.breaks.replace(" ", "-"))
def test_the_named_test_notices(patch: Patch, tmp_path: Path) -> None:
    done = run_tests(mutant(patch, tmp_path), f"tests/unit/{patch.test}")
    assert done.returncode == TESTS_FAILED, f"{patch.test} does not notice that {patch.breaks}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def test_the_tests_hold_for_the_operator_as_it_is(tmp_path: Path) -> None:
    named = sorted({f"tests/unit/{patch.test}" for patch in PATCHES})
    done = run_tests(tmp_path, *named)
    assert done.returncode == 0, done.stdout[-3000:]
