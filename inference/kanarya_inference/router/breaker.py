"""The breaker: stop mirroring to a track that cannot take it."""

from __future__ import annotations

from typing import Literal

from kanarya_inference.router.windows import Clock, SlidingCounts

FAILURES_IN_A_ROW = 5
FAILURE_RATE = 0.02
WINDOW_SECONDS = 10
MINIMUM_IN_WINDOW = 50
OPEN_SECONDS = 10.0

State = Literal["closed", "half-open", "open"]


class Breaker:
    """Closed, open for 10 s, then half-open: one probe at a time, whose result closes or opens it again.

    Opens at 5 failures in a row, or when over 2 % of at least 50 mirrored requests of the last 10 s failed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._recent = SlidingCounts(WINDOW_SECONDS, clock)
        self._in_a_row = 0
        self._opened_at: float | None = None
        self._probing = False
        self._epoch = 0

    @property
    def state(self) -> State:
        """`half-open` once a single probe may go, or is on its way."""
        if self._opened_at is None:
            return "closed"
        return "half-open" if self._probing or self._clock() - self._opened_at >= OPEN_SECONDS else "open"

    @property
    def suspended(self) -> bool:
        """True while mirroring is not let through freely (open or half-open)."""
        return self._opened_at is not None

    def acquire(self) -> int | None:
        """Ask for leave to mirror one request: a permit to hand to `record` or `release`, or None to drop the request."""
        if self._opened_at is None:
            return self._epoch
        if self._probing or self._clock() - self._opened_at < OPEN_SECONDS:
            return None
        self._probing = True
        return self._epoch

    def record(self, permit: int, *, failed: bool) -> None:
        """Say how it went. Results of requests sent before the breaker last changed say nothing about now and are passed over."""
        if permit != self._epoch:
            return
        if self._probing:
            self._probing = False
            if failed:
                self._open()
            else:
                self._close()
            return
        self._recent.add(marked=failed)
        self._in_a_row = self._in_a_row + 1 if failed else 0
        if failed and (self._in_a_row >= FAILURES_IN_A_ROW or self._over_rate()):
            self._open()

    def release(self, permit: int) -> None:
        """Give a permit back unused."""
        if permit == self._epoch:
            self._probing = False

    def _over_rate(self) -> bool:
        mirrored, failures = self._recent.totals()
        return mirrored >= MINIMUM_IN_WINDOW and failures > FAILURE_RATE * mirrored

    def _open(self) -> None:
        self._opened_at = self._clock()
        self._epoch += 1

    def _close(self) -> None:
        self._opened_at = None
        self._epoch += 1
        self._in_a_row = 0
        self._recent.clear()
