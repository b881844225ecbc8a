"""Clocks that are set."""

from __future__ import annotations

from kanarya.decision.clocks import UNNOTED_SECONDS, begun, set_back, set_forward
from kanarya.decision.plausible import AHEAD_SECONDS
from tests.unit.decision.play import B, Play, Traffic, at_weight, started


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
    assert begun(set_back(play.state, now, 900), now).doubted_until <= now
    twice = play.state.model_copy(update={"doubted_until": now + AHEAD_SECONDS + 1})
    assert begun(twice, now).doubted_until == now


def test_a_clock_set_back_while_prometheus_failed_delays_a_rise_though_nothing_noted_tells_of_it() -> None:
    play = started()
    play.until(lambda play: play.now - play.run.step_since >= 9)
    play.state = begun(set_back(play.state, play.now, 8.0), play.now)
    at = play.now
    play.edit_route(80)
    play.tick()  # what else a rise waits for ends earlier
    play.until(lambda play: play.now >= at + 20)
    assert "the clock was set back: samples prove nothing for another" in play.decisions[-1].message
    play.until(at_weight(10))
    assert play.now - 2 > at + 8 + UNNOTED_SECONDS


def test_the_run_after_a_clock_was_set_back_waits_as_well() -> None:
    play = Play().adopted()
    play.state = set_back(play.state, play.now, 8.0)
    at = play.now
    play.release(B)
    play.until(lambda play: play.now >= at + 20)
    assert "the clock was set back: samples prove nothing for another" in play.decisions[-1].message
    play.until(at_weight(5))
    assert play.now - 2 > at + 8 + UNNOTED_SECONDS


def test_a_new_process_knows_by_the_last_run_that_the_clock_was_set_back() -> None:
    play = started(Traffic(errors=0.5))
    assert play.ended() == "RolledBack"
    finished = play.state.history[-1].finished
    assert begun(play.state, finished).doubted_until == 0
    assert begun(play.state, finished - 40).doubted_until == finished + UNNOTED_SECONDS
    assert begun(play.state, finished - 900).doubted_until == 0
