"""From the last step to a new stable, and what keeps stable as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kanarya.decision.custom import Watch
from kanarya.decision.state import Stage, counted_to
from tests.unit.decision.play import A, Play, at_weight, spec, started

SOAKED = {"steps": [{"weight": 5, "durationSeconds": 5}, {"weight": 100, "durationSeconds": 5}], "soakSeconds": 60}


def test_a_soak_is_judged_before_promotion() -> None:
    play = started(spec=spec(plan=SOAKED))
    play.until(lambda p: p.state.run is not None and p.run.stage is Stage.SOAKING)
    began = play.now
    play.traffic.errors = 0.5
    assert play.ended() == "RolledBack"
    assert play.now - began < 20


def test_between_the_last_step_and_the_soak_nothing_is_lost() -> None:
    """The soak counts from where the step has counted to; what came meanwhile came at the same weight."""
    play = started(spec=spec(plan=SOAKED))
    play.until(at_weight(100))
    raised = play.run.weight_since
    play.until(lambda p: p.run.stage is Stage.SOAKING)
    assert (play.run.weight_since, play.run.watermark, play.run.counts.candidate.requests) == (raised, play.now - 2, 0)
    began = play.now
    play.tick()
    assert play.run.counts.candidate.requests == play.traffic.rate
    assert play.run.counting_since == began
    play.traffic.errors = 0.5
    play.tick()
    assert play.state.run is None or play.run.stage is Stage.ROLLING_BACK


def test_a_ratio_of_the_teams_own_is_not_counted_twice_by_the_soak() -> None:
    play = started(spec=spec(plan=SOAKED))
    play.until(at_weight(100))
    play.tick(3)
    assert play.run.stage is Stage.STEPPING
    counted = play.now - 1.5
    play.state = play.state.model_copy(update={"run": play.run.model_copy(update={"custom": {"low": Watch(counted)}})})
    play.until(lambda p: p.run.stage is Stage.SOAKING)
    assert counted_to(play.run, "low") == counted


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


def test_the_switch_waits_until_pods_of_another_template_are_gone() -> None:
    play = started()
    play.until(lambda p: "bbb" in p.world.stables)
    for _ in range(30):
        play.world = replace(play.world, stables={**play.world.stables, "bbb": replace(play.world.stables["bbb"], rolling=True)})
        play.tick()
    assert (play.world.stable_service, play.weight) == ("aaa", 100)
    assert "another template" in play.decisions[-1].message
    play.world = replace(play.world, stables={**play.world.stables, "bbb": replace(play.world.stables["bbb"], rolling=False)})
    assert play.ended() == "Succeeded"


def test_a_stable_that_somebody_changed_is_repaired_and_reported() -> None:
    play = Play().adopted()
    play.world = replace(play.world, stables={"aaa": replace(play.world.stables["aaa"], intact=False)})
    play.tick()
    assert play.world.stables["aaa"].intact
    assert "StableRepaired" in play.notices()


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
