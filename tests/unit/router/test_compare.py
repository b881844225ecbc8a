from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from kanarya_inference.router.compare import Compared, MatchRule, compare
from kanarya_inference.router.model import Answer, Attempt
from kanarya_inference.router.predictions import read_prediction

SCORE = MatchRule("Score", 0.05)
LABEL = MatchRule("Label")


@pytest.mark.parametrize(
    ("body", "score"),
    [
        (b'{"score": 0.73, "label": 1}', 0.73),
        (b'{"score": 1}', 1.0),
        (b'{"score": "0.73"}', None),
        (b'{"score": true}', None),
        (b'{"score": null}', None),
        (b'{"score": NaN}', None),
        (b'{"score": 1e999}', None),
        (b'{"score": 1' + b"0" * 400 + b"}", None),
        (b"[0.73]", None),
        (b'{"scores": 1}', None),
        (b'{"score": 1', None),
        (b"\xff\xfe", None),
        (b"", None),
    ],
)
def test_score(body: bytes, score: float | None) -> None:
    found = read_prediction(body, "Score")
    assert (None if found is None else found.tensors[""]) == (None if score is None else [score])


def tensor(name: str, datatype: str, shape: Any, data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


PROBABILITIES = tensor("probabilities", "FP32", [2, 2], [[0.2, 0.8], [0.5, 0.5]])
CLASSES = tensor("class", "INT64", [2], [1, 0])
NAMES = tensor("name", "BYTES", [2, 1], ["fraud", "fair"])


@pytest.mark.parametrize(
    ("document", "scores", "labels"),
    [
        ({"predictions": [0.1, 0.2]}, (2, [[0.1, 0.2]]), None),
        ({"predictions": [[0.1, 0.9], [0.2, 0.8]]}, (2, [[0.1, 0.9, 0.2, 0.8]]), None),
        ({"predictions": ["a", "b"]}, None, (2, [["a", "b"]])),
        ({"predictions": [1, 0]}, (2, [[1.0, 0.0]]), (2, [[1, 0]])),
        ({"results": [{"score": 0.1, "label": 0}, {"score": 0.9, "label": 1}]}, (2, [[0.1, 0.9]]), (2, [[0, 1]])),
        ({"predictions": [{"score": 0.1}, {"error": "no such row"}]}, None, None),
        ({"predictions": [[0.1], [0.2, 0.8]]}, None, None),
        ({"predictions": []}, None, None),
        ({"predictions": {}}, None, None),
        ({"outputs": [PROBABILITIES, CLASSES]}, (2, [[0.2, 0.8, 0.5, 0.5]]), (2, [[1, 0]])),
        ({"outputs": [CLASSES, NAMES]}, (2, [[1.0, 0.0]]), (2, [[1, 0], ["fraud", "fair"]])),
        ({"outputs": [NAMES]}, None, (2, [["fraud", "fair"]])),
        ({"outputs": [tensor("p", "FP32", [2, 2], [0.2, 0.8, 0.5, 0.5])]}, (2, [[0.2, 0.8, 0.5, 0.5]]), None),
        ({"outputs": [tensor("p", "FP32", [], [0.2])]}, (1, [[0.2]]), None),
        ({"outputs": [tensor("p", "FP32", [0], [])]}, None, None),
        ({"outputs": [tensor("p", "FP32", [3], [0.2])]}, None, None),
        ({"outputs": [tensor("p", "FP32", [True], [0.2])]}, None, None),
        ({"outputs": [tensor("p", "FP32", "1", [0.2])]}, None, None),
        ({"outputs": [tensor("p", "FP32", [1], None)]}, None, None),
        ({"outputs": [tensor("p", "FP32", [1], [10**400])]}, None, None),
        ({"outputs": ["p"]}, None, None),
        ({"outputs": []}, None, None),
    ],
)
def test_rows(document: Any, scores: Any, labels: Any) -> None:
    body = json.dumps(document).encode()
    for compared, expected in (("Score", scores), ("Label", labels)):
        found = read_prediction(body, compared)  # type: ignore[arg-type]
        assert (None if found is None else (found.rows, list(found.tensors.values()))) == expected


def test_brackets_without_end_are_no_prediction() -> None:
    assert read_prediction(b'{"predictions":' + b"[" * 100_000, "Score") is None
    deep = 900
    assert read_prediction(b'{"predictions":[' + b"[" * deep + b"1" + b"]" * deep + b"]}", "Score") is not None


def attempt(document: Any, status: int = 200) -> Attempt:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    answer = Answer(status, (), body)
    return Attempt(answer.outcome, 0.01, answer)


def score(value: float, status: int = 200) -> Attempt:
    return attempt({"score": value}, status)


def verdict(one: Attempt, other: Attempt, rule: MatchRule = SCORE) -> str:
    found = compare(one, other, rule)
    return found.verdict(Random(1)) if isinstance(found, Compared) else found


def test_tolerance_is_inclusive_as_on_paper() -> None:
    assert verdict(score(0.70), score(0.75)) == "match"
    assert verdict(score(0.70), score(0.6499)) == "mismatch"
    assert verdict(score(0.5), score(0.5), MatchRule()) == "match"


def test_relative_tolerance_is_a_share_of_stables_score() -> None:
    rule = MatchRule("Score", 0.0, 0.1)
    assert verdict(score(100), score(110), rule) == "match"
    assert verdict(score(-100), score(-110), rule) == "match"
    assert verdict(score(100), score(110.1), rule) == "mismatch"
    assert verdict(score(110), score(99), rule) == "match", "11 of stable's 110"
    assert verdict(score(0), score(0.01), rule) == "mismatch"
    assert verdict(score(100), score(110.1), MatchRule("Score", 0.2, 0.1)) == "match", "both tolerances add up"


def test_labels_are_equal_or_not() -> None:
    def label(value: Any) -> Attempt:
        return attempt({"score": 0.9, "label": value})

    assert verdict(label(1), label(1), LABEL) == "match"
    assert verdict(label(1), label(0), LABEL) == "mismatch"
    assert verdict(label("fraud"), label("fair"), LABEL) == "mismatch"
    assert verdict(label(True), label(1), LABEL) == "mismatch"
    assert verdict(label(1), attempt({"score": 0.9}), LABEL) == "not_compared"


def test_failures_are_not_compared() -> None:
    assert verdict(score(0.5), score(0.5, 500)) == "not_compared"
    assert verdict(score(0.5, 404), score(0.5, 404)) == "refused"
    assert verdict(score(0.5, 404), score(0.5, 422)) == "not_compared"
    assert verdict(score(0.5, 404), score(0.5)) == "not_compared"
    assert verdict(score(0.5), Attempt("timeout", 1.0)) == "not_compared"


def rows(*values: Any) -> Attempt:
    return attempt({"predictions": list(values)})


def test_rows_are_compared_one_by_one_and_count_as_one_request() -> None:
    stable, candidate = rows([0.1, 0.9], [0.5, 0.5], [0.2, 0.8], [0.3, 0.7]), rows([0.1, 0.9], [0.5, 0.7], [0.9, 0.1], [0.3, 0.7])
    found = compare(stable, candidate, SCORE)
    assert isinstance(found, Compared)
    assert (found.rows, found.differing) == (4, 2)
    assert found.delta == pytest.approx(0.7)
    random = Random(1)
    drawn = [found.verdict(random) for _ in range(2000)]
    assert 900 <= drawn.count("mismatch") <= 1100, "the share of rows that differ, ± 4.5 standard deviations"
    assert {verdict(stable, stable) for _ in range(50)} == {"match"}


def test_one_answer_with_rows_missing_is_a_mismatch() -> None:
    assert verdict(rows(0.1, 0.2), rows(0.1)) == "mismatch"
    assert verdict(rows([0.1, 0.9]), rows([0.1])) == "mismatch"
    one, other = attempt({"outputs": [PROBABILITIES]}), attempt({"outputs": [{**PROBABILITIES, "name": "p"}]})
    assert verdict(one, other) == "mismatch"
    assert verdict(one, one) == "match"
