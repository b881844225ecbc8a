from __future__ import annotations

import pytest

from kanarya_inference.router.compare import compare, score_of
from kanarya_inference.router.model import Answer, Attempt


@pytest.mark.parametrize(
    ("body", "score"),
    [
        (b'{"score": 0.73, "label": 1}', 0.73),
        (b'{"score": 1}', 1.0),
        (b'{"score": "0.73"}', None),
        (b'{"score": true}', None),
        (b'{"score": null}', None),
        (b'{"score": NaN}', None),
        (b"[0.73]", None),
        (b'{"scores": 1}', None),
        (b'{"score": 1', None),
        (b"\xff\xfe", None),
        (b"", None),
    ],
)
def test_score(body: bytes, score: float | None) -> None:
    assert score_of(body) == score


def attempt(score: float, status: int = 200) -> Attempt:
    answer = Answer(status, (), b'{"score": %r}' % score)
    return Attempt(answer.outcome, 0.01, answer)


def test_tolerance_is_inclusive_as_on_paper() -> None:
    assert compare(attempt(0.70), attempt(0.75), 0.05) == "match"
    assert compare(attempt(0.70), attempt(0.6499), 0.05) == "mismatch"
    assert compare(attempt(0.5), attempt(0.5), 0) == "match"


def test_failures_are_not_compared() -> None:
    assert compare(attempt(0.5), attempt(0.5, 500), 1) == "not_compared"
    assert compare(attempt(0.5, 404), attempt(0.5, 404), 1) == "refused"
    assert compare(attempt(0.5, 404), attempt(0.5, 422), 1) == "not_compared"
    assert compare(attempt(0.5, 404), attempt(0.5), 1) == "not_compared"
    assert compare(attempt(0.5), Attempt("timeout", 1.0), 1) == "not_compared"
