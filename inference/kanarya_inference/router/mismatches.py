"""A few of the requests that the tracks answered differently, for people to look at."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

from kanarya_inference.router.compare import Compared
from kanarya_inference.router.model import Attempt, Request
from kanarya_inference.router.plan import Plan
from kanarya_inference.router.predictions import Prediction
from kanarya_inference.router.windows import Clock

KEPT = 100
SECONDS_APART = 1.0
"""At most one a second is kept: writing one costs more than comparing one."""
VALUES = 20
INPUT_BYTES = 4096
WORD = 200


class Mismatches:
    """The last mismatches. Inputs are people's data: they and the query string stay out unless `inputs` allows them."""

    def __init__(self, *, inputs: bool, clock: Clock, now: Callable[[], datetime]) -> None:
        self.seen = 0
        self._inputs = inputs
        self._clock = clock
        self._now = now
        self._kept: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._next = clock()

    def see(self, plan: Plan, request: Request, stable: Attempt, candidate: Attempt, compared: Compared) -> None:
        """Take note of a mismatch, and keep it when it is time for one."""
        self.seen += 1
        if self._clock() < self._next:
            return
        self._next = self._clock() + SECONDS_APART
        self._kept.append(
            {
                "time": self._now().isoformat(timespec="milliseconds"),
                "request": f"{request.method} {request.target.partition('?')[0][:WORD]}",
                "traceparent": (request.header("traceparent") or "")[:WORD] or None,
                "rows": compared.rows,
                "differing": compared.differing,
                "absDelta": compared.delta,
                "stable": _side(plan.stable.revision, stable, compared.stable),
                "candidate": _side(plan.candidate.revision, candidate, compared.candidate),
                "input": request.body[:INPUT_BYTES].decode("utf-8", "replace") if self._inputs else None,
                "query": request.target.partition("?")[2][:WORD] if self._inputs else None,
                "inputs": "shown" if self._inputs else "redacted",
            }
        )

    def newest_first(self) -> list[dict[str, Any]]:
        """Give those that are kept."""
        return list(reversed(self._kept))


def _side(revision: str | None, attempt: Attempt, prediction: Prediction) -> dict[str, Any]:
    values = {name[:WORD]: [_short(value) for value in values[:VALUES]] for name, values in list(prediction.tensors.items())[:VALUES]}
    return {"revision": revision, "milliseconds": round(1000 * attempt.seconds, 3), "values": values.get("", values)}


def _short(value: Any) -> Any:
    return value[:WORD] if isinstance(value, str) else value
