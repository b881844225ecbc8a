"""Faults on demand, so that a rollout can be shown a slow or a failing model in a real pod. Off unless asked for."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import msgspec

MAX_LATENCY_MILLISECONDS = 60_000.0


class Change(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Body of `POST /ml/faults`; what it leaves out is switched off."""

    latency_milliseconds: float = 0.0
    error_rate: float = 0.0


@dataclass
class Faults:
    """What to do wrong on each prediction.

    Parameters
    ----------
    latency_milliseconds
        added to every prediction.
    error_rate
        share of predictions answered with 500, after the added latency.
    rng
        decides which ones.
    """

    latency_milliseconds: float = 0.0
    error_rate: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 -- chooses demo faults, guards nothing

    def __post_init__(self) -> None:
        """Raise `ValueError` for a value that makes no sense."""
        if not 0 <= self.latency_milliseconds <= MAX_LATENCY_MILLISECONDS:
            raise ValueError(f"the fault latency is 0 to {MAX_LATENCY_MILLISECONDS:.0f} milliseconds")
        if not 0 <= self.error_rate <= 1:
            raise ValueError("the fault error rate is a share from 0 to 1")

    def change(self, body: bytes) -> None:
        """Take the settings of a `Change`, from the next prediction on; raises `ValueError` with a sentence for whoever sent it."""
        try:
            wanted = msgspec.json.decode(body, type=Change)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"the body is a JSON object with latencyMilliseconds and errorRate: {error}") from error
        Faults(wanted.latency_milliseconds, wanted.error_rate)  # refuses what makes no sense before anything is changed
        self.latency_milliseconds, self.error_rate = wanted.latency_milliseconds, wanted.error_rate

    @property
    def on(self) -> bool:
        """Whether there is any fault to make."""
        return self.latency_milliseconds > 0 or self.error_rate > 0

    def fails(self) -> bool:
        """Decide whether this prediction fails."""
        return self.error_rate > 0 and self.rng.random() < self.error_rate
