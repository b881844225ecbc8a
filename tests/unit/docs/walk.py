"""The shell blocks of a page, which tests run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TABLE = ROOT / "docs/how-to/train-and-evaluate.md"
"""From a table to registered versions, on one machine."""
CLUSTER = ROOT / "docs/how-to/from-a-table-to-a-rollout.md"
"""From there to a rollout on kind."""


def blocks(page: Path) -> list[str]:
    """Give the blocks that a reader pastes, in order."""
    return re.findall(r"^```sh\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def files(page: Path) -> list[str]:
    """Give the documents that the blocks write, in order."""
    return re.findall(r"<<'END'\n(.*?)^END$", "\n".join(blocks(page)), re.DOTALL | re.MULTILINE)
