"""`kanarya judge`: one line in, one line out, the operator's decision."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kanarya.cli.judge import judged
from kanarya.decision.counts import Reading, counts_json
from kanarya.decision.draft import Decision
from kanarya.decision.state import Stage
from tests.unit.cli.lines import Answers, judge, line
from tests.unit.decision.play import REFERENCE, B, Play, Traffic
from tests.unit.decision.play import spec as play_spec

STEPS = {"steps": [{"weight": 10, "durationSeconds": 60}, {"weight": 100, "durationSeconds": 60}]}


def decisions(answers: Answers) -> list[str]:
    return [answer["decision"] for answer in answers]


def every(seconds: float, until: float, **about: Any) -> list[dict[str, Any]]:
    return [line(seconds * i, **about) for i in range(int(until / seconds) + 1)]


def test_a_good_candidate_advances_when_each_step_is_over_and_not_before() -> None:
    answers = judge(every(5, 60) + every(5, 60, step=1, live=1.0))
    assert decisions(answers) == [*["Hold"] * 12, "Advance"] * 2
    assert [answer["reason"] for answer in answers if answer["decision"] == "Advance"] == ["Advancing", "Promoting"]
    assert {metric: verdict["verdict"] for metric, verdict in answers[-1]["metrics"].items()} == dict.fromkeys(
        ("errors", "latency", "match", "drift"), "Good"
    )
    assert answers[5]["t"] == 25
    assert answers[20]["step"] == 1


def test_the_soak_is_the_step_after_the_last() -> None:
    lines = [line(60), line(60, 1), line(20, 2), line(40, 2)]
    answers = judge(lines, plan={**STEPS, "soakSeconds": 40})
    assert decisions(answers) == ["Advance", "Advance", "Hold", "Advance"]
    assert [answer["reason"] for answer in answers] == ["Advancing", "Soaking", "Soaking", "Promoting"]


def test_a_run_that_only_observes_is_told_what_it_would_do() -> None:
    good = judge([line(60), line(60, 1)], mode="Observe")
    assert decisions(good) == ["Advance", "Advance"]
    assert good[-1]["reason"] == "WouldPromote"
    bad = judge([line(30, errors=0.5)], mode="Observe")
    assert (bad[-1]["decision"], bad[-1]["reason"]) == ("Rollback", "ErrorsAboveAbort")


def test_bad_is_rolled_back_at_once_and_stays_so() -> None:
    answers = judge([line(5), line(10, errors=0.3), line(15, errors=0.3)])
    assert decisions(answers) == ["Hold", "Rollback", "Rollback"]
    assert answers[1]["reason"] == "ErrorsAboveAbort"
    assert answers[1]["metrics"]["errors"]["detail"] == "600 of 1000, all attempts, since look 1 of the step"
    assert [answer["t"] for answer in answers] == [5, 10, 15]
    assert answers[2]["metrics"] == answers[1]["metrics"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"very_slow": 0.3}, "LatencyAboveAbort"),
        ({"mismatches": 0.4}, "MismatchesAboveAbort"),
        ({"errors": 1.0}, "ErrorsAboveAbort"),
    ],
)
def test_each_metric_can_take_a_candidate_back(bad: dict[str, float], reason: str) -> None:
    assert judge([line(10, 0, **bad)])[-1]["reason"] == reason


def test_worse_than_slo_holds_for_its_time() -> None:
    answers = judge(every(10, 400, errors=0.015), plan={**STEPS, "maxHoldSeconds": 100})
    within = next(i for i, answer in enumerate(answers) if answer["metrics"]["errors"]["verdict"] == "Within")
    end = decisions(answers).index("Rollback")
    assert (answers[end]["t"], answers[end]["reason"]) == (answers[within]["t"] + 100, "HeldTooLong")
    assert "Advance" not in decisions(answers)


def test_slow_but_not_too_slow_is_within() -> None:
    answers = judge([line(60, slow=0.2)])
    assert answers[0]["metrics"]["latency"]["reason"] == "LatencyAboveSlo"
    assert decisions(answers) == ["Hold"]


def without(given: dict[str, Any], *path: str) -> dict[str, Any]:
    given = json.loads(json.dumps(given))
    inner = given
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return given


@pytest.mark.parametrize(
    ("path", "metric", "reason"),
    [
        (("candidate",), "errors", "NoSeries"),
        (("candidate",), "match", "NoSeries"),
        (("candidate", "live", "requests"), "errors", "NoSeries"),
        (("candidate", "mirror", "requests"), "latency", "NoSeries"),
        (("candidate", "live", "errors"), "errors", "NoSeries"),
        (("candidate", "live", "slower"), "latency", "MissingEdge"),
        (("candidate", "mirror", "slower", "120"), "latency", "MissingEdge"),
        (("candidate", "live", "slower", "80"), "latency", "MissingEdge"),
        (("candidate", "compared"), "match", "NoSeries"),
        (("candidate", "attempted"), "match", "NoSeries"),
        (("candidate", "mismatched"), "match", "NoSeries"),
        (("drift",), "drift", "NoReference"),
    ],
)
def test_an_absent_key_is_no_data_and_never_success(path: tuple[str, ...], metric: str, reason: str) -> None:
    last = without(line(60, 1), *path)
    answer = judge([line(60), last])[-1]
    verdict = answer["metrics"][metric]
    assert (verdict["verdict"], verdict["reason"]) == ("NoData", reason)
    assert "the line has" in verdict["detail"]
    assert answer["decision"] == "Hold"


def test_a_candidate_without_live_requests_is_judged_by_its_copies_and_one_without_stable_alone() -> None:
    assert decisions(judge([without(line(60), "candidate", "live"), without(line(60, 1), "stable")])) == ["Advance", "Advance"]


OWN = {
    "metrics": [
        {"name": "refunds", "bad": "refunds_total", "total": "payments_total", "slo": 0.02, "abort": 0.05},
        {"name": "gpu", "query": "gpu_share", "slo": 0.7, "abort": 0.9, "abortForSeconds": 20},
    ]
}


def with_own(about: dict[str, Any], refunds: float, gpu: float) -> dict[str, Any]:
    return {**about, "metrics": {"refunds": {"bad": about["t"] * 50 * refunds, "total": about["t"] * 50}, "gpu": {"value": gpu}}}


@pytest.mark.parametrize(
    ("refunds", "gpu", "last"), [(0.001, 0.5, "Advance"), (0.2, 0.5, "Rollback"), (0.001, 0.95, "Rollback"), (0.001, 0.8, "Hold")]
)
def test_metrics_of_the_teams_own_are_judged_too(refunds: float, gpu: float, last: str) -> None:
    answers = judge([with_own(line(t), refunds, gpu) for t in range(5, 65, 5)], analysis=OWN)
    assert decisions(answers)[-1] == last


def test_a_metric_of_the_teams_own_that_is_absent_is_no_data_and_an_unknown_one_an_error() -> None:
    answers = judge([line(5)], analysis=OWN)
    assert [answers[0]["metrics"][name]["verdict"] for name in ("refunds", "gpu")] == ["NoData", "NoData"]
    assert answers[0]["metrics"]["gpu"]["detail"] == "the line has no metrics.gpu.value"
    with pytest.raises(ValueError, match=r"line 1: metrics.cpu: is no field"):
        judge([{**line(5), "metrics": {"cpu": {"value": 1}}}], analysis=OWN)
    with pytest.raises(ValueError, match=r"line 2: metrics.refunds.total: fell from 250"):
        judge([with_own(line(5), 0, 0), {**line(10), "metrics": {"refunds": {"bad": 0, "total": 1}}}], analysis=OWN)


@pytest.mark.parametrize(
    ("absent", "policy", "reason"),
    [
        (("candidate",), "noSeries", "NoSeries"),
        (("candidate", "stable"), "sourceDown", "SourceDown"),
    ],
)
def test_silence_goes_by_its_policy(absent: tuple[str, ...], policy: str, reason: str) -> None:
    def silent(t: float) -> dict[str, Any]:
        return {key: value for key, value in line(t).items() if key not in absent}

    missing = {policy: {"action": "Rollback", "afterSeconds": 100}}
    answers = judge([line(50), silent(60), silent(159), silent(160)], analysis={"missingData": missing})
    assert decisions(answers) == ["Hold", "Hold", "Hold", "Rollback"]
    assert answers[-1]["reason"] == reason


def test_no_traffic_on_either_track_holds_without_limit() -> None:
    answers = judge([line(t, rate=0) for t in (0, 10, 100, 10_000, 100_000)])
    assert decisions(answers) == ["Hold"] * 5
    assert answers[-1]["metrics"]["errors"]["reason"] == "NoTraffic"


def test_what_was_counted_before_a_silence_is_not_counted_again_after_it() -> None:
    whole = judge([line(20), line(40), line(60)])
    gap = judge([line(20), {"t": 40, "step": 0}, line(60)])
    assert gap[-1]["metrics"]["errors"] == whole[-1]["metrics"]["errors"]
    assert gap[-1]["metrics"]["drift"] == whole[-1]["metrics"]["drift"]


def test_drift_blocks_the_weights_above_its_limit() -> None:
    def drifted(t: float, step: int) -> dict[str, Any]:
        given = line(t, step)
        given["drift"]["spread_bp"]["current"] = [0.0] * 5 + [40 * t] * 5 + [0.0]
        return given

    blocked = judge([drifted(60, 0), drifted(60, 1), drifted(600, 1)])
    assert decisions(blocked) == ["Advance", "Hold", "Hold"]
    assert blocked[-1]["metrics"]["drift"]["verdict"] == "Bad"
    earlier = judge([drifted(60, 0)], analysis={"drift": {"maxWeight": 10}})
    assert decisions(earlier) == ["Hold"]
    assert decisions(judge([drifted(60, 0)], analysis={"drift": {"action": "Abort"}})) == ["Rollback"]
    assert decisions(judge([drifted(60, 0), drifted(60, 1)], analysis={"drift": {"action": "Report"}})) == ["Advance", "Advance"]


def test_a_run_that_lasts_too_long_expires_over_all_its_steps() -> None:
    plan = {**STEPS, "maxRunSeconds": 200}
    lines = [line(100), *(line(t, 1, errors=0.014) for t in (60, 100, 101))]
    answers = judge(lines, plan=plan)
    assert decisions(answers) == ["Advance", "Hold", "Hold", "Rollback"]
    assert answers[-1]["reason"] == "Expired"


def test_a_storm_on_both_tracks_interrupts() -> None:
    answers = judge([line(10 * i, errors=0.2, stable_errors=0.2) for i in range(1, 20)])
    end = decisions(answers).index("Rollback")
    assert answers[end]["reason"] == "Interrupted"
    assert answers[0]["metrics"]["errors"]["reason"] == "StableAboveAbort"
    assert answers[end]["t"] == 130


@dataclass
class Told(Play):
    """A run of the operator's, told in lines: what it counted, and what it made of that."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    made: list[tuple[str, dict[str, tuple[str, str]]]] = field(default_factory=list)
    last: Reading | None = None

    def reading(self) -> Reading | None:
        self.last = super().reading()
        return self.last

    def tick(self, seconds: float = 1.0) -> Decision:
        before = self.state.run
        decision = super().tick(seconds)
        if before is None or before.stage is not Stage.STEPPING or self.last is None:
            return decision
        bins = list(self.last.drift.current["spread_bp"])
        if not self.lines:  # drift is of the whole run, Preflight included
            bins = [a + b for a, b in zip(bins, before.drift.current["spread_bp"], strict=True)]
        elif self.lines[-1]["step"] == before.step:
            bins = [a + b for a, b in zip(bins, self.lines[-1]["drift"]["spread_bp"]["current"], strict=True)]
        drift = {"spread_bp": {"reference": list(REFERENCE["spread_bp"]), "current": bins}}
        counts = counts_json(before.counts + self.last.counts)
        self.lines.append({"t": self.now - before.step_since, "step": before.step, **counts, "drift": drift})
        after = decision.state.run
        assert after is not None
        advances = decision.state.intent is not None or after.stage is Stage.PROMOTING
        course = "Rollback" if after.stage is Stage.ROLLING_BACK else "Advance" if advances else "Hold"
        self.made.append((course, {metric: (verdict.kind.value, verdict.reason) for metric, verdict in decision.verdicts.items()}))
        return decision


@pytest.mark.parametrize(
    "traffic", [Traffic(), Traffic(errors=0.03), Traffic(slow=0.2), Traffic(very_slow=0.06), Traffic(mismatches=0.12)], ids=str
)
def test_it_decides_as_the_operator_does(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    # The operator has learned of bursts in Preflight, which a pipeline's lines know nothing of.
    monkeypatch.setattr("kanarya.decision.statistics.dispersion.ASSUMED_ICC", 0.0)
    changes = {"plan": {**play_spec().plan.model_dump(by_alias=True), "maxHoldSeconds": 30}}
    play = Told(spec=play_spec(analysis={"method": "Sequential", "intervalSeconds": 1}, **changes))
    play.adopted()
    play.release(B)
    play.until(lambda play: play.weight == 10)
    play.traffic = traffic
    play.ended()
    text = "".join(json.dumps(one) + "\n" for one in play.lines)
    answers = [json.loads(answer) for answer in judged(play.spec, io.BytesIO(text.encode()))]
    told = [
        (answer["decision"], {metric: (one["verdict"], one["reason"]) for metric, one in answer["metrics"].items()}) for answer in answers
    ]
    assert told == play.made
    assert told[-1][0] == ("Advance" if traffic == Traffic() else "Rollback")


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 300), st.integers(0, 5), st.integers(0, 20)), min_size=1, max_size=25))
@settings(max_examples=50, deadline=None)
def test_a_line_for_each_line_numbers_that_survive_json_and_the_same_answers_again(looks: list[tuple[int, int, int, int]]) -> None:
    t = requests = errors = slow = 0
    lines: list[dict[str, Any]] = []
    for seconds, more, bad, slower in looks:
        t, requests, errors, slow = t + seconds, requests + more, errors + min(bad, more), slow + min(slower, more)
        part = {"requests": requests, "errors": errors, "slower": {"80": slow, "120": slow}}
        lines.append({"t": t, "step": 0, "candidate": {"mirror": part, "attempted": requests, "compared": requests, "mismatched": slow}})
    long = {"steps": [{"weight": 100, "durationSeconds": 604_800}]}
    answers = judge(lines, plan=long)
    assert len(answers) == len(lines)
    assert [answer["t"] for answer in answers] == [one["t"] for one in lines]
    assert judge(lines, plan=long) == answers
    over = decisions(answers)
    assert over == sorted(over, key=["Hold", "Rollback"].index)
