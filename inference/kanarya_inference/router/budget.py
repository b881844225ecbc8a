"""The retry budget: requests that the candidate has worked on may add a tenth to stable's load, not double it."""

from __future__ import annotations

from kanarya_inference.router.windows import Clock, SlidingCounts

RATIO = 0.10
MINIMUM_PER_SECOND = 3
WINDOW_SECONDS = 10


class RetryBudget:
    """Lets through as many fallbacks as 10 % of the requests of the last 10 s, and always 3 a second."""

    def __init__(self, clock: Clock) -> None:
        self._recent = SlidingCounts(WINDOW_SECONDS, clock)

    def request(self) -> None:
        """Count one live request."""
        self._recent.add(marked=False)

    def spend(self) -> bool:
        """Take one fallback out of the budget; False when it is used up."""
        requests, spent = self._recent.totals()
        if spent + 1 > max(RATIO * requests, MINIMUM_PER_SECOND * WINDOW_SECONDS):
            return False
        self._recent.mark()
        return True
