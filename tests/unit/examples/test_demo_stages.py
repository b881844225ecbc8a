"""Stages, the screen without a terminal, and reading weights."""

from __future__ import annotations

import pytest

from examples.demo.screen import FULL_SECONDS, Lines
from examples.demo.stages import Stages
from examples.demo.text import Look
from examples.demo.watching import Turning, weight_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_stages_are_numbered_and_timed() -> None:
    lines: list[str] = []
    clock = Clock()
    stages = Stages(2, lines.append, clock)
    with stages.stage("first"):
        clock.now += 61.2
    with pytest.raises(ValueError, match="no"), stages.stage("second"):
        raise ValueError("no")
    assert lines == ["[ 0:00]  1/2 first", "[ 1:01]  1/2 done in 61.2 s", "[ 1:01]  2/2 second"]
    assert stages.durations == [("first", 61.2)]


def test_lines_are_written_on_change_and_the_whole_view_now_and_then() -> None:
    said: list[str] = []
    whole: list[str] = []
    clock = Clock()
    lines = Lines(said.append, whole.append, clock)
    look = Look({"metadata": {"name": "fraud", "namespace": "demo"}, "status": {"summary": "Preflight"}}, {}, {})
    lines.show(look)
    lines.show(look)
    assert (len(said), len(whole)) == (1, 0)
    clock.now += FULL_SECONDS
    lines.show(look)
    lines.show(look)
    assert (len(said), len(whole)) == (1, 1)
    assert "demo/fraud" in whole[0]


def test_weight_of_a_backend() -> None:
    route = {"spec": {"rules": [{"backendRefs": [{"name": "fraud-stable", "weight": 95}, {"name": "fraud-candidate", "weight": 5}]}]}}
    assert weight_of(route, "fraud-candidate") == 5
    assert weight_of(route, "other") is None


def test_a_version_turns_bad_once_when_it_is_first_seen_with_a_weight() -> None:
    shown: list[Look] = []
    happened: list[int] = []

    class Shown:
        def show(self, look: Look) -> None:
            shown.append(look)

    screen = Turning(Shown(), lambda: happened.append(len(shown)))
    looks = [Look({"status": status}, {}, {}) for status in ({}, {"run": {"weight": 0}}, {"run": {"weight": 25}}, {"run": {"weight": 25}})]
    for look in looks:
        screen.show(look)
    assert shown == looks
    assert happened == [3]
