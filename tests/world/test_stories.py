from __future__ import annotations

import pytest

from tests.world.life import live
from tests.world.stories import BROKEN_FIRST, MENDING, REFUSED, STORIES
from tests.world.story import Event, Story
from tests.world.traffic import Model


@pytest.mark.parametrize("what", STORIES)
def test_what_was_found_once_holds(what: str) -> None:
    result = live(STORIES[what])
    assert not result.violations, f"{what}\n{result.text()}"


def test_adoption_goes_on_with_a_revision_that_works() -> None:
    result = live(BROKEN_FIRST, people=False)
    assert not result.violations, result.text()


def test_a_weight_is_taken_back_though_the_rollout_is_refused() -> None:
    result = live(REFUSED, people=False)
    assert not result.violations, result.text()


def test_a_release_that_mends_a_failing_stable_is_held_and_taken_back() -> None:
    """A limit that README tells; the how-to says what to do instead."""
    result = live(MENDING, people=False)
    assert not result.violations, result.text()
    assert result.ending == "rejected"
    assert set(result.outcomes) == {"RolledBack MirrorBreakerOpen"}


def test_a_story_prints_as_the_python_that_makes_it() -> None:
    for story in STORIES.values():
        assert eval(story.text(), {"Story": Story, "Event": Event, "Model": Model}) == story
