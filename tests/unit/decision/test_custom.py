"""Metrics of the team's own: verdicts by hand."""

from __future__ import annotations

from typing import Any

import pytest

from kanarya.api.rollout import Analysis, CustomMetric
from kanarya.decision.counts import Counts, Reading, Sight, counts_from_json, counts_json
from kanarya.decision.custom import Value, Watch, blocking, counted, judge_custom, values_from_json, values_json, values_of, watched
from kanarya.decision.judge import Standard
from kanarya.decision.verdict import Kind, Verdict

LESS: dict[str, Any] = {"name": "gpu", "query": "up", "slo": 10, "abort": 20}
MORE: dict[str, Any] = {"name": "hits", "query": "up", "slo": 0.8, "abort": 0.5, "abortForSeconds": 0}
RATIO: dict[str, Any] = {"name": "low", "bad": "b", "total": "t", "slo": 0.01, "abort": 0.02}


def analysis(*metrics: dict[str, Any], **changes: Any) -> Analysis:
    return Analysis.model_validate({"metrics": metrics, **changes})


def judged(metric: dict[str, Any], *, value: Value | None = None, pair: tuple[float, float] = (0, 0), method: str = "Threshold") -> Verdict:
    standard = Standard(analysis(metric, method=method))
    counts, name = Counts(custom={metric["name"]: pair}), metric["name"]
    values = {} if value is None else {name: value}
    verdicts, _ = judge_custom(standard.analysis, standard.alphas, counts, values=values, bases={}, elapsed=60)
    return verdicts[name]


@pytest.mark.parametrize(
    ("metric", "value", "kind", "reason"),
    [
        (LESS, Value(10, 1), Kind.GOOD, "ValueWithinSlo"),
        (LESS, Value(10.001, 1), Kind.WITHIN, "ValueBeyondSlo"),
        (LESS, Value(20, 1), Kind.WITHIN, "ValueBeyondSlo"),
        (LESS, Value(21, 1, 29.9), Kind.WITHIN, "AbortNotHeld"),
        (LESS, Value(21, 1, 30), Kind.BAD, "ValueBeyondAbort"),
        (LESS, Value(21, 0, 30), Kind.INSUFFICIENT, "ValueTooOld"),
        (LESS, Value(5, -3), Kind.INSUFFICIENT, "ValueTooOld"),
        (LESS, None, Kind.NO_DATA, "NoSeries"),
        (MORE, Value(0.8, 1), Kind.GOOD, "ValueWithinSlo"),
        (MORE, Value(0.6, 1), Kind.WITHIN, "ValueBeyondSlo"),
        (MORE, Value(0.4, 1, 0), Kind.BAD, "ValueBeyondAbort"),
    ],
)
def test_a_value(metric: dict[str, Any], value: Value | None, kind: Kind, reason: str) -> None:
    verdict = judged(metric, value=value)
    assert (verdict.kind, verdict.reason) == (kind, reason)


@pytest.mark.parametrize("method", ["Threshold", "Sequential"])
def test_a_ratio_is_judged_as_errors_are(method: str) -> None:
    assert judged(RATIO, pair=(0, 20), method=method).kind is Kind.INSUFFICIENT
    assert judged(RATIO, pair=(5, 5000), method=method).kind is Kind.GOOD
    assert judged(RATIO, pair=(300, 1000), method=method).reason == "RatioAboveAbort"
    assert judged(RATIO, pair=(75, 5000), method=method).reason == "RatioAboveSlo"


def test_more_bad_events_than_events_are_all_of_them() -> None:
    verdict = judged(RATIO, pair=(500, 200))
    assert (verdict.kind, verdict.estimate) == (Kind.BAD, 1.0)


def test_each_ratio_takes_its_share_of_the_error_probability() -> None:
    alone, two = Standard(analysis()).alphas, Standard(analysis(RATIO, {**RATIO, "name": "other"}, LESS)).alphas
    assert two.bad == pytest.approx(alone.bad * 3 / 5)
    assert two.good == alone.good


def test_only_those_that_abort_are_blocking() -> None:
    assert blocking(analysis(LESS, {**RATIO, "action": "Report"})) == ("gpu",)


def test_how_long_a_value_is_beyond_abort() -> None:
    def look(watches: dict[str, Watch], at: float, value: float | None, oldest: float = 150.0) -> dict[str, Watch]:
        reading = Reading(at, custom={} if value is None else {"gpu": Sight(at, value, oldest)})
        return watched(watches, reading, analysis(LESS), 100.0)

    watches = look({}, 200, 25, oldest=99)
    assert watches == {"gpu": Watch(200, None)}, "what rests on samples of before says nothing"
    watches = look(watches, 210, 25)
    watches = look(watches, 220, None)
    watches = look(watches, 230, 30)
    assert watches == {"gpu": Watch(230, 210)}, "a look without an answer neither counts nor breaks the time"
    reading = Reading(230, custom={"gpu": Sight(230, 30, 150)})
    assert values_of(watches, reading, 100.0) == {"gpu": Value(30, 50, 20)}
    assert look(watches, 240, 15) == {"gpu": Watch(240, None)}


def test_counts_of_a_ratio_are_taken_once() -> None:
    reading = Reading(0, custom={"low": Sight(210, bad=1, total=9), "gpu": Sight(210, 5.0, 200)})
    assert counted({}, reading, 200) == Counts(custom={"low": (1, 9)})
    assert counted({"low": Watch(210)}, reading, 200) == Counts()
    assert counted({"low": Watch(205)}, reading, 210) == Counts(), "from before the weight changed"


def test_json_and_back() -> None:
    values = {"gpu": Value(1.5, 3.0), "hits": Value(0.1, 2.0, 4.0)}
    assert values_from_json(values_json(values)) == values
    counts = Counts(custom={"low": (1.0, 9.0)}) + Counts(custom={"low": (2.0, 3.0), "other": (0.0, 1.0)})
    assert counts.custom == {"low": (3.0, 12.0), "other": (0.0, 1.0)}
    assert counts_from_json(counts_json(counts)) == counts
    assert "custom" not in counts_json(Counts())


def test_a_clock_that_was_set_back() -> None:
    assert Watch(200, 190).not_after(150) == Watch(150, 150)
    assert Watch(100, None).not_after(150) == Watch(100, None)


def test_a_metric_is_one_of_two_kinds() -> None:
    assert CustomMetric.model_validate(LESS).bad is None
    assert CustomMetric.model_validate(RATIO).query is None
