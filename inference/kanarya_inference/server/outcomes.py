"""What became of predictions: labels come back by prediction id and turn into a rolling F1 and Brier score of each version.

A pod knows only its own predictions, and a label may reach any pod. So a client may send the score and the version of the answer
back beside the id: then every pod can count the outcome.
"""

from __future__ import annotations

import math
import secrets
import time
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

MAX_OUTCOMES = 10_000
KEPT_VERSIONS = 8
_USED = -1.0

Result = Literal["accepted", "unknown", "duplicate"]


class Outcome(msgspec.Struct):
    """One true label; `score` and `model_version` as they stood in the answer, for pods that did not give it."""

    prediction_id: str
    label: Literal[0, 1]
    score: float | None = None
    model_version: str | None = None


class Figures(NamedTuple):
    """Rolling figures; NaN where they are not defined."""

    f1: float
    brier: float
    outcomes: int


@dataclass
class Rolling:
    """Outcomes of one version: all of them as counts, the last ones as (time, score, predicted, label)."""

    window: int
    seconds: float
    clock: Callable[[], float]
    confusion: dict[tuple[int, int], int] = field(default_factory=lambda: {(p, y): 0 for p in (0, 1) for y in (0, 1)})
    squared_error: float = 0.0
    _last: deque[tuple[float, float, int, int]] = field(init=False)

    def __post_init__(self) -> None:
        """Begin empty."""
        self._last = deque(maxlen=self.window)

    def add(self, score: float, predicted: int, label: int) -> None:
        """Count one outcome."""
        self.confusion[predicted, label] += 1
        self.squared_error += (score - label) ** 2
        self._last.append((self.clock(), score, predicted, label))

    def figures(self) -> Figures:
        """Return F1 = 2 TP / (2 TP + FP + FN) and Brier = mean (score - label)^2 over the last outcomes that are not too old."""
        oldest = self.clock() - self.seconds
        while self._last and self._last[0][0] < oldest:
            self._last.popleft()
        if not self._last:
            return Figures(math.nan, math.nan, 0)
        hits = sum(1 for _, _, predicted, label in self._last if predicted and label)
        wrong = sum(1 for _, _, predicted, label in self._last if predicted != label)
        f1 = 2 * hits / (2 * hits + wrong) if hits or wrong else math.nan
        brier = sum((score - label) ** 2 for _, score, _, label in self._last) / len(self._last)
        return Figures(f1, brier, len(self._last))


class Outcomes:
    """Remembers predictions in a ring, so that neither memory nor time per prediction grows.

    A prediction's id is the process's own random prefix and a sequence number, whose place in the ring follows from it.
    """

    def __init__(self, *, ids: int, seconds: float, window: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.unknown = 0
        self.duplicate = 0
        self._prefix = secrets.token_hex(6)
        self._seconds, self._window, self._clock = seconds, window, clock
        self._next = 0
        self._scores = array("d", bytes(8 * ids))
        self._times = array("d", bytes(8 * ids))
        self._versions = array("H", bytes(2 * ids))
        self._names: list[str] = []
        self._thresholds: dict[str, float] = {}
        self._rolling: OrderedDict[str, Rolling] = OrderedDict()
        self._foreign: OrderedDict[str, None] = OrderedDict()

    def know(self, version: str, threshold: float) -> int:
        """Return the number under which predictions of a version are registered; its figures exist from here on."""
        self._thresholds[version] = threshold
        if version not in self._rolling:
            self._rolling[version] = Rolling(self._window, self._seconds, self._clock)
            while len(self._rolling) > KEPT_VERSIONS:
                forgotten, _ = self._rolling.popitem(last=False)
                del self._thresholds[forgotten]
        if version not in self._names:
            if len(self._names) > 0xFFFF:
                raise OverflowError("more versions than a process can tell apart: start it again")
            self._names.append(version)
        return self._names.index(version)

    def register(self, number: int, scores: Sequence[float]) -> int:
        """Remember predictions of a version; returns the sequence number of the first, the others follow it."""
        first, size, now = self._next, len(self._scores), self._clock()
        for score in scores:
            place = self._next % size
            self._scores[place], self._times[place], self._versions[place] = score, now, number
            self._next += 1
        return first

    def id_of(self, sequence: int) -> str:
        """Return the id that clients see."""
        return f"{self._prefix}-{sequence:x}"

    def take(self, outcome: Outcome) -> Result:
        """Count one outcome, once for each prediction."""
        result = self._take(outcome)
        if result == "unknown":
            self.unknown += 1
        elif result == "duplicate":
            self.duplicate += 1
        return result

    def rolling(self) -> Iterator[tuple[str, Rolling]]:
        """Yield each known version and its outcomes."""
        yield from list(self._rolling.items())

    def _take(self, outcome: Outcome) -> Result:
        prefix, _, number = outcome.prediction_id.partition("-")
        if prefix == self._prefix:
            return self._take_own(number, outcome.label)
        version, score = outcome.model_version, outcome.score
        if (
            version is None
            or version not in self._rolling
            or score is None
            or not 0 <= score <= 1
            or not 0 < len(outcome.prediction_id) <= 64
        ):
            return "unknown"
        if outcome.prediction_id in self._foreign:
            return "duplicate"
        self._foreign[outcome.prediction_id] = None
        if len(self._foreign) > len(self._scores):
            self._foreign.popitem(last=False)
        self._rolling[version].add(score, int(score >= self._thresholds[version]), outcome.label)
        return "accepted"

    def _take_own(self, number: str, label: int) -> Result:
        try:
            sequence = int(number, 16)
        except ValueError:
            return "unknown"
        size = len(self._scores)
        if not max(0, self._next - size) <= sequence < self._next:
            return "unknown"
        place = sequence % size
        score, version = self._scores[place], self._names[self._versions[place]]
        if self._clock() - self._times[place] > self._seconds or version not in self._rolling:
            return "unknown"
        if score == _USED:
            return "duplicate"
        self._scores[place] = _USED
        self._rolling[version].add(score, int(score >= self._thresholds[version]), label)
        return "accepted"
