"""A story: what a life is told to go through. Plain data, which prints as the Python that makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.world.traffic import Model


@dataclass(frozen=True)
class Event:
    """Something that happens `at` so many seconds after the installation. `what` names it, see `happenings.py`."""

    at: float
    what: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.arguments.items())
        return f"{self.what}({arguments})"


@dataclass(frozen=True)
class Story:
    """A life: the noise's seed, the service, the plan, the versions of the model, and what happens."""

    seed: int
    events: tuple[Event, ...] = ()
    spec: Mapping[str, Any] = field(default_factory=dict)
    """Parts of the rollout's spec other than the world's own."""
    models: Mapping[str, Model] = field(default_factory=dict)
    """Versions that are not simply good."""
    rate: float = 30.0
    scrape: float = 2.0
    routers: int = 1

    def without(self, index: int) -> Story:
        return replace(self, events=self.events[:index] + self.events[index + 1 :])

    def text(self) -> str:
        """Give the story as Python, to be kept."""
        lines = [f"Story(\n    {self.seed},", "    ("]
        lines += [f"        Event({event.at:g}, {event.what!r}, {dict(event.arguments)!r})," for event in self.events]
        lines += ["    ),", f"    spec={dict(self.spec)!r},", f"    models={dict(self.models)!r},"]
        lines += [f"    rate={self.rate:g}, scrape={self.scrape:g}, routers={self.routers},", ")"]
        return "\n".join(lines)


RELEASE = Event(14, "release", {"version": "v2"})
"""When most stories release, unless chance has it otherwise."""
COPIES_FIRST = {"steps": [{"weight": 0, "durationSeconds": 3}, {"weight": 50, "durationSeconds": 5}, {"weight": 100, "durationSeconds": 5}]}
"""A plan that begins with a step of weight 0."""
LONG = {"steps": [{"weight": 20, "durationSeconds": 20}, {"weight": 100, "durationSeconds": 6}]}


def released(seed: int, *events: Event, **rest: Any) -> Story:
    """Give a story whose first event is `RELEASE`."""
    return Story(seed, (RELEASE, *events), **rest)
