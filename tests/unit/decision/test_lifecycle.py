from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from kanarya.decision.actions import LowerWeight, RaiseWeight, ScaleTarget
from kanarya.decision.counts import Missing
from kanarya.decision.lifecycle import UNNOTED_SECONDS, begun, decide, lowered, recover, set_forward
from kanarya.decision.plausible import AHEAD_SECONDS
from kanarya.decision.replay import first_difference
from kanarya.decision.state import Stage
from tests.unit.decision.play import A, B, C, Play, Traffic, spec


def at_weight(weight: int) -> Any:
    return lambda play: play.state.run is not None and play.state.run.weight == weight


def started(traffic: Traffic | None = None, **changes: Any) -> Play:
    """A rollout adopted, and a new revision under way at 5 %; `traffic` from there on."""
    play = Play(**changes).adopted()
    play.release(B)
    play.until(at_weight(5))
    play.traffic = traffic or play.traffic
    return play


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


def test_adoption_waits_for_available_pods() -> None:
    play = Play()
    play.tick()
    play.world = replace(play.world, stables={"aaa": replace(play.world.stables["aaa"], available=1)}, stable_endpoints=1)
    for _ in range(20):
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


def test_preflight_does_not_scale_a_target_that_clients_reach_directly() -> None:
    play = Play().adopted()
    play.world = replace(play.world, selecting=("fraud",))
    play.release(B)
    for _ in range(30):
        decision = play.tick()
        assert play.weight == 0
    assert decision.reason == "ServiceSelectsTarget"
    assert play.target is not None
    assert play.target.replicas == 0


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


def test_the_first_weight_waits_until_nothing_has_changed_for_ten_seconds() -> None:
    play = Play().adopted()
    released = play.now
    play.release(B)
    play.until(at_weight(5))
    assert play.weights[-1][0] - released >= 10


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


# -- silence --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [*Missing])
@pytest.mark.parametrize("where", ["*", "errors", "latency", "match"])
def test_no_silence_ever_raises_a_weight(missing: Missing, where: str) -> None:
    play = started()
    play.until(at_weight(10))
    play.traffic.missing = {where: missing}
    for _ in range(60):
        play.tick()
        assert play.weight <= 10


def test_a_quiet_night_holds_without_limit_and_goes_on_in_the_morning() -> None:
    play = started()
    play.traffic.rate = 0
    for _ in range(4000):
        decision = play.tick()
    assert play.weight == 5
    assert decision.reason in ("NoTraffic", "TooFewSamples", "WaitingForSamples")
    play.traffic.rate = 100
    assert play.ended() == "Succeeded"


def test_prometheus_gone_for_a_while_holds_and_goes_on() -> None:
    play = started()
    play.traffic.missing = {"*": Missing.SOURCE_DOWN}
    for _ in range(60):
        decision = play.tick()
    assert decision.reason == "SourceDown"
    assert play.weight == 5
    play.traffic.missing = {}
    assert play.ended() == "Succeeded"


@pytest.mark.parametrize(("missing", "seconds"), [(Missing.SOURCE_DOWN, 1800), (Missing.NO_SERIES, 300), (Missing.STALE_SAMPLES, 300)])
def test_silence_that_lasts_is_taken_back_by_its_policy(missing: Missing, seconds: int) -> None:
    play = started()
    play.traffic.missing = {"*": missing}
    began = play.now
    play.until(lambda p: p.state.history, limit=2000)
    assert play.state.history[-1].reason == missing.value
    assert seconds <= play.now - began <= seconds + 5


def test_stale_samples_prove_nothing_about_a_new_weight() -> None:
    play = started()
    play.last_sample = play.now - 3
    for _ in range(60):
        play.tick()
    assert play.weight == 5


# -- drift ----------------------------------------------------------------------------------------------------------------


def test_drift_blocks_promotion_and_nothing_else() -> None:
    play = started(traffic=Traffic(shifted=True))
    play.until(at_weight(100))
    for _ in range(60):
        decision = play.tick()
    assert decision.reason == "DriftAboveLimit"
    assert play.weight == 100
    assert play.state.stable == A
    assert not play.state.history


def test_drift_blocks_above_its_weight() -> None:
    drift = {"maxWeight": 25}
    play = started(
        traffic=Traffic(shifted=True), spec=spec(analysis={"method": "Threshold", "intervalSeconds": 1, "minSamples": 50, "drift": drift})
    )
    for _ in range(200):
        play.tick()
    assert play.weight == 25


@pytest.mark.parametrize(("action", "outcome"), [("Abort", "RolledBack"), ("Report", "Succeeded")])
def test_drift_actions(action: str, outcome: str) -> None:
    analysis = {"method": "Threshold", "intervalSeconds": 1, "minSamples": 50, "drift": {"action": action}}
    play = Play(traffic=Traffic(shifted=True), spec=spec(analysis=analysis)).adopted()
    play.release(B)
    assert play.ended() == outcome


# -- availability ---------------------------------------------------------------------------------------------------------


def test_a_crash_loop_is_taken_back_without_waiting_for_metrics() -> None:
    play = started()
    play.world = replace(play.world, pods=replace(play.world.pods, crash_looping="fraud-bbb-1"))
    play.tick()
    assert play.weight == 0
    assert play.ended() == "RolledBack"


def test_two_restarts_in_a_step_are_taken_back() -> None:
    play = started()
    play.world = replace(play.world, pods=replace(play.world.pods, restarts=1))
    play.tick()
    assert play.weight == 5
    play.world = replace(play.world, pods=replace(play.world.pods, restarts=2))
    play.tick()
    assert play.weight == 0


def test_no_ready_pod_for_a_minute_is_taken_back() -> None:
    play = started()
    play.ready = False
    began = play.now
    play.ended()
    assert play.state.history[-1].reason == "CandidateUnavailable"
    assert 59 <= play.now - began <= 65


def test_restarts_count_from_those_of_the_pods_that_are_there() -> None:
    play = Play().adopted()
    play.world = replace(play.world, pods=replace(play.world.pods, restarts=5))  # slow to start, in Preflight
    play.release(B)
    play.until(lambda play: play.weight == 5)
    play.world = replace(play.world, pods=replace(play.world.pods, restarts=0))  # other pods took their place
    play.tick()
    play.world = replace(play.world, pods=replace(play.world.pods, restarts=2))
    play.tick()
    assert play.run.reason == "CandidateRestarting"
    assert play.weight == 0


# -- the route and restarts -----------------------------------------------------------------------------------------------


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


def test_a_clock_set_forward_long_after_the_weight_changed_takes_nothing_from_the_counts() -> None:
    play = started()
    play.until(lambda play: play.now - play.run.step_since >= 9)
    known = play.run
    play.now += 3
    play.state = set_forward(play.state, play.now, 3.0)
    assert (play.run.counts, play.run.watermark, play.run.proof_since) == (known.counts, known.watermark, play.now)
    at = play.now
    play.until(at_weight(10))
    assert play.now - 2 > at


def test_a_clock_set_forward_just_after_the_weight_changed_begins_the_counts_again() -> None:
    play = started()
    play.until(lambda play: play.now - play.run.step_since >= 4)
    assert play.run.counts.candidate.requests
    play.now += 8
    play.state = set_forward(play.state, play.now, 8.0)
    assert (play.run.counts.candidate.requests, play.run.weight_since, play.run.watermark) == (0, play.now, play.now)


def test_only_a_rise_waits_until_a_clock_that_was_set_back_has_caught_up() -> None:
    play = started()
    latest = play.run.checked
    play.now -= 40
    play.state = begun(play.state, play.now)
    run = play.run
    assert max(run.started, run.weight_since, run.step_since, run.watermark, run.checked) == play.now
    play.state = begun(play.state, play.now)
    play.until(at_weight(10))
    assert play.now - 2 > latest + UNNOTED_SECONDS


def test_no_rise_waits_for_long_until_a_clock_has_caught_up() -> None:
    play = started()
    now = play.now - 900
    run = begun(play.state, now).run
    assert run is not None
    assert run.proof_since == now
    ahead = play.run.model_copy(update={"proof_since": now + AHEAD_SECONDS + 1})
    run = begun(play.state.model_copy(update={"run": ahead}), now).run
    assert run is not None
    assert run.proof_since == now


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


# -- promotion ------------------------------------------------------------------------------------------------------------


def test_a_soak_is_judged_before_promotion() -> None:
    plan = {"steps": [{"weight": 5, "durationSeconds": 5}, {"weight": 100, "durationSeconds": 5}], "soakSeconds": 60}
    play = started(spec=spec(plan=plan))
    play.until(lambda p: p.state.run is not None and p.run.stage is Stage.SOAKING)
    began = play.now
    play.traffic.errors = 0.5
    assert play.ended() == "RolledBack"
    assert play.now - began < 20


def test_a_breach_after_the_switch_goes_back_to_the_old_stable() -> None:
    play = started()
    play.until(lambda p: p.world.stable_service == "bbb")
    play.traffic.errors = 0.9
    play.world = replace(play.world, stale_endpoints=1)
    assert play.ended() == "RolledBack"
    assert (play.world.stable_service, play.weight, play.state.stable) == ("aaa", 0, A)
    play.until(lambda p: set(p.world.stables) == {"aaa"})


def test_the_switch_waits_for_the_new_stable_at_full_size() -> None:
    play = started()
    play.until(lambda p: "bbb" in p.world.stables)
    for _ in range(30):
        play.world = replace(play.world, stables={**play.world.stables, "bbb": replace(play.world.stables["bbb"], available=1)})
        play.tick()
    assert play.world.stable_service == "aaa"
    assert play.weight == 100


def test_a_stable_that_somebody_changed_is_repaired_and_reported() -> None:
    play = Play().adopted()
    play.world = replace(play.world, stables={"aaa": replace(play.world.stables["aaa"], intact=False)})
    play.tick()
    assert play.world.stables["aaa"].intact
    assert "StableRepaired" in play.notices()


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


@pytest.mark.parametrize("name", ["stable_service", "candidate_service"])
def test_a_tracks_service_that_somebody_changed_is_repaired_and_reported(name: str) -> None:
    play = started()
    play.until(at_weight(10))
    before = getattr(play.world, name)
    nothing: dict[str, Any] = {name: None}
    play.world = replace(play.world, **nothing)
    play.tick()
    assert getattr(play.world, name) == before
    assert play.notices().count("ServiceRepaired") == 1
    assert play.ended() == "Succeeded"
    assert play.notices().count("ServiceRepaired") == 1


def test_the_stable_service_is_repaired_and_reported_without_a_run_too() -> None:
    play = Play().adopted()
    assert "ServiceRepaired" not in play.notices()
    play.world = replace(play.world, stable_service=None)
    play.tick()
    assert play.world.stable_service == "aaa"
    assert "ServiceRepaired" in play.notices()


def test_stable_is_scaled_back_and_that_is_told() -> None:
    play = started()
    play.world = replace(play.world, stables={"aaa": replace(play.world.stables["aaa"], replicas=1)})
    play.tick()
    assert play.world.stables["aaa"].replicas == 2
    assert play.notices().count("StableScaled") == 1
    assert play.ended() == "Succeeded"
    assert play.notices().count("StableScaled") == 1


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


def test_a_first_step_of_zero_is_mirror_only() -> None:
    plan = {"steps": [{"weight": 0, "durationSeconds": 10}, {"weight": 100, "durationSeconds": 5}]}
    play = Play(spec=spec(plan=plan)).adopted()
    play.release(B)
    play.until(lambda p: p.state.run is not None and p.run.step == 0)
    for _ in range(8):
        play.tick()
        assert play.weight == 0
    assert play.ended() == "Succeeded"
    assert [weight for _, weight in play.weights if weight] == [100]


def test_a_candidate_that_fails_mirrored_requests_never_sees_a_live_one() -> None:
    play = Play(traffic=Traffic(errors=0.5)).adopted()
    play.release(B)
    assert play.ended() == "RolledBack"
    assert not any(weight for _, weight in play.weights)
    assert play.entries[0]["kind"] == "RunStarted"
    assert first_difference(play.entries) is None


def test_preflight_waits_for_enough_copies_to_tell_a_broken_candidate() -> None:
    play = Play(traffic=Traffic(rate=4, errors=0.3)).adopted()
    play.release(B)
    assert play.ended() == "RolledBack"
    assert play.state.history[-1].reason == "ErrorsAboveAbort"
    assert not any(weight for _, weight in play.weights)


def test_preflight_does_not_wait_for_ever_where_traffic_is_thin() -> None:
    play = Play(traffic=Traffic(rate=0.5)).adopted()
    play.release(B)
    play.until(lambda play: play.state.run is not None and play.state.run.sampled_since is not None)
    play.until(lambda play: play.decisions[-1].reason == "TooFewSamples")
    assert "by copies: 4 of 50 requests" in play.decisions[-1].message, play.decisions[-1].message
    first = play.run.sampled_since
    play.until(at_weight(5))
    assert first is not None
    assert 30 <= play.now - first <= 32


def test_preflight_waits_while_copies_are_worse_than_slo() -> None:
    """By few copies, method Sequential says no more of a candidate that fails half of them."""
    play = Play(traffic=Traffic(errors=0.015)).adopted()
    play.release(B)
    play.until(lambda play: play.decisions[-1].reason == "ErrorsAboveSlo")
    first = play.run.sampled_since
    play.until(at_weight(5))
    assert first is not None
    assert 30 <= play.now - first <= 32


def test_a_mirror_that_stays_suspended_in_preflight_is_given_up() -> None:
    play = Play(traffic=Traffic(missing={"match": Missing.MIRROR_BREAKER_OPEN})).adopted()
    play.release(B)
    began = play.now
    assert play.ended() == "RolledBack"
    assert play.state.history[-1].reason == "MirrorBreakerOpen"
    assert play.now - began < 320


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


def test_of_several_downward_writes_only_the_lowest_is_made() -> None:
    play = started()
    play.until(lambda p: p.world.stable_service == "bbb")
    play.now += 5
    assert play.world.route is not None
    play.world = replace(play.world, route=replace(play.world.route, weight=40, intact=False))
    play.tick()
    assert play.state.history[-1].outcome == "Succeeded"
    assert play.weight == 0


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


def test_a_route_deleted_while_no_operator_ran_makes_the_step_begin_again() -> None:
    play = Play(spec=spec(plan={"steps": [{"weight": 0, "durationSeconds": 30}, {"weight": 100, "durationSeconds": 10}]})).adopted()
    play.release(B)
    play.until(lambda play: play.steps() == [1])
    play.until(lambda play: play.run.counts.candidate.requests > 0)
    play.world = replace(play.world, route=None)
    run = recover(play.state, play.look(), play.now).run
    assert run is not None
    assert (run.weight, run.counts.candidate.requests, run.weight_since) == (0, 0, play.now)


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
