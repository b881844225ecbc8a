"""Keys that say whether something kept from an earlier run is still what would be made now."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def key_of(*parts: object) -> str:
    """Return a short key of some values; a path stands for the content of the file or folder there."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(json.dumps(_content(part) if isinstance(part, Path) else part, sort_keys=True).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _content(path: Path) -> list[list[str]]:
    files: Iterable[Path] = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [
        [str(file.relative_to(path)), hashlib.sha256(file.read_bytes()).hexdigest(), str(file.stat().st_mode & 0o111)]
        for file in files
        if file.is_file() and "__pycache__" not in file.parts
    ]


def is_fresh(made: Path, key: str) -> bool:
    """Tell whether what lies at a path was made with this key."""
    stamp = stamp_of(made)
    return made.exists() and stamp.is_file() and stamp.read_text() == key


def mark_fresh(made: Path, key: str) -> None:
    """Note the key that something was made with; only called once it is complete."""
    stamp_of(made).write_text(key)


def mark_stale(made: Path) -> None:
    """Forget the key, before what lies there is changed."""
    stamp_of(made).unlink(missing_ok=True)


def stamp_of(made: Path) -> Path:
    """Return where the key is noted."""
    return made.with_name(f".{made.name}.key")
