"""Counts over the last seconds."""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds that only go forward."""


class SlidingCounts:
    """How many events, and how many of them marked, in the last `seconds` whole seconds. Constant memory and time."""

    def __init__(self, seconds: int, clock: Clock) -> None:
        self.seconds = seconds
        self._clock = clock
        self._slots = [[0, 0] for _ in range(seconds)]
        self._second = int(clock())

    def add(self, *, marked: bool) -> None:
        """Count one event now."""
        slot = self._current()
        slot[0] += 1
        slot[1] += marked

    def mark(self) -> None:
        """Mark one event that is counted already."""
        self._current()[1] += 1

    def totals(self) -> tuple[int, int]:
        """Events and marked events in the window."""
        self._current()
        return sum(slot[0] for slot in self._slots), sum(slot[1] for slot in self._slots)

    def clear(self) -> None:
        """Forget everything."""
        for slot in self._slots:
            slot[0] = slot[1] = 0

    def _current(self) -> list[int]:
        second = int(self._clock())
        for passed in range(self._second + 1, min(second, self._second + self.seconds) + 1):
            self._slots[passed % self.seconds][:] = [0, 0]
        self._second = max(second, self._second)
        return self._slots[self._second % self.seconds]
