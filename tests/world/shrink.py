"""A failing story made shorter: what is not needed for the failure is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.world.life import Result, live
from tests.world.story import Story

MOST_LIVES = 40


def shrunk(result: Result, most: int = MOST_LIVES) -> Result:
    """Give the failure of the shortest story found within so many lives that breaks the same promise."""
    lived = 0
    going_on = True
    while going_on:
        going_on = False
        for shorter in _shorter(result.story):
            if lived >= most:
                return result
            lived += 1
            found = live(shorter)
            if found.violations and _promise(found) == _promise(result):
                result, going_on = found, True
                break
    return result


def _promise(result: Result) -> str:
    return result.violations[0].partition(":")[0]


def _shorter(story: Story) -> Iterator[Story]:
    for index in range(len(story.events)):
        yield story.without(index)
    if story.routers > 1:
        yield replace(story, routers=1)
    plainest = {"analysis": {"method": method}} if (method := story.spec.get("analysis", {}).get("method")) else {}
    if story.spec != plainest:
        yield replace(story, spec=plainest)
    named = {str(event.arguments.get("version")) for event in story.events}
    if not story.models.keys() <= named:
        yield replace(story, models={version: model for version, model in story.models.items() if version in named})
