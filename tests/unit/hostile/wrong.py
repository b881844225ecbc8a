"""Documents with one thing wrong: every path of a good one, with every value of a table."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]

DEEP: Any = []
for _ in range(400):
    DEEP = [DEEP]

TEXTS: tuple[Any, ...] = ("", "x", "5", "NaN", "1e400", "0.01", "-", "a/b", "ü\u202e\x00\n", '"} or vector(1) #', "x" * 5000)
NUMBERS: tuple[Any, ...] = (-1, -0.0, -5.5, 0.5, 2**31, 2**63, 10**30, 1e308, math.nan, math.inf, -math.inf)
OTHERS: tuple[Any, ...] = (None, True, False, [], [None], {}, {"x": 1}, [[]] * 50, DEEP)
WRONG = (*TEXTS, *NUMBERS, *OTHERS)
FEW: tuple[Any, ...] = ("", "5", "x" * 5000, -1, 0.5, 10**30, math.nan, None, True, [], [None], {}, {"x": 1}, DEEP)
"""For what takes long: of each kind one or two."""


def paths(document: Any, here: Path = ()) -> Iterator[Path]:
    """Give the path of every value in a document, parts before what they hold."""
    if here:
        yield here
    if isinstance(document, dict):
        for key, value in document.items():
            yield from paths(value, (*here, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from paths(value, (*here, index))


def replaced(document: Any, path: Path, value: Any) -> Any:
    """Give a copy of a document with another value at a path."""
    changed = copy.deepcopy(document)
    place = changed
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return changed


def without(document: Any, path: Path) -> Any:
    """Give a copy of a document without what stands at a path."""
    changed = copy.deepcopy(document)
    place = changed
    for part in path[:-1]:
        place = place[part]
    if isinstance(place, list):
        del place[int(path[-1])]
    else:
        place.pop(path[-1], None)
    return changed


def at(document: Any, path: Path) -> Any:
    """Give what stands at a path."""
    for part in path:
        document = document[part]
    return document


def written(path: Path) -> str:
    """Write a path as people do."""
    return ".".join(str(part) for part in path)
