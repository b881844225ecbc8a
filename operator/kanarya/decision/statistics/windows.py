"""Windows that begin after the step did, so that a fault beginning late is not hidden by the good requests before it.

Looks open windows that count what comes after them, each at least `APART` requests after the last. The k-th has the weight 1/k(k+1);
all weights together are 1, so the weighted mean of the windows' e-values is one e-value, as valid at any time as each of them (Shin,
Ramdas, Rinaldo 2024, E-detectors). Half of the whole weight stays with the step's own beginning.

A ring keeps at most `CAPACITY` windows. Which one goes depends on the looks alone, never on what was counted, and a mean over fewer
windows can only have less evidence. Those that stay are the denser the younger: the distance between two is about a third of their age.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from math import exp, inf, log
from typing import NamedTuple

CAPACITY = 32
APART = 3.0
"""Requests between two windows: nothing is called bad on fewer, and every window more makes those after it count less."""


class Tally(NamedTuple):
    """Bad events and requests of the candidate, and of stable in the same time; may be fractions."""

    bad: float = 0.0
    total: float = 0.0
    stable_bad: float = 0.0
    stable_total: float = 0.0

    def since(self, start: Tally) -> Tally:
        """Give what was counted since `start`; no more events are bad than there were, though scrapes may differ by one."""
        bad, total, stable_bad, stable_total = self
        bad_then, total_then, stable_bad_then, stable_total_then = start
        total, stable_total = max(total - total_then, 0.0), max(stable_total - stable_total_then, 0.0)
        bad, stable_bad = max(bad - bad_then, 0.0), max(stable_bad - stable_bad_then, 0.0)
        return Tally(min(bad, total), total, min(stable_bad, stable_total), stable_total)

    def divided(self, effect: float) -> Tally:
        """Give the counts that carry as much evidence as these do with their bursts."""
        return Tally(*(count / effect for count in self))


class Mark(NamedTuple):
    """Where the `number`-th window began, as counts since the step began. In JSON a list of five numbers."""

    number: int
    bad: float
    total: float
    stable_bad: float
    stable_total: float

    @property
    def start(self) -> Tally:
        """The counts alone."""
        return Tally._make(self[1:])


STEP = Mark(0, 0.0, 0.0, 0.0, 0.0)
"""The step's own beginning."""


@dataclass(frozen=True)
class Ring:
    """The windows of one stream of counts.

    Attributes
    ----------
    looks, seen
        Looks that had requests of the candidate, and its requests up to the last of them.
    opened, marks
        How many windows were opened, and where those began that are kept, oldest first.
    """

    looks: int = 0
    seen: float = 0.0
    opened: int = 0
    marks: tuple[Mark, ...] = ()

    def looked(self, now: Tally) -> Ring:
        """Give the ring after a look: a window opens here unless the last one, or the step, is too young."""
        looks = self.looks + (now.total > self.seen)
        if now.total - (self.marks[-1].total if self.marks else 0.0) < APART:
            return Ring(looks, now.total, self.opened, self.marks)
        number = self.opened + 1
        return Ring(looks, now.total, number, _thinned((*self.marks, Mark(number, *now)), number))

    def only(self, numbers: Collection[int]) -> Ring:
        """Give the ring with no other windows than these: what evidence keeps of it."""
        return Ring(self.looks, self.seen, self.opened, tuple(mark for mark in self.marks if mark.number in numbers))

    def per_look(self, now: Tally) -> float:
        """Give the requests of a look that had some, on average, at the look that saw `now`."""
        return now.total / max(self.looks + (now.total > self.seen), 1)


class Span(NamedTuple):
    """A stretch of the step up to now: its share of the weight, the number of its window (0: the step), what was counted in it."""

    weight: float
    number: int
    counts: Tally


def spans(now: Tally, ring: Ring, *, fewest: float, above: float) -> list[Span]:
    """Give the step and its windows, of them those with at least `fewest` bad events at a rate above `above`.

    Weights add up to at most 1: half for the step, half for all windows.
    """
    found: list[Span] = []
    bad_now, total_now = now.bad, now.total
    for mark in (STEP, *ring.marks):
        number, bad_then, total_then, _, _ = mark
        bad = bad_now - bad_then
        if bad >= fewest and bad > above * (total_now - total_then):
            counts = now.since(mark.start)
            if counts.bad >= fewest:
                found.append(Span(0.5 / (number * (number + 1)) if number else 0.5, number, counts))
    return found


def log_mean(terms: list[tuple[float, float]]) -> float:
    """Give ln of the sum of weight times e^x over pairs (weight, x); minus infinity for none."""
    largest = max((x for _, x in terms), default=-inf)
    if largest == -inf:
        return -inf
    return largest + log(sum(weight * exp(x - largest) for weight, x in terms))


def _thinned(marks: tuple[Mark, ...], opened: int) -> tuple[Mark, ...]:
    """Leave out, when there are too many, the one whose neighbours are nearest to each other for their age; never the youngest."""
    if len(marks) <= CAPACITY:
        return marks
    least = _least(tuple([mark.number for mark in marks]), opened)
    return marks[: least - 1] + marks[least:]


@lru_cache(maxsize=4096)
def _least(kept: tuple[int, ...], opened: int) -> int:
    """Give which to leave out, from 1: the same for all streams, and runs, that were looked at alike."""
    numbers = [0, *kept]

    def gap(i: int) -> float:
        return (numbers[i + 1] - numbers[i - 1]) / (opened + 1 - numbers[i - 1])

    return min(range(1, len(kept)), key=gap)
