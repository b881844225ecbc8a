"""A rollout from its adoption to the ends of its runs."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from kanarya.decision.actions import ScaleTarget
from kanarya.decision.lifecycle import decide
from kanarya.decision.replay import first_difference
from tests.unit.decision.play import A, B, C, Play, Traffic, at_weight, spec, started


def test_adoption_clones_stable_before_it_scales_the_target_to_zero() -> None:
    play = Play()
    seen: list[tuple[bool, int]] = []
    for _ in range(10):
        play.tick()
        assert play.target is not None
        seen.append(("aaa" in play.world.stables, play.target.replicas))
    assert seen[0] == (True, 2)
    assert seen[-1] == (True, 0)
    assert play.state.stable == A
    assert play.weight == 0


@pytest.mark.parametrize("clone", [{"available": 1}, {"intact": False}, {"rolling": True}], ids=["too few", "another's", "both"])
def test_adoption_waits_for_available_pods_of_its_own_template(clone: dict[str, Any]) -> None:
    play = Play()
    play.tick()
    for _ in range(20):
        seen = replace(play.world.stables["aaa"], **clone)
        play.world = replace(play.world, stables={"aaa": seen}, stable_endpoints=seen.available)
        assert play.tick().reason == "Adopting"
    assert play.target is not None
    assert play.target.replicas == 2


def test_a_service_that_selects_the_target_is_refused_before_anything_is_scaled() -> None:
    play = Play()
    play.world = replace(play.world, selecting=("fraud",))
    for _ in range(20):
        decision = play.tick()
        assert not any(isinstance(action, ScaleTarget) for action in decision.actions)
    assert decision.reason == "ServiceSelectsTarget"
    assert "ml-router" in decision.message
    play.world = replace(play.world, selecting=())
    play.adopted()


def test_a_good_candidate_takes_every_step_in_order_and_is_promoted() -> None:
    play = started()
    assert play.ended() == "Succeeded"
    assert [weight for _, weight in play.weights if weight] == [5, 10, 25, 50, 100]
    assert play.steps() == [1, 2, 3, 4, 5]
    assert play.state.stable == B
    assert play.world.stable_service == "bbb"
    assert play.weight == 0
    entered = [entry["at"] for entry in play.entries if entry["kind"] == "StepEntered"]
    assert all(later - earlier >= 10 for earlier, later in pairwise(entered))
    play.until(lambda p: set(p.world.stables) == {"bbb"})
    assert play.target is not None
    assert play.target.replicas == 0
    assert first_difference(play.entries) is None


@pytest.mark.parametrize(
    ("traffic", "reason"),
    [
        (Traffic(errors=0.03), "ErrorsAboveAbort"),
        (Traffic(very_slow=0.06), "LatencyAboveAbort"),
        (Traffic(mismatches=0.2), "MismatchesAboveAbort"),
    ],
)
def test_a_bad_candidate_is_taken_back_at_the_first_step(traffic: Traffic, reason: str) -> None:
    play = started(traffic=traffic)
    assert play.ended() == "RolledBack"
    assert play.state.history[-1].reason == reason
    assert max(weight for _, weight in play.weights) == 5
    assert play.state.stable == A
    assert first_difference(play.entries) is None


@pytest.mark.parametrize("weight", [10, 25, 50, 100])
def test_a_fault_that_begins_later_is_taken_back_from_there(weight: int) -> None:
    play = started()
    play.until(at_weight(weight))
    play.traffic.errors = 0.5
    assert play.ended() == "RolledBack"
    assert play.weight == 0


def test_a_rejected_revision_is_not_tried_again_until_asked() -> None:
    play = started(traffic=Traffic(errors=0.5))
    play.ended()
    runs = len(play.state.history)
    for _ in range(60):
        play.tick()
    assert len(play.state.history) == runs
    assert play.state.run is None
    assert play.target is not None
    assert play.target.replicas == 0
    play.traffic = Traffic()
    play.world = replace(play.world, retry="bbb-0")
    play.tick()
    assert play.state.run is None
    play.world = replace(play.world, retry="bbb-1")
    assert play.ended() == "Succeeded"
    assert play.state.history[-1].run == "bbb-2"


def test_a_newer_revision_ends_the_run_at_weight_zero_before_its_own_begins() -> None:
    play = started()
    play.until(at_weight(25))
    play.release(C)
    assert play.ended() == "Superseded"
    assert play.weight == 0
    assert play.world.candidate_service == "bbb"
    play.until(at_weight(5))
    assert play.run.candidate == C
    assert play.world.candidate_service == "ccc"
    assert play.ended() == "Succeeded"


def test_going_back_to_stable_ends_the_run() -> None:
    play = started()
    play.release(A)
    assert play.ended() == "Superseded"
    assert play.state.history[-1].reason == "BackToStable"
    play.until(lambda p: p.target is not None and p.target.replicas == 0)


def test_worse_than_slo_holds_and_is_given_up_after_its_time() -> None:
    plan = {"steps": [{"weight": 5, "durationSeconds": 10}, {"weight": 100, "durationSeconds": 1}], "maxHoldSeconds": 60}
    play = started(traffic=Traffic(errors=0.015), spec=spec(plan=plan))
    began = play.now
    play.until(lambda p: p.decisions[-1].reason == "ErrorsAboveSlo")
    assert re.fullmatch(r"errors: Within; 0\.015, slo 0\.01, \d+ requests", play.decisions[-1].message), play.decisions[-1].message
    assert play.ended() == "RolledBack"
    assert play.state.history[-1].reason == "HeldTooLong"
    assert 60 <= play.now - began <= 70


def test_a_run_that_lasts_too_long_expires() -> None:
    plan = {"steps": [{"weight": 5, "durationSeconds": 10}, {"weight": 100, "durationSeconds": 1}], "maxRunSeconds": 120}
    play = Play(spec=spec(plan=plan)).adopted()
    play.release(B)
    play.ready = False
    assert play.ended() == "Expired"


def test_pause_holds_the_weight_and_nothing_else() -> None:
    play = started()
    play.spec = play.spec.model_copy(update={"paused": True})
    for _ in range(60):
        decision = play.tick()
    assert decision.reason == "Paused"
    assert play.weight == 5
    play.traffic.errors = 0.5
    assert play.ended() == "RolledBack"


def test_abort_acts_at_once_and_only_for_its_own_run() -> None:
    play = started()
    play.world = replace(play.world, abort="bbb-7")
    play.tick()
    assert play.weight == 5
    play.world = replace(play.world, abort="bbb-1")
    play.tick()
    assert play.weight == 0
    assert play.ended() == "Aborted"
    assert first_difference(play.entries) is None


def test_a_spec_edit_in_mid_run_waits_for_the_next_run() -> None:
    play = started()
    play.spec = spec(plan={"steps": [{"weight": 100, "durationSeconds": 1}]})
    play.until(at_weight(10))
    assert play.ended() == "Succeeded"
    assert play.steps() == [1, 2, 3, 4, 5]


def test_a_missing_target_leaves_stable_serving() -> None:
    play = Play().adopted()
    play.target = None
    decision = play.tick()
    assert decision.reason == "TargetNotFound"
    assert not decision.actions
    assert Play(target=None).tick().reason == "TargetNotFound"


def test_a_target_deleted_in_mid_run_ends_the_run() -> None:
    play = started()
    play.target = None
    play.tick()
    assert play.weight == 0


def test_no_run_id_is_used_twice_though_other_revisions_ran_in_between() -> None:
    play = Play().adopted()
    for identity in (B, C, B, A, B):
        play.release(identity)
        assert play.ended() == "Succeeded"
    assert [entry.run for entry in play.state.history] == ["bbb-1", "ccc-1", "bbb-2", "aaa-1", "bbb-3"]


def test_slow_starters_are_judged_by_the_steps_only() -> None:
    play = Play(traffic=Traffic(very_slow=0.5)).adopted()
    play.release(B)
    play.until(at_weight(5))
    assert play.ended() == "RolledBack"
    assert play.state.history[-1].reason == "LatencyAboveAbort"


@pytest.mark.parametrize(
    ("adopting", "available", "seconds", "adopted"),
    [
        ("aaa", 0, 60, "aaa"),  # it may still be starting, and what came second was never even seen to work
        ("aaa", 0, 130, "bbb"),  # our own unfinished clone, and its owner has changed the template since
        ("aaa", 1, 130, "aaa"),  # it serves, if only in part
        ("", 0, 130, "aaa"),  # a stable of before: a lost checkpoint must not make an unknown revision stable
    ],
)
def test_a_clone_that_never_served_gives_way_to_a_newer_template(adopting: str, available: int, seconds: float, adopted: str) -> None:
    play = Play()
    play.tick()
    assert (play.state.adopting, list(play.world.stables)) == ("aaa", ["aaa"])
    play.state = play.state.model_copy(update={"adopting": adopting})
    play.world = replace(play.world, stables={"aaa": replace(play.world.stables["aaa"], available=available)}, stable_endpoints=available)
    play.release(B)
    play.tick(seconds)
    assert list(play.world.stables) == [adopted]
    play.world = replace(play.world, stables={adopted: replace(play.world.stables[adopted], available=2)}, stable_endpoints=2)
    play.until(lambda play: play.state.stable is not None)
    assert play.state.stable is not None
    assert (play.state.stable.revision, play.state.adopting) == (adopted, "")


def test_a_new_runs_pods_are_named_to_the_router_only_when_it_has_left_the_last_run() -> None:
    play = started()
    play.until(at_weight(25))
    play.release(C)
    play.until(lambda play: play.state.run is not None and play.run.candidate == C)
    route = play.world.route
    assert route is not None
    play.world = replace(play.world, route=replace(route, accepted=False))
    for _ in range(10):
        play.tick()
        assert play.world.candidate_service == "bbb"
        assert play.world.settings == ("aaa", None)
    began, play.world = play.now, replace(play.world, route=replace(route, accepted=True))
    play.state = play.state.model_copy(update={"run": play.run.model_copy(update={"started": began})})
    play.until(lambda play: play.world.candidate_service == "ccc")
    assert play.now - began >= 2


def test_a_new_run_waits_until_the_evidence_of_the_last_is_written() -> None:
    play = started()
    play.release(C)
    play.until(lambda play: play.state.run is None)
    assert play.state.chain is not None
    entry = play.entries[-1]
    play.state = play.state.model_copy(update={"chain": play.state.chain.model_copy(update={"outbox": (entry,)})})
    decision = decide(play.spec, play.state, play.look(), play.now)
    assert (decision.state.run, decision.reason) == (None, "Recording")
    assert decision.state.chain == play.state.chain
    play.until(lambda play: play.state.run is not None)
