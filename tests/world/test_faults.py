"""Every fault is really exercised: it happens, in the middle of a release, and all promises hold."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from kanarya.cluster.execute import FAULT_POINTS
from tests.world.chance import FAULTS, story
from tests.world.life import live
from tests.world.story import RELEASE, Event, Story
from tests.world.traffic import Model

BAD = {"v2": Model(very_slow=0.5)}
DRAWS = 40
"""So often a fault is drawn to see all its kinds."""


def _kinds() -> dict[str, Event]:
    """Give one event for each kind of each fault, in the middle of the second step."""
    random = Random(1)
    found: dict[str, Event] = {}
    for _, make in FAULTS:
        for _ in range(DRAWS):
            what, arguments = make(random)
            kind = " ".join([what, *(str(arguments[key]) for key in ("kind", "what", "track", "whose", "forget") if key in arguments)])
            found.setdefault(kind, Event(33, what, _thorough(arguments)))
    return dict(sorted(found.items()))


def _thorough(arguments: Mapping[str, Any]) -> dict[str, Any]:
    scope = {"scope": "all", "share": 1.0} if "scope" in arguments else {}
    return {**arguments, **scope, **({"seconds": 8.0} if "seconds" in arguments else {})}


KINDS = _kinds()


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_of_each_kind_happens_and_is_survived(kind: str) -> None:
    event = KINDS[kind]
    result = live(Story(1, (RELEASE, event)))
    assert not result.violations, result.text()
    assert result.exercised[_word(event)], result.exercised
    if event.what == "api":
        assert result.exercised[f"api {event.arguments['kind']}"] > 1, "no call met it"


def _word(event: Event) -> str:
    kind = next((str(value) for key, value in event.arguments.items() if key in ("kind", "what", "track", "whose")), "")
    return f"{event.what} {kind}".strip()


def test_the_operator_dies_at_every_point() -> None:
    died: set[str] = set()
    for point in FAULT_POINTS:
        for models in ({}, BAD):
            events = [RELEASE, *(Event(at, "crash", {"away": 0.5, "point": point}) for at in (14.1, 24, 38))]
            result = live(Story(1, tuple(events), models=models))
            assert not result.violations, result.text()
            died |= result.points.keys()
    assert died >= {f"at {point}" for point in FAULT_POINTS}


def test_the_operator_dies_between_any_two_calls() -> None:
    died: set[str] = set()
    for calls in range(1, 200, 3):
        result = live(Story(calls, (RELEASE, Event(24, "crash", {"away": 0.2, "calls": calls}))))
        assert not result.violations, result.text()
        died |= result.points.keys()
    assert any(where.startswith("before merge_patch") for where in died)
    assert any(where.startswith("after") for where in died)
    assert "before a query" in died or "after a query" in died


def test_chance_tells_of_every_fault_and_the_same_story_twice() -> None:
    told = {event.what for seed in range(400) for event in story(seed).events}
    assert told == {make(Random(1))[0] for _, make in FAULTS} | {"release"}
    assert story(7) == story(7)
    assert live(story(7)).timeline == live(story(7)).timeline
