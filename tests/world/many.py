"""Many lives, and what they add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.world.chance import story
from tests.world.life import Result, live
from tests.world.shrink import shrunk


@dataclass
class Tally:
    """Sums over lives; `failures` are the texts of those that broke, after shrinking."""

    lives: int = 0
    virtual: float = 0.0
    endings: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    exercised: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, result: Result) -> None:
        self.lives += 1
        self.virtual += result.virtual
        self.endings[result.ending] += 1
        self.outcomes.update(result.outcomes)
        self.exercised.update(result.exercised)
        self.points.update(result.points)

    def take(self, other: Tally) -> None:
        self.lives += other.lives
        self.virtual += other.virtual
        for mine, theirs in zip(self._counters(), other._counters(), strict=True):
            mine.update(theirs)
        self.failures += other.failures

    def _counters(self) -> tuple[Counter[str], ...]:
        return self.endings, self.outcomes, self.exercised, self.points


def live_all(seeds: Iterable[int]) -> Tally:
    """Live the lives of some seeds; a life that breaks is shrunk."""
    tally = Tally()
    for seed in seeds:
        result = live(story(seed))
        tally.add(result)
        if result.violations:
            tally.failures.append(f"seed {seed}\n{shrunk(result).text()}")
    return tally
