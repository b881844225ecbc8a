"""Before the first weight: what a candidate must show, by copies alone."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

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


def test_preflight_does_not_wait_for_ever_where_no_requests_come() -> None:
    play = Play(traffic=Traffic(rate=0.0)).adopted()
    play.release(B)
    play.until(lambda play: "waiting 30 s at most" in play.decisions[-1].message)
    first = play.now
    play.until(at_weight(5))
    assert 30 <= play.now - first <= 32


def test_preflight_waits_where_nothing_could_be_counted_yet() -> None:
    """After clocks were set back nothing counts for a while, of stable neither, and no candidate may pass by that."""
    play = Play(traffic=Traffic(rate=0.0)).adopted()
    play.release(B)
    play.until(lambda play: "waiting 30 s at most" in play.decisions[-1].message)
    play.tick(10)
    play.traffic = Traffic(mismatches=0.5)
    assert play.ended() == "RolledBack"
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


WORSE = {
    "errors": (Traffic(rate=4000, errors=0.016), "ErrorsAboveSlo"),
    "predictions": (Traffic(rate=4000, mismatches=0.075), "MismatchesAboveSlo"),
}


@pytest.mark.parametrize("method", ["Threshold", "Sequential"])
@pytest.mark.parametrize("worse", WORSE)
def test_copies_that_are_worse_than_slo_hold_the_first_weight_as_they_hold_a_step(worse: str, method: str) -> None:
    """Seen on kind under load: a candidate that failed 47 of 216 copies, in bursts, got a weight because 30 s were over."""
    traffic, reason = WORSE[worse]
    analysis = {"method": method, "intervalSeconds": 1, "minSamples": 50}
    plan = {"steps": [{"weight": 5, "durationSeconds": 10}, {"weight": 100, "durationSeconds": 10}], "maxHoldSeconds": 120}
    play = Play(spec=spec(plan=plan, analysis=analysis), traffic=traffic).adopted()
    play.release(B)
    play.until(lambda play: play.decisions[-1].reason == reason)
    assert "held until that is better, 120 s (maxHoldSeconds) at most" in play.decisions[-1].message
    assert play.ended() == "RolledBack"
    assert play.state.history[-1].reason == "HeldTooLong"
    assert not any(weight for _, weight in play.weights)


def test_the_first_weight_comes_when_copies_are_no_longer_worse_than_slo() -> None:
    play = Play(traffic=Traffic(errors=0.015)).adopted()
    play.release(B)
    play.until(lambda play: play.decisions[-1].reason == "ErrorsAboveSlo")
    play.tick(60)
    assert play.weight == 0
    play.traffic = Traffic()
    play.until(at_weight(5))


def test_copies_that_cannot_be_compared_hold_the_first_weight() -> None:
    play = Play(traffic=Traffic(compared=0.9)).adopted()
    play.release(B)
    for _ in range(120):
        decision = play.tick()
        assert play.weight == 0
    assert decision.reason == "ComparisonsMissing"
    assert "could be compared; held until that is better" in decision.message, decision.message
    play.traffic = Traffic()
    play.until(at_weight(5))


def test_everything_that_keeps_the_first_weight_back_is_one_sentence() -> None:
    suspended = {"match": Missing.MIRROR_BREAKER_OPEN}
    play = Play(traffic=Traffic(errors=0.015, missing=suspended, said="A router has suspended mirroring to candidate.")).adopted()
    play.release(B)
    play.until(lambda play: play.decisions[-1].reason == "MirrorBreakerOpen" and "0.015" in play.decisions[-1].message)
    parts = "A router has suspended mirroring to candidate", "errors, by copies: 0.015, slo 0.01, ", "; held until that is better, "
    assert re.fullmatch(rf"{parts[0]}; {parts[1]}\d+ requests{parts[2]}.*", play.decisions[-1].message), play.decisions[-1].message


def test_two_metrics_that_wait_for_the_same_reason_are_both_named() -> None:
    play = Play(traffic=Traffic(rate=2.0)).adopted()
    play.release(B)
    play.until(lambda play: play.decisions[-1].reason == "TooFewSamples")
    assert re.fullmatch(r"errors, by copies: .+; match, by copies: [^;]+; waiting \d+ s at most", play.decisions[-1].message)


def test_metrics_that_lack_the_same_are_named_together() -> None:
    lacking = {"errors": Missing.NO_SERIES, "latency": Missing.NO_SERIES, "match": Missing.COMPARISONS_MISSING}
    play = Play(traffic=Traffic(missing=lacking)).adopted()
    play.release(B)
    play.until(lambda play: play.decisions[-1].reason == "NoSeries")
    assert play.decisions[-1].message.startswith("errors, latency: NoSeries; match: ComparisonsMissing")


def test_slow_copies_do_not_hold_the_first_weight() -> None:
    """Pods that have just started are slow: latency is for the steps to judge, whatever Preflight waits for."""
    plan = {"steps": [{"weight": 5, "durationSeconds": 10}, {"weight": 100, "durationSeconds": 10}], "maxHoldSeconds": 20}
    play = Play(spec=spec(plan=plan), traffic=Traffic(slow=0.2, compared=0.9)).adopted()
    play.release(B)
    for _ in range(60):
        play.tick()
    assert play.decisions[-1].verdicts["latency"].reason == "LatencyAboveSlo"
    play.traffic = Traffic(slow=0.2)
    play.until(at_weight(5))


def test_preflight_waits_anew_for_copies_when_those_it_had_counted_are_lost() -> None:
    """What was lost may have spoken against the candidate: the time to wait for enough begins again with the counts."""
    play = Play(traffic=Traffic(rate=0.5)).adopted()
    play.release(B)
    play.until(lambda play: play.state.run is not None and play.state.run.sampled_since is not None)
    play.tick(25)
    play.history_lost = True
    lost = play.tick().state.run
    assert lost is not None
    assert not lost.counts.candidate.requests
    play.history_lost = False
    since = play.now
    play.until(at_weight(5))
    assert 30 <= play.now - since <= 36


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
