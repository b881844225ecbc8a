"""What cannot be seen proves nothing: silence, drift without a verdict, pods that are not there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kanarya.decision.counts import Counts, Missing, Reading
from kanarya.decision.lifecycle import decide
from kanarya.decision.state import Run, Stage
from tests.unit.decision.play import A, B, Play, Traffic, at_weight, spec, started


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


def after_a_blank_look(play: Play) -> tuple[Run, Reading]:
    """Give the run after a look that showed nothing new, and what it said."""
    play.now += 5
    world = play.look()
    assert world.reading is not None
    reading = replace(world.reading, blank=True, counts=Counts())
    decision = decide(play.spec, play.state, replace(world, reading=reading), play.now)
    assert decision.state.run is not None
    return decision.state.run, reading


def test_a_look_at_nothing_passes_over_nothing() -> None:
    play = started()
    play.until(at_weight(10))
    before = play.run
    run, reading = after_a_blank_look(play)
    assert reading.until > before.watermark
    assert (run.watermark, run.drift_watermark, run.counts) == (before.watermark, before.drift_watermark, before.counts)


def test_a_run_that_waits_for_its_first_sample_does_not_look_back_further_and_further() -> None:
    play = Play().adopted()
    play.ready = False
    play.release(B)
    play.traffic.rate = 0
    play.until(lambda play: play.state.run is not None)
    assert (play.run.stage, play.run.sampled_since) == (Stage.PREFLIGHT, None)
    run, reading = after_a_blank_look(play)
    assert run.watermark == reading.until
