"""The router keeps what was last good, whatever comes after it, and says why."""

from __future__ import annotations

import copy
import json
import logging
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from kanarya_inference.router.control import Control
from kanarya_inference.router.endpoints import Pool, addresses
from kanarya_inference.router.metrics import RouterMetrics
from kanarya_inference.router.settings import SettingsError, read_settings
from kanarya_inference.router.status import desired_parents
from tests.unit.hostile import wrong
from tests.unit.hostile.wrong import Path
from tests.unit.router.cluster import ROLLOUT, backend, configmap, endpoint_slice, no_candidate, route, settings_document

pytestmark = pytest.mark.slow

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Clock:
    def __call__(self) -> float:
        return 100.0


def control() -> Control:
    """A router that follows 95/5."""
    clock = Clock()
    pools: dict[str, Pool] = {}
    made = Control(ROLLOUT, lambda name: pools.setdefault(name, Pool(Random(1), clock)), RouterMetrics(ROLLOUT, clock), clock)
    made.see_settings(configmap())
    made.see_route(route(95, 5))
    assert in_force(made) == (95, 100, "5f6c8d")
    return made


def in_force(made: Control) -> tuple[int, int, str | None]:
    assert made.plan is not None
    return made.plan.stable_weight, made.plan.total_weight, made.plan.candidate.revision


# -- settings -------------------------------------------------------------------------------------------------------------

DOCUMENT = settings_document()


@pytest.mark.parametrize("path", list(wrong.paths(DOCUMENT))[:25], ids=wrong.written)
def test_settings_with_any_value_are_read_or_refused_in_a_sentence(path: Path) -> None:
    for changed in (*(wrong.replaced(DOCUMENT, path, value) for value in wrong.FEW), wrong.without(DOCUMENT, path)):
        made = control()
        made.see_settings(configmap(json.dumps(changed)))
        assert made.verdict is not None
        if not made.verdict.note.startswith("the newest settings are not used: "):
            assert read_settings(configmap(json.dumps(changed)), ROLLOUT)
            continue
        assert len(made.verdict.note) < 500
        assert in_force(made) == (95, 100, "5f6c8d")


UNREADABLE = [
    "",
    "null",
    "[]",
    "{",
    "[" * 100_000,
    '{"x":' * 100_000,
    "NaN",
    '"' + "x" * 900_000 + '"',
    '{"schemaVersion": 1e400}',
    "\ud800",
]


@pytest.mark.parametrize("text", UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_is_no_document_keeps_the_last_good_one_and_is_reported(text: str, caplog: pytest.LogCaptureFixture) -> None:
    made = control()
    plan = made.plan
    with caplog.at_level(logging.WARNING):
        made.see_settings(configmap(text))
    assert made.plan is plan
    assert made.verdict is not None
    assert made.verdict.note.startswith("the newest settings are not used: ")
    assert len(made.verdict.note) < 600
    assert "the newest settings are not used" in caplog.text
    made.see_settings(configmap(**no_candidate()))
    assert in_force(made) == (100, 100, None)


@pytest.mark.parametrize("data", [None, [], "x", {"settings.json": None}, {"settings.json": 5}])
def test_a_config_map_of_another_shape(data: Any) -> None:
    with pytest.raises(SettingsError, match="missing"):
        read_settings({"data": data}, ROLLOUT)


@pytest.mark.parametrize("service", ["a,b", "x in (a)", "a b", "a=b", "../x", "Ü", "x" * 254])
def test_the_name_of_a_service_selects_no_other(service: str) -> None:
    tracks = copy.deepcopy(DOCUMENT["tracks"])
    tracks["candidate"]["service"] = service
    with pytest.raises(SettingsError, match="service"):
        read_settings(configmap(tracks=tracks), ROLLOUT)


# -- the route ------------------------------------------------------------------------------------------------------------

ROUTE = route(90, 10, generation=2)


@pytest.mark.parametrize("path", [path for path in wrong.paths(ROUTE) if path[0] != "metadata"], ids=wrong.written)
def test_a_route_of_any_shape_is_followed_or_the_last_good_one_stays(path: Path) -> None:
    for changed in (*(wrong.replaced(ROUTE, path, value) for value in wrong.FEW), wrong.without(ROUTE, path)):
        made = control()
        made.see_route(changed)
        stable, total, revision = in_force(made)
        assert 0 <= stable <= total
        if (stable, total) == (95, 100) and made.verdict is not None:
            assert made.verdict.refusal is not None
            assert "generation 1 stays in force" in made.verdict.note
            desired_parents(made.verdict, NOW)
        assert revision == "5f6c8d"
        made.see_settings(configmap(**no_candidate()))
        assert in_force(made)[2] is None, "settings count though the route is odd"
        assert made.plan is not None
        assert made.plan.stable_weight == made.plan.total_weight


def test_a_route_with_thousands_of_backends_is_refused_in_one_sentence() -> None:
    made = control()
    crowd = [backend(f"other-{number}", 1) for number in range(5000)]
    made.see_route(route(generation=2, backends=[backend("fraud-stable", 1), *crowd]))
    assert in_force(made)[:2] == (95, 100)
    assert made.verdict is not None
    assert len(made.verdict.note) < 300


SLICE = endpoint_slice("s", [("10.0.0.1", 1)])


@pytest.mark.parametrize("path", [path for path in wrong.paths(SLICE) if "metadata" not in path], ids=wrong.written)
def test_endpoints_that_lack_a_part_or_have_null(path: Path) -> None:
    for changed in (*([] if isinstance(path[-1], int) else [wrong.replaced(SLICE, path, None)]), wrong.without(SLICE, path)):
        assert all(isinstance(host, str) and isinstance(port, int) for host, port in addresses([changed]))
