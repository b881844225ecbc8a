"""Whether two answers to the same request agree."""

from __future__ import annotations

import msgspec

from kanarya_inference.router.model import Attempt, Comparison

ROUNDING = 1e-9
"""So that 0.75 and 0.70 are within 0.05 of each other, as on paper."""


class _Scored(msgspec.Struct):
    score: float


_decoder = msgspec.json.Decoder(_Scored)


def score_of(body: bytes) -> float | None:
    """Read the number `score` of a JSON object; None when there is none."""
    try:
        return _decoder.decode(body).score
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def compare(one: Attempt, other: Attempt, tolerance: float) -> Comparison:
    """Compare the scores of two attempts: `match`, `mismatch`, or `not_compared` when either has none to compare.

    A request that both refuse with the same 4xx is `refused`: the client's fault, which says nothing about the candidate.
    """
    if one.outcome == other.outcome == "client_error" and one.answer and other.answer and one.answer.status == other.answer.status:
        return "refused"
    if one.outcome != "success" or other.outcome != "success" or one.answer is None or other.answer is None:
        return "not_compared"
    left, right = score_of(one.answer.body), score_of(other.answer.body)
    if left is None or right is None:
        return "not_compared"
    return "match" if abs(left - right) <= tolerance + ROUNDING else "mismatch"
