"""Before the first weight: what a candidate must show, by copies alone."""

from __future__ import annotations

from dataclasses import replace

from kanarya.decision.counts import Missing
from kanarya.decision.replay import first_difference
from tests.unit.decision.play import B, Play, Traffic, at_weight, spec


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


def test_preflight_waits_for_the_first_copies_where_requests_come() -> None:
    """Seen on kind under load: the weight rose before the first copy was counted, and clients met a candidate that fails."""
    play = Play(traffic=Traffic(errors=0.3, copied=False)).adopted()
    play.release(B)
    play.until(lambda play: play.decisions[-1].reason == "TooFewSamples")
    play.tick(10)
    play.traffic = replace(play.traffic, copied=True)
    assert play.ended() == "RolledBack"
    assert not any(weight for _, weight in play.weights)


def test_preflight_does_not_wait_for_ever_where_nothing_is_copied() -> None:
    play = Play(traffic=Traffic(copied=False)).adopted()
    play.release(B)
    play.until(lambda play: play.decisions[-1].reason == "TooFewSamples")
    first = play.now
    play.until(at_weight(5))
    assert 30 <= play.now - first <= 32


def test_preflight_does_not_wait_where_no_requests_come() -> None:
    play = Play(traffic=Traffic(rate=0.0)).adopted()
    released = play.now
    play.release(B)
    play.until(lambda play: play.decisions[-1].reason != "TargetChanging")
    assert play.now - released < 12
    assert play.decisions[-1].reason != "TooFewSamples"


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


def test_the_first_weight_waits_until_nothing_has_changed_for_ten_seconds() -> None:
    play = Play().adopted()
    released = play.now
    play.release(B)
    play.until(at_weight(5))
    assert play.weights[-1][0] - released >= 10


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
