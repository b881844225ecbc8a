"""Whole runs judged by method `Sequential`."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from kanarya.api.rollout import Analysis, Confidence, Plan, Step
from kanarya.decision.counts import Attempts, Counts
from kanarya.decision.judge import Standard
from kanarya.decision.replay import first_difference
from kanarya.decision.schema import evidence_schema
from kanarya.decision.state import State
from kanarya.decision.streams import bases, bases_from_json, bases_json, is_last, learned
from tests.unit.decision.play import B, Play, Traffic, at_weight, spec

pytestmark = pytest.mark.slow

METHOD = {"method": "Sequential", "intervalSeconds": 1, "minSamples": 50}


def begun(traffic: Traffic | None = None, **analysis: Any) -> Play:
    """An adopted rollout with a new revision."""
    play = Play(spec=spec(analysis={**METHOD, **analysis}), traffic=traffic or Traffic()).adopted()
    play.release(B)
    return play


def storm(*, errors: float, stable_errors: float) -> tuple[Play, float]:
    """A run on which a storm breaks at weight 10, and when it did."""
    play = begun()
    play.until(at_weight(10))
    play.traffic = Traffic(errors=errors, stable_errors=stable_errors)
    return play, play.now


def rollback_of(play: Play) -> dict[str, Any]:
    return next(entry for entry in reversed(play.entries) if entry.get("decision") == "Rollback")


def test_a_good_candidate_is_promoted_and_its_evidence_gives_the_same_verdicts() -> None:
    play = begun()
    assert play.ended() == "Succeeded"
    assert play.steps() == [1, 2, 3, 4, 5]
    judged = [entry for entry in play.entries if entry.get("verdicts")]
    assert judged
    assert all(entry["tests"].keys() >= {"errors/pool", "match/pool"} for entry in judged)
    assert first_difference(play.entries) is None
    schema = jsonschema.Draft202012Validator(evidence_schema()["properties"]["entries"])
    schema.validate(play.entries)


@pytest.mark.parametrize(("errors", "weight"), [(1.0, 0), (0.3, 0)])
def test_a_broken_candidate_never_gets_a_weight(errors: float, weight: int) -> None:
    play = begun(Traffic(errors=errors))
    assert play.ended() == "RolledBack"
    assert play.state.history[-1].reason == "ErrorsAboveAbort"
    assert max(found for _, found in play.weights) == weight
    assert first_difference(play.entries) is None


def test_a_late_fault_is_found_by_a_window() -> None:
    slow = {"steps": [{"weight": 5, "durationSeconds": 300}, {"weight": 100, "durationSeconds": 10}]}
    play = Play(spec=spec(analysis=METHOD, plan=slow)).adopted()
    play.release(B)
    play.until(at_weight(5))
    for _ in range(250):
        play.tick()
    fault = play.now
    play.traffic = Traffic(errors=0.2)
    assert play.ended() == "RolledBack"
    assert play.state.history[-1].finished - fault < 10
    found = rollback_of(play)
    assert "since look" in found["verdicts"]["errors"]["detail"]
    assert found["tests"]["errors/pool"]["marks"]
    assert first_difference(play.entries) is None
    # The window matters: from the step's start alone there is no such verdict.
    entries = [{**entry, "tests": {}} if "tests" in entry else entry for entry in play.entries]
    assert first_difference(entries) is not None


@pytest.mark.parametrize("errors", [0.0, 0.015, 0.035])
def test_a_restart_at_any_look_changes_no_decision(errors: float) -> None:
    play, restarted = begun(Traffic(errors=errors)), begun(Traffic(errors=errors))
    for _ in range(150):
        decision = play.tick()
        restarted.state = State.model_validate_json(restarted.state.model_dump_json(by_alias=True))
        again = restarted.tick()
        assert (again.reason, again.message, again.verdicts) == (decision.reason, decision.message, decision.verdicts)
    assert restarted.weights == play.weights


def test_a_storm_interrupts_and_the_run_begins_again_when_it_may_be_over() -> None:
    play, began = storm(errors=0.2, stable_errors=0.2)
    assert play.ended() == "Interrupted"
    ended = play.state.history[-1]
    assert ended.reason == "StableAboveAbort"
    assert 120 <= ended.finished - began < 140
    assert play.weight == 0
    assert first_difference(play.entries) is None
    play.traffic, play.entries = Traffic(), []
    said = play.until(lambda play: play.state.run is None and play.decisions[-1].reason == "Interrupted")
    assert "begins again in" in said.message
    play.until(lambda play: play.state.run is not None)
    assert 300 <= play.now - ended.finished < 310
    assert play.ended() == "Succeeded"


def test_a_candidate_whose_every_step_brings_a_storm_is_given_up_after_the_third() -> None:
    play, _ = storm(errors=0.2, stable_errors=0.2)
    for row in (1, 2, 3):
        assert play.ended() == "Interrupted"
        assert bool(play.state.rejected) == (row == 3)
        if row < 3:
            play.traffic = Traffic()
            play.until(at_weight(10), 4000)
            play.traffic = Traffic(errors=0.2, stable_errors=0.2)
    assert play.state.history[-1].message.endswith("3 runs in a row were calm until a step began, so there is no other by itself")
    play.traffic = Traffic()
    for _ in range(4000):
        play.tick()
    assert play.state.run is None
    assert f"kanarya.dev/retry={play.state.last_run}" in play.decisions[-1].message
    play.world = play.world.__class__(**{**vars(play.world), "retry": play.state.last_run})
    assert play.ended() == "Succeeded"


def test_storms_in_other_runs_and_before_the_first_step_are_not_the_candidates() -> None:
    play, _ = storm(errors=0.2, stable_errors=0.2)
    for _ in range(5):  # what follows are storms in Preflight
        assert play.ended() == "Interrupted"
        assert not play.state.rejected
        play.until(lambda play: play.state.run is not None, 4000)


def test_an_interrupted_run_waits_longer_each_time_and_a_retry_does_not_wait() -> None:
    play = begun(Traffic(errors=0.2, stable_errors=0.2))
    waits = []
    for _ in range(3):
        assert play.ended() == "Interrupted"
        ended = play.state.history[-1].finished
        play.until(lambda play: play.state.run is not None, 4000)
        waits.append(round(play.now - ended, -1))
    assert waits == [300, 600, 1200]
    assert not any(weight for _, weight in play.weights)
    assert play.ended() == "Interrupted"
    play.world = play.world.__class__(**{**vars(play.world), "retry": play.state.last_run})
    play.until(lambda play: play.state.run is not None, 3)


def test_a_candidate_worse_than_stable_in_a_storm_is_taken_back() -> None:
    play, began = storm(errors=0.6, stable_errors=0.1)
    assert play.ended() == "RolledBack"
    assert play.state.history[-1].finished - began < 30
    assert play.state.history[-1].reason in ("ErrorsAboveAbort", "ErrorsAboveStable")


def test_thin_traffic_holds_and_says_how_long() -> None:
    play = begun(Traffic(rate=0.5))
    play.until(at_weight(5))
    for _ in range(60):
        play.tick()
    verdict = play.decisions[-1].verdicts["errors"]
    assert (verdict.kind.value, verdict.reason) == ("Insufficient", "TooFewSamples")
    assert verdict.eta_seconds is not None
    assert verdict.need > verdict.have
    assert "about" in play.decisions[-1].message


def test_good_is_as_sure_as_an_abort_where_nobody_looks_again() -> None:
    analysis = Analysis(method="Sequential", confidence=Confidence(abort=0.99, advance=0.95))
    plan = Plan(steps=(Step(weight=100),))
    assert Standard(analysis, plan).alphas.good == 0.05
    assert Standard(analysis, plan, last=True).alphas.good == 0.01
    soaking = Plan(steps=(Step(weight=100),), soak_seconds=60)
    assert [is_last(plan, "Stepping", 0), is_last(soaking, "Stepping", 0), is_last(soaking, "Soaking", 0)] == [True, False, True]


def test_the_requests_of_a_dense_look_are_taken_to_be_correlated() -> None:
    counts = Counts(candidate_mirror=Attempts(100.0), attempted=100.0, compared=100.0)
    found = bases({}, {}, counts, Analysis())
    assert found["errors/pool"].effect == pytest.approx(10.9)
    assert bases_from_json(bases_json(found, {})) == found


def test_how_slow_requests_bunch_is_learned_from_all_that_are_slower_than_slo() -> None:
    stable = Attempts(100.0, 0.0, {"80": 30.0, "120": 1.0})
    bursts = learned({}, Counts(stable=stable), spec().analysis)
    assert (bursts["latency"].bad, bursts["latency"].total) == (30.0, 100.0)
