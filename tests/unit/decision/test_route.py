"""The route in other hands, and restarts of the operator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kanarya.decision.actions import LowerWeight, RaiseWeight
from kanarya.decision.lifecycle import decide, lowered, recover
from kanarya.decision.state import Stage
from tests.unit.decision.play import B, Play, Traffic, at_weight, spec, started


def test_a_foreign_rise_is_written_back_at_once() -> None:
    play = started()
    play.edit_route(80)
    play.tick()
    assert play.weight == 5
    assert "RouteRepaired" in play.notices()


def test_after_a_foreign_rise_the_next_weight_needs_newer_samples() -> None:
    play = started()
    play.until(lambda play: play.now - play.run.step_since >= 9)
    seen = play.run.counts.candidate.requests
    play.edit_route(80)
    play.tick()
    repaired = play.now
    assert play.run.counts.candidate.requests > seen  # the candidate answers for all that it did
    play.until(at_weight(10))
    assert play.now - 2 > repaired


def test_foreign_rises_at_every_look_keep_nothing_from_being_judged() -> None:
    play = started(Traffic(errors=0.5))
    for _ in range(8):
        play.edit_route(80)
        play.tick()
    assert (play.run.stage, play.run.reason) == (Stage.ROLLING_BACK, "ErrorsAboveAbort")
    assert play.weight == 0


def test_a_rise_needs_samples_from_after_a_lower_weight_was_written() -> None:
    play = started()
    play.until(lambda play: play.now - play.run.step_since >= 9)
    play.state = lowered(play.state, play.now)
    written = play.now
    play.until(at_weight(10))
    assert play.now - 2 > written


def test_a_foreign_cut_is_earned_again_not_written_back() -> None:
    play = started()
    play.until(at_weight(25))
    play.until(lambda play: play.run.counts.candidate.requests > 0)
    play.edit_route(0)
    decision = play.tick()
    assert not any(isinstance(action, RaiseWeight) for action in decision.actions)
    assert play.weight == 0
    assert play.run.counts.candidate.requests == 0
    play.until(at_weight(25))
    assert play.ended() == "Succeeded"
    assert play.steps() == [1, 2, 3, 4, 5]


def test_an_idle_route_with_weight_is_repaired() -> None:
    play = Play().adopted()
    play.edit_route(7)
    play.tick()
    assert play.weight == 0


def test_a_rollback_is_repeated_until_it_holds() -> None:
    play = started(traffic=Traffic(errors=0.5))
    play.until(lambda p: p.state.run is not None and p.run.stage is Stage.ROLLING_BACK)
    play.edit_route(50)
    decision = play.tick()
    assert LowerWeight(0, "bbb-1") in decision.actions
    assert play.ended() == "RolledBack"


def test_after_a_restart_the_weight_is_the_lower_of_route_and_checkpoint() -> None:
    play = started()
    play.until(at_weight(10))
    ahead = play.state.model_copy(update={"intent": 25})
    play.edit_route(25)
    state = recover(ahead, play.look(), play.now)
    assert state.intent is None
    assert state.run is not None
    assert (state.run.weight, state.run.step_since, state.run.counts.candidate.requests) == (10, play.now, 0)
    play.edit_route(5)
    state = recover(ahead, play.look(), play.now)
    assert state.run is not None
    assert (state.run.weight, state.run.counts.candidate.requests) == (5, 0)


def test_a_rollback_that_reached_only_the_route_is_finished_after_a_restart() -> None:
    play = started()
    assert play.world.route is not None
    play.world = replace(play.world, route=replace(play.world.route, weight=0, rolled_back="bbb-1"))
    play.state = recover(play.state, play.look(), play.now)
    assert play.ended() == "RolledBack"
    assert play.state.history[-1].reason == "RollbackResumed"


def test_no_weight_rises_on_samples_from_before_the_process_began() -> None:
    play = started()
    play.started = play.now + 40
    for _ in range(38):
        play.tick()
    assert play.weight == 5
    play.until(at_weight(10))
    assert play.now > play.started


def test_no_weight_rises_on_samples_from_before_the_last_weight_change() -> None:
    play = started()
    play.until(lambda play: play.now - play.run.step_since >= 9)  # all has been Good on samples of this step
    world = play.look()
    assert world.reading is not None
    for newest, weight in ((play.run.weight_since, 5), (play.run.weight_since + 0.1, 10)):
        late = replace(world, reading=replace(world.reading, newest=play.now, newest_counted=newest))
        decision = decide(play.spec, play.state, late, play.run.step_since + 10)
        assert (decision.state.intent or 5) == weight, decision.reason


def test_a_lost_history_begins_the_counts_again() -> None:
    play = started()
    for _ in range(5):
        play.tick()
    world = play.look()
    assert world.reading is not None
    lost = replace(world, reading=replace(world.reading, history_lost=True))
    decision = decide(play.spec, play.state, lost, play.now + 1)
    assert decision.state.run is not None
    assert decision.state.run.counts.candidate.requests == 0
    assert "HistoryLost" in [notice.reason for notice in decision.notices]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (None, "someone else deleted the route, ours 10"),
        ({"weight": None, "intact": False}, "someone else changed the backends of the route, ours 10"),
        ({"weight": 90}, "someone else changed the route: weight 90, ours 10"),
    ],
)
def test_the_event_of_a_repaired_route_says_what_was_done_to_it(changes: dict[str, Any] | None, sentence: str) -> None:
    play = started()
    play.until(at_weight(10))
    assert play.world.route is not None
    play.world = replace(play.world, route=None if changes is None else replace(play.world.route, **changes))
    notices = play.tick().notices
    assert [(notice.reason, notice.message) for notice in notices] == [("RouteRepaired", sentence)]


def test_of_several_downward_writes_only_the_lowest_is_made() -> None:
    play = started()
    play.until(lambda p: p.world.stable_service == "bbb")
    play.now += 5
    assert play.world.route is not None
    play.world = replace(play.world, route=replace(play.world.route, weight=40, intact=False))
    play.tick()
    assert play.state.history[-1].outcome == "Succeeded"
    assert play.weight == 0


def test_a_route_deleted_while_no_operator_ran_makes_the_step_begin_again() -> None:
    play = Play(spec=spec(plan={"steps": [{"weight": 0, "durationSeconds": 30}, {"weight": 100, "durationSeconds": 10}]})).adopted()
    play.release(B)
    play.until(lambda play: play.steps() == [1])
    play.until(lambda play: play.run.counts.candidate.requests > 0)
    play.world = replace(play.world, route=None)
    run = recover(play.state, play.look(), play.now).run
    assert run is not None
    assert (run.weight, run.counts.candidate.requests, run.weight_since) == (0, 0, play.now)
