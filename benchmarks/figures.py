"""From measured times to the figures of a table. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """Smallest, middle and largest of some values, in their unit."""

    least: float
    middle: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Take them from values; raises `ValueError` without any."""
        every = sorted(values)
        if not every:
            raise ValueError("nothing was measured")
        return cls(every[0], median(every), every[-1], len(every))

    def __str__(self) -> str:
        """Write the three numbers."""
        return f"{self.least:.2f} / {self.middle:.2f} / {self.most:.2f}"

    def as_json(self) -> dict[str, float]:
        """Give the JSON form."""
        return {"min": round(self.least, 3), "median": round(self.middle, 3), "max": round(self.most, 3), "n": self.count}


def table(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a table in Markdown."""
    lines = [heading, ["---"] * len(heading), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shares(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Give each part's share of the sum of all parts, over all runs together."""
    totals: dict[str, float] = {}
    for one in parts:
        for name, seconds in one.items():
            totals[name] = totals.get(name, 0.0) + seconds
    whole = sum(totals.values())
    return {name: total / whole if whole else 0.0 for name, total in totals.items()}
