"""Whether two answers to the same request agree."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import cast

from kanarya_inference.router.model import Attempt, Comparison
from kanarya_inference.router.predictions import Compare, Prediction, Value, read_prediction

ROUNDING = 1e-9
"""So that 0.75 and 0.70 are within 0.05 of each other, as on paper."""


@dataclass(frozen=True, slots=True)
class MatchRule:
    """When two values are the same: equal labels, or scores with |candidate - stable| <= tolerance + relative x |stable|."""

    compare: Compare = "Score"
    tolerance: float = 0.0
    relative: float = 0.0


@dataclass(frozen=True, slots=True)
class Compared:
    """How two answers compare: `differing` of `rows` rows are not the same.

    `delta` is the largest |candidate - stable| of their scores, None for labels and for answers of different shapes.
    """

    rows: int
    differing: int
    delta: float | None
    stable: Prediction
    candidate: Prediction

    def verdict(self, random: Random) -> Comparison:
        """Count the request once, as one of its rows drawn by chance: the match rate is then that of rows, whatever the batches' sizes.

        Rows of one request are no independent observations, so each counted as one would overstate the evidence; and a batch as a
        whole nearly always differs somewhere.
        """
        if self.differing in (0, self.rows):
            return "mismatch" if self.differing else "match"
        return "mismatch" if random.random() * self.rows < self.differing else "match"


def compare(stable: Attempt, candidate: Attempt, rule: MatchRule) -> Compared | Comparison:
    """Compare the predictions of two attempts row by row; `not_compared` when either has none to compare.

    A request that both refuse with the same 4xx is `refused`: the client's fault, which says nothing about the candidate.
    """
    one, other = stable.answer, candidate.answer
    if one is None or other is None:
        return "not_compared"
    if stable.outcome == candidate.outcome == "client_error" and one.status == other.status:
        return "refused"
    if stable.outcome != "success" or candidate.outcome != "success" or one.body is None or other.body is None:
        return "not_compared"
    left, right = read_prediction(one.body, rule.compare), read_prediction(other.body, rule.compare)
    if left is None or right is None:
        return "not_compared"
    return _compare_rows(left, right, rule)


def _compare_rows(stable: Prediction, candidate: Prediction, rule: MatchRule) -> Compared:
    same_shape = stable.rows == candidate.rows and stable.tensors.keys() == candidate.tensors.keys()
    if not same_shape or any(len(values) != len(candidate.tensors[name]) for name, values in stable.tensors.items()):
        rows = max(stable.rows, candidate.rows)
        return Compared(rows, rows, None, stable, candidate)
    differing: set[int] = set()
    largest = 0.0
    for name, values in stable.tensors.items():
        width = len(values) // stable.rows
        if rule.compare == "Label":
            differing.update(i // width for i, (a, b) in enumerate(zip(values, candidate.tensors[name], strict=True)) if not _equal(a, b))
            continue
        scores = cast("list[float]", values)
        deltas = [abs(b - a) for a, b in zip(scores, cast("list[float]", candidate.tensors[name]), strict=True)]
        largest = max(largest, *deltas) if len(deltas) > 1 else max(largest, deltas[0])
        limit = rule.tolerance + ROUNDING
        differing.update(i // width for i, delta in enumerate(deltas) if delta > limit + rule.relative * abs(scores[i]))
    return Compared(stable.rows, len(differing), largest if rule.compare == "Score" else None, stable, candidate)


def _equal(one: Value, other: Value) -> bool:
    """Compare as JSON does: true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)
