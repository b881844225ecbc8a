"""What can be set about a server. Each default is that of `kanarya-ml serve`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Fallback = Literal["error", "previous"] | float
"""`error` answers 503, `previous` asks the version that was active before, a number is answered as the score."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True)
class ServerSettings:
    """Limits and switches of one server.

    Parameters
    ----------
    name
        the model's name in the paths of the Open Inference Protocol.
    repository
        a folder with a folder for each version, from which other versions are loaded when they are asked for.
    loaded_models
        how many versions are in memory at most; the one used least recently leaves, never the active one.
    budget_milliseconds
        how long an inference may take from the moment the body is there; 0 is without limit.
    fallback
        what is answered instead of a prediction that exceeds its budget.
    queue
        prediction requests in progress at most, waiting ones included; more are answered with 429. 0 is without limit.
    client_rate
        requests a second of one client at most, with as many at once; more are answered with 429. 0 is without limit.
    client_header
        header that names the client; without it a client is an address. Of `x-forwarded-for` the last entry counts.
    batch_rows
        rows of one request at most.
    model_control
        let clients load, unload and exchange models.
    outcome_ids
        predictions whose outcome is awaited, at most.
    outcome_seconds
        how long it is awaited, and how long it counts.
    outcome_window
        outcomes of a version that its rolling figures rest on, at most.
    """

    name: str = "model"
    repository: Path | None = None
    loaded_models: int = 3
    budget_milliseconds: float = 60.0
    fallback: Fallback = "error"
    queue: int = 100
    client_rate: float = 20.0
    client_header: str | None = None
    batch_rows: int = 1000
    model_control: bool = False
    outcome_ids: int = 100_000
    outcome_seconds: float = 86_400.0
    outcome_window: int = 1000

    def __post_init__(self) -> None:
        """Raise `ValueError` with a sentence for a value that makes no sense."""
        if not _NAME.fullmatch(self.name):
            raise ValueError("the model's name has 1 to 63 letters, digits, '.', '_' or '-', with a letter or digit at both ends")
        for what, value, least, most in (
            ("the number of loaded models", self.loaded_models, 1, 64),
            ("the budget in milliseconds", self.budget_milliseconds, 0, 600_000),
            ("the queue", self.queue, 0, 100_000),
            ("the rate of a client", self.client_rate, 0, 1_000_000),
            ("the rows of a batch", self.batch_rows, 1, 100_000),
            ("the number of awaited outcomes", self.outcome_ids, 1, 10_000_000),
            ("the seconds an outcome is awaited", self.outcome_seconds, 1, 90 * 86_400),
            ("the window of outcomes", self.outcome_window, 10, 1_000_000),
        ):
            if not least <= value <= most:  # NaN is in no range
                raise ValueError(f"{what} is {value}: give {least} to {most}")
        if isinstance(self.fallback, float) and not 0 <= self.fallback <= 1:
            raise ValueError("a constant fallback is a score from 0 to 1")


def parse_fallback(text: str) -> Fallback:
    """Read `error`, `previous` or `constant:SCORE`. Raises `ValueError`."""
    if text == "error":
        return "error"
    if text == "previous":
        return "previous"
    kind, _, score = text.partition(":")
    try:
        value = float(score) if kind == "constant" else math.nan
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ValueError(f"{text!r} is no fallback: error, previous, or constant:SCORE with a score from 0 to 1")
    return value
