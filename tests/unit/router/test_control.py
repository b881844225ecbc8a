from __future__ import annotations

from random import Random
from typing import Any

import pytest

from kanarya_inference.router.control import Control
from kanarya_inference.router.endpoints import Pool
from kanarya_inference.router.metrics import RouterMetrics
from kanarya_inference.router.model import Request
from tests.unit.router.cluster import ROLLOUT, backend, configmap, no_candidate, route, settings_document


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def control() -> Control:
    clock = Clock()
    pools: dict[str, Pool] = {}
    return Control(ROLLOUT, lambda name: pools.setdefault(name, Pool(Random(1), clock)), RouterMetrics(ROLLOUT, clock), clock)


def in_force(control: Control) -> tuple[int, int, str | None] | None:
    plan = control.plan
    return None if plan is None else (plan.generation, plan.total_weight - plan.stable_weight, plan.candidate.revision)


def candidate(revision: str | None) -> dict[str, Any]:
    tracks: dict[str, Any] = settings_document()["tracks"]
    tracks["candidate"]["revision"] = revision
    return tracks


def test_nothing_is_in_force_before_both_are_seen(control: Control) -> None:
    control.see_route(route(95, 5))
    assert (control.plan, control.verdict) == (None, None)
    control.see_settings(configmap())
    assert in_force(control) == (1, 5, "5f6c8d")
    assert control.verdict is not None
    assert control.verdict.refusal is None


def test_newer_settings_wait_for_their_route(control: Control) -> None:
    control.see_route(route(100, 0))
    control.see_settings(configmap(**no_candidate()))
    control.see_settings(configmap(routeGeneration=2))
    assert in_force(control) == (1, 0, None)
    control.see_route(route(90, 10, generation=2))
    assert in_force(control) == (2, 10, "5f6c8d")


def test_settings_newer_than_any_route_are_not_used(control: Control) -> None:
    control.see_settings(configmap(routeGeneration=2))
    control.see_route(route(90, 10))
    assert control.plan is None
    assert control.verdict is None
    control.see_route(route(90, 10, generation=3))
    assert in_force(control) == (3, 10, "5f6c8d")


def test_refused_route_keeps_the_last_good_one(control: Control, caplog: pytest.LogCaptureFixture) -> None:
    control.see_settings(configmap())
    control.see_route(route(95, 5))
    control.see_route(route(generation=2, backends=[backend("fraud-stable", 0), backend("stranger", 100)]))
    assert in_force(control) == (1, 5, "5f6c8d")
    assert control.verdict is not None
    assert control.verdict.refusal is not None
    assert "stranger" in control.verdict.note
    assert "generation 1 stays in force" in control.verdict.note
    assert "route refused" in caplog.text
    control.see_route(route(50, 50, generation=3))
    assert in_force(control) == (3, 50, "5f6c8d")


def test_settings_count_while_the_newest_route_is_refused(control: Control) -> None:
    control.see_settings(configmap())
    control.see_route(route(95, 5))
    control.see_route(route(generation=2, backends=[]))
    control.see_settings(configmap(**no_candidate()))
    assert in_force(control) == (1, 0, None)


def test_unreadable_settings_are_reported_and_change_nothing(control: Control) -> None:
    control.see_route(route(95, 5))
    control.see_settings(configmap("not JSON"))
    assert control.plan is None
    control.see_settings(configmap())
    control.see_settings(configmap(mirrorPercent=1000))
    assert in_force(control) == (1, 5, "5f6c8d")
    assert control.verdict is not None
    assert "mirrorPercent" in control.verdict.note
    control.see_settings(configmap(mirrorPercent=10))
    assert control.plan is not None
    assert control.plan.settings.mirror_percent == 10
    assert control.verdict is not None
    assert control.verdict.note == "followed by ml-router"


def test_deletions_change_nothing(control: Control) -> None:
    control.see_settings(configmap())
    control.see_route(route(95, 5))
    control.see_settings(None)
    control.see_route(None)
    assert in_force(control) == (1, 5, "5f6c8d")
    assert control.verdict is None
    control.see_route(route(100, 0))  # made anew: the same generation, other weights
    assert in_force(control) == (1, 0, "5f6c8d")


def test_route_of_someone_else_is_left_alone(control: Control) -> None:
    control.see_settings(configmap())
    foreign = route(0, 100)
    foreign["metadata"]["labels"] = {}
    control.see_route(foreign)
    assert (control.plan, control.verdict) == (None, None)


def test_plan_stays_when_only_the_status_changed(control: Control) -> None:
    control.see_settings(configmap())
    control.see_route(route(95, 5))
    plan = control.plan
    control.see_route({**route(95, 5), "status": {"parents": []}})
    assert control.plan is plan


def test_track_lives_as_long_as_its_revision(control: Control) -> None:
    control.see_settings(configmap())
    control.see_route(route(95, 5))
    assert control.plan is not None
    first = control.plan.candidate
    control.see_route(route(90, 10, generation=2))
    assert control.plan.candidate is first
    control.see_settings(configmap(tracks=candidate("next")))
    assert control.plan.candidate is not first
    assert control.plan.candidate.breaker is not first.breaker
    assert control.plan.candidate.pool is first.pool


def test_the_endpoints_of_a_track_are_those_of_its_revision(control: Control) -> None:
    control.see_settings(configmap())
    control.see_route(route(95, 5))
    assert control.plan is not None
    assert (control.plan.stable.pool.revision, control.plan.candidate.pool.revision) == ("7d4b9c", "5f6c8d")
    control.see_settings(configmap(**no_candidate()))
    assert control.plan.candidate.pool.revision is None


def test_services_of_both_tracks_are_watched(control: Control) -> None:
    assert control.services == frozenset()
    control.see_settings(configmap())
    assert control.services == {"fraud-stable", "fraud-candidate"}


REQUEST = Request("POST", "/", [], b"")


def test_weights_are_drawn_as_given(control: Control) -> None:
    control.see_settings(configmap())
    control.see_route(route(999, 1))
    assert control.plan is not None
    random = Random(3)
    drawn = sum(control.plan.choose(random, REQUEST) is control.plan.candidate for _ in range(100_000))
    assert 70 <= drawn <= 130
    control.see_route(route(100, 0, generation=2))
    plan = control.plan
    assert all(plan.choose(random, REQUEST) is plan.stable for _ in range(1000))


def test_a_sticky_client_moves_to_the_candidate_once_and_stays(control: Control) -> None:
    clients = [Request("POST", "/", [("X-User", f"client-{number}")], b"") for number in range(4000)]
    random = Random(3)

    def on_candidate(weight: int, generation: int, header: str | None = "x-user") -> set[int]:
        control.see_settings(configmap(stickyHeader=header))
        control.see_route(route(100 - weight, weight, generation=generation))
        plan = control.plan
        assert plan is not None
        return {number for number, client in enumerate(clients) if plan.choose(random, client) is plan.candidate}

    five, again, half, whole = on_candidate(5, 1), on_candidate(5, 2), on_candidate(50, 3), on_candidate(100, 4)
    assert 150 <= len(five) <= 250, "5 % of 4,000, 3.6 standard deviations"
    assert five == again
    assert five < half
    assert len(whole) == 4000
    assert on_candidate(0, 5) == set()
    assert on_candidate(5, 6, header=None) != on_candidate(5, 7, header=None)
    control.see_settings(configmap(stickyHeader="x-user", tracks=_other_candidate()))
    plan = control.plan
    assert plan is not None
    another = {number for number, client in enumerate(clients) if plan.choose(random, client) is plan.candidate}
    assert len(another - five) > len(another) / 2, "another revision begins with other clients"


def test_clients_without_the_sticky_header_are_drawn(control: Control) -> None:
    control.see_settings(configmap(stickyHeader="x-user"))
    control.see_route(route(50, 50))
    assert control.plan is not None
    random = Random(3)
    assert 350 <= sum(control.plan.choose(random, REQUEST) is control.plan.candidate for _ in range(1000)) <= 650


def _other_candidate() -> dict[str, object]:
    return {"stable": {"service": "fraud-stable", "revision": "7d4b9c"}, "candidate": {"service": "fraud-candidate", "revision": "other"}}


def test_compare_only_needs_no_route() -> None:
    clock = Clock()
    pools: dict[str, Pool] = {}
    metrics = RouterMetrics(ROLLOUT, clock)
    control = Control(ROLLOUT, lambda name: pools.setdefault(name, Pool(Random(1), clock)), metrics, clock, compare_only=True)
    control.see_settings(configmap(routeGeneration=7))
    assert control.plan is not None
    assert (control.plan.candidate.revision, control.plan.stable_weight, control.plan.total_weight) == ("5f6c8d", 1, 1)
    assert control.verdict is None, "the gateway reports on the route"
    assert b"kanarya_router_weight{" not in metrics.render()
    control.see_settings(configmap(**no_candidate()))
    assert control.plan.candidate.revision is None
