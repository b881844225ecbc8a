"""`mode: Observe`: the plan is walked through on mirrored requests alone, and the end says what Live would have done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kanarya.api.rollout import RolloutSpec
from kanarya.decision.actions import LowerWeight, RaiseWeight
from kanarya.decision.counts import Missing
from kanarya.decision.replay import first_difference
from kanarya.decision.state import Stage
from tests.unit.decision.play import B, C, Play, Traffic, spec


def observing(**changes: Any) -> Play:
    play = Play(spec=spec(mode="Observe", **changes)).adopted()
    play.release(B)
    return play


def switch(play: Play, mode: str) -> None:
    play.spec = RolloutSpec.model_validate({**play.spec.model_dump(by_alias=True), "mode": mode})


def never_raised(play: Play) -> bool:
    return not any(isinstance(action, RaiseWeight) for decision in play.decisions for action in decision.actions)


def test_a_good_candidate_walks_through_every_step_at_weight_0() -> None:
    play = observing()
    assert play.ended() == "Observed"
    (entry,) = play.state.history
    assert (entry.reason, play.steps()) == ("WouldPromote", [1, 2, 3, 4, 5])
    assert entry.message.startswith("would have been promoted after ")
    virtual = [item["virtualWeight"] for item in play.entries if item["kind"] == "StepEntered"]
    assert virtual == [5, 10, 25, 50, 100]
    assert {item["weight"] for item in play.entries if "weight" in item} == {0}
    assert never_raised(play)
    assert play.state.stable is not None
    assert play.state.stable.version == "v1"
    assert first_difference(play.entries) is None


def test_between_two_steps_at_weight_0_nothing_is_lost() -> None:
    play = observing()
    play.until(lambda p: p.state.run is not None and p.run.step == 0)
    while play.run.step < 4:
        play.tick()
        assert (play.run.weight_since, play.run.watermark) == (play.run.started, play.now - 2)


def test_the_soak_is_observed_too() -> None:
    play = observing(plan={**spec().plan.model_dump(by_alias=True), "soakSeconds": 20})
    play.until(lambda play: play.state.run is not None and play.run.stage is Stage.SOAKING)
    began = play.now
    assert play.ended() == "Observed"
    assert play.now - began >= 20
    assert play.state.history[-1].reason == "WouldPromote"


@pytest.mark.parametrize(
    ("traffic", "reason"),
    [
        (Traffic(errors=0.3), "ErrorsAboveAbort"),
        (Traffic(very_slow=0.3), "LatencyAboveAbort"),
        (Traffic(mismatches=0.3), "MismatchesAboveAbort"),
        (Traffic(missing={"*": Missing.NO_SERIES}), "NoSeries"),
    ],
)
def test_a_breach_in_a_step_says_what_live_would_have_done(traffic: Traffic, reason: str) -> None:
    play = observing()
    play.until(lambda play: play.state.run is not None and play.run.step == 1)
    assert play.run.virtual_weight == 10
    play.traffic = traffic
    assert play.ended() == "Observed"
    (entry,) = play.state.history
    assert entry.reason == reason
    assert entry.message.startswith("would have been rolled back at step 2 of 5, weight 10: ")
    decision = next(item for item in play.entries if item.get("decision") == "Rollback")
    assert (decision["outcome"], decision["reason"]) == ("Observed", reason)
    assert never_raised(play)
    assert "RollingBack" not in play.notices()


def test_a_breach_in_preflight() -> None:
    play = observing()
    play.traffic = Traffic(errors=0.5)
    assert play.ended() == "Observed"
    assert play.state.history[-1].message.startswith("would have been rolled back before the first weight: errors")


def test_a_candidate_without_pods_is_given_up_as_at_the_virtual_weight() -> None:
    play = observing()
    play.until(lambda play: play.state.run is not None and play.run.step == 1)
    play.ready = False
    assert play.ended() == "Observed"
    assert play.state.history[-1].reason == "CandidateUnavailable"


def test_a_run_that_lasts_too_long() -> None:
    play = observing(plan={**spec().plan.model_dump(by_alias=True), "maxRunSeconds": 60})
    play.until(lambda play: play.state.run is not None and play.run.step == 0)
    play.traffic = Traffic(errors=0.015)
    assert play.ended() == "Observed"
    assert play.state.history[-1].message.startswith("would have been ended at step 1 of 5, weight 5: ")


def test_observed_is_not_repeated_until_live_is_wanted() -> None:
    play = observing()
    play.ended()
    for _ in range(100):
        decision = play.tick()
    assert play.state.run is None
    assert decision.message.startswith(f"revision {B.revision} was observed: it would have been promoted after ")
    assert "set spec.mode to Live" in decision.message
    switch(play, "Live")
    assert play.ended() == "Succeeded"
    assert [entry.run for entry in play.state.history] == ["bbb-1", "bbb-2"]


def test_live_does_not_follow_by_itself_on_an_observed_breach() -> None:
    play = observing()
    play.traffic = Traffic(errors=0.5)
    play.ended()
    play.traffic = Traffic()
    switch(play, "Live")
    for _ in range(60):
        decision = play.tick()
    assert play.state.run is None
    assert "change the template, or set the annotation kanarya.dev/retry=bbb-1" in decision.message
    play.world = replace(play.world, retry="bbb-1")
    assert play.ended() == "Succeeded"


def test_from_live_to_observe_during_a_run_is_an_abort() -> None:
    play = Play().adopted()
    play.release(B)
    play.until(lambda play: play.weight == 10)
    switch(play, "Observe")
    decision = play.tick()
    assert decision.actions[0] == LowerWeight(0, rolled_back="bbb-1")
    assert play.weight == 0
    assert play.ended() == "Aborted"
    assert play.state.history[-1].reason == "ModeChanged"


def test_from_observe_to_live_waits_for_the_next_run() -> None:
    play = observing()
    play.until(lambda play: play.state.run is not None and play.run.step == 1)
    switch(play, "Live")
    assert play.ended() == "Observed"
    assert never_raised(play)
    assert play.ended() == "Succeeded"


def test_the_mode_of_a_run_is_fixed_when_it_leaves_preflight() -> None:
    play = Play().adopted()
    play.release(B)
    play.until(lambda play: play.state.run is not None)
    switch(play, "Observe")
    assert play.ended() == "Observed"
    assert never_raised(play)


def test_a_foreign_weight_is_taken_back() -> None:
    play = observing()
    play.until(lambda play: play.state.run is not None and play.run.step == 2)
    play.edit_route(40)
    play.tick()
    assert play.weight == 0
    assert "RouteRepaired" in play.notices()


def test_a_newer_revision_supersedes_and_is_observed_itself() -> None:
    play = observing()
    play.until(lambda play: play.state.run is not None and play.run.step == 1)
    play.release(C)
    assert play.ended() == "Superseded"
    assert play.ended() == "Observed"
