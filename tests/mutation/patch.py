"""A small patch that takes away a rule: it replaces `old`, which stands exactly once in `file` (below `operator/kanarya/`), by `new`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Patch:
    """A rule taken away."""

    breaks: str
    """What no longer holds."""
    file: str
    old: str
    new: str
    test: str
    """Id of the test that must fail, below `tests/unit/`."""
