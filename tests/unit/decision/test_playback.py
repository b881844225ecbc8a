"""A run decided again from what its evidence says of its looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from kanarya.decision.counts import Reading
from kanarya.decision.playback import Playback, decisions, looks_of
from kanarya.decision.replay import first_difference
from kanarya.decision.state import MOST_LOOKS, Identity
from tests.unit.decision.play import A, B, Play, Traffic, at_weight, spec


@dataclass
class Watched(Play):
    """A play that keeps its readings by the time of the look."""

    readings: dict[float, Reading] = field(default_factory=dict)

    def reading(self) -> Reading | None:
        found = super().reading()
        if found is not None:
            self.readings[self.now] = found
        return found


def played(traffic: Traffic, **changes: Any) -> Watched:
    analysis = {"method": "Sequential", "intervalSeconds": 1, "minSamples": 50}
    play = Watched(spec=spec(analysis=analysis, **changes))
    play.adopted()
    play.traffic = traffic
    play.entries = []
    play.release(B)
    play.until(lambda play: play.state.run is not None)
    return play


def again(play: Watched) -> Playback:
    playback = Playback.recorded(play.entries)
    for look in looks_of(play.entries):
        if not playback.over:
            playback.look(play.readings[look.now], look.now, ready=look.ready, raised_at=look.raised_at)
    return playback


@pytest.mark.parametrize(
    ("traffic", "changes", "last"),
    [
        (Traffic(rate=100), {}, "Promote"),
        (
            Traffic(rate=100),
            {"plan": {"steps": [{"weight": 20, "durationSeconds": 5}, {"weight": 100, "durationSeconds": 5}], "soakSeconds": 20}},
            "Promote",
        ),
        (Traffic(rate=100, errors=0.5), {}, "Rollback: RolledBack, ErrorsAboveAbort"),
        (Traffic(rate=5), {}, "Promote"),
    ],
    ids=["good", "with a soak", "broken", "thin traffic"],
)
def test_every_decision_is_made_again_at_its_own_look(traffic: Traffic, changes: dict[str, Any], last: str) -> None:
    play = played(traffic, **changes)
    play.ended()
    playback = again(play)
    assert decisions(playback.entries) == decisions(play.entries)
    assert decisions(play.entries)[-1][1] == last
    assert first_difference(playback.entries) is None
    judged = [entry["verdicts"] for entry in play.entries if entry["kind"] == "Decision"]
    assert [entry["verdicts"] for entry in playback.entries if entry["kind"] == "Decision"] == judged


def test_a_fault_that_comes_late_is_found_at_the_same_look() -> None:
    play = played(Traffic(rate=50))
    play.until(lambda play: play.weight == 25)
    play.tick(), play.tick(), play.tick()
    play.traffic = Traffic(rate=50, errors=0.1)
    play.ended()
    assert decisions(again(play).entries) == decisions(play.entries)


def test_a_wait_for_copies_that_began_before_the_first_one_is_as_long_again() -> None:
    play = played(Traffic(rate=100, copied=False))
    play.until(lambda play: play.run.sampled_since is not None)
    for _ in range(3):
        play.tick()
    assert not play.run.counts.candidate.requests
    play.traffic.copied, play.traffic.rate = True, 1.0
    play.until(at_weight(5))
    play.traffic.rate = 100.0
    play.ended()
    assert decisions(again(play).entries) == decisions(play.entries)


def test_other_readings_lead_to_another_decision() -> None:
    play = played(Traffic(rate=100, errors=0.5))
    play.ended()
    healthy = played(Traffic(rate=100))
    healthy.ended()
    play.readings = {now: healthy.readings.get(now, reading) for now, reading in play.readings.items()}
    assert decisions(again(play).entries) != decisions(play.entries)


def test_a_plan_that_nobody_carried_out_is_played_from_its_first_step() -> None:
    play = played(Traffic(rate=100))
    play.ended()
    playback = Playback.planned(play.spec, stable=A, candidate=B, at=5000.0)
    source = Watched(spec=play.spec, traffic=Traffic(rate=100))
    for second in range(1, 400):
        source.now, source.state = 5000.0 + second, playback.state
        reading = source.reading()
        assert reading is not None
        playback.look(reading, source.now)
        if playback.over:
            break
    assert [what for _, what in decisions(playback.entries)] == [*(f"Advance to step {step}" for step in range(2, 6)), "Promote"]
    assert first_difference(playback.entries) is None
    assert playback.entries[-1]["outcome"] == "Succeeded"


def test_looks_are_kept_within_bounds_and_told_once() -> None:
    play = played(Traffic(rate=0))
    for _ in range(MOST_LOOKS + 50):
        play.tick()
        assert len(play.run.looks) <= MOST_LOOKS
    told = [tuple(look) for entry in play.entries for look in entry.get("looks", ())]
    assert len(told) == len(set(told))


def test_evidence_without_looks_is_refused() -> None:
    play = played(Traffic(rate=100))
    play.ended()
    with pytest.raises(ValueError, match="does not tell when its looks were made"):
        Playback.recorded([{**entry, "looks": []} for entry in play.entries])
    assert Identity.model_validate(play.entries[0]["candidate"]) == B
