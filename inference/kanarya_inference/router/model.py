"""The words of the data plane: a request, an attempt on a track, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from kanarya_inference.router.answers import Rest
from kanarya_inference.router.endpoints import Endpoint
from kanarya_inference.router.uploads import Upload

TrackName = Literal["stable", "candidate"]
Exposure = Literal["live", "mirror"]
Outcome = Literal["success", "client_error", "server_error", "timeout", "unreachable", "cancelled"]
Comparison = Literal["match", "mismatch", "refused", "not_compared", "dropped"]

TRACKS: tuple[TrackName, ...] = get_args(TrackName)
EXPOSURES: tuple[Exposure, ...] = get_args(Exposure)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
COMPARISONS: tuple[Comparison, ...] = get_args(Comparison)

BOTH_ANSWERED: frozenset[Outcome] = frozenset({"success", "client_error"})
"""Outcomes whose times can be set against each other."""

ERRORS: frozenset[Outcome] = frozenset({"server_error", "timeout", "unreachable"})
"""Outcomes that speak against the track."""

FALLBACK_OUTCOMES: dict[str, frozenset[Outcome]] = {
    "None": frozenset(),
    "Unavailable": frozenset({"timeout", "unreachable"}),
    "AnyError": ERRORS,
}
"""By the setting `fallback`: which outcomes of the candidate are answered from stable."""


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request as it is sent upstream, hop-by-hop headers gone. `target` is the raw path with its query."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    """The whole body, empty with an `upload`."""
    upload: Upload | None = None
    """A body that is sent on while it arrives."""
    passes: bool = False
    """Whether the answer may be passed on while it arrives. Copies, and what is shown to people, need it whole."""

    @property
    def repeatable(self) -> bool:
        """Whether all of it is still there to be sent, or sent again."""
        return self.upload is None or not self.upload.begun

    def header(self, name: str) -> str | None:
        """Return the first value of a header, whatever its case."""
        wanted = name.lower()
        return next((value for known, value in self.headers if known.lower() == wanted), None)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of a pod."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes | None
    """None when it is not there whole: it is still to come, or too long to be kept."""
    rest: Rest | None = None
    """The body that is still to come. Whoever has it closes it."""

    @property
    def outcome(self) -> Outcome:
        """Success below 400, then the client's fault, then the server's."""
        if self.status < 400:
            return "success"
        return "client_error" if self.status < 500 else "server_error"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt on one track.

    `answer` is None when there is none to pass on; `problem` then says why, in our words. `endpoint` is None when the track had
    no ready endpoint.
    """

    outcome: Outcome
    seconds: float
    answer: Answer | None = None
    endpoint: Endpoint | None = None
    problem: str = ""
    sent: bool = True
    """False when nobody has begun to work on the request: there was no pod, no connection to it, or it said so."""

    @property
    def rest(self) -> Rest | None:
        """The part of the answer that is still to come: until it has come, outcome and seconds are not the last word."""
        return None if self.answer is None else self.answer.rest
