"""Each profile against what its server really exposes: before the first request, and after a few of known fate and duration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args

import pytest

from kanarya.api.rollout import Profile
from kanarya.decision.counts import Attempts, Missing, Reading
from kanarya.telemetry.collector import Collector
from kanarya.telemetry.servers import PROFILES
from tests.unit.telemetry.fakes import EXPOSITIONS, Clock, FakePrometheus, Model, Pod, Router, exposition, request

ROUTER, CANDIDATE, STABLE = "fraud-router-6c9f8d-x2x4z", "fraud-new-abcde", "fraud-stable-old-7d9f8c-x2x4z"
SERVERS = sorted(name for name, profile in PROFILES.items() if profile.carries)


@dataclass
class Server(Pod):
    """A pod that exposes what a file holds, and what Prometheus says of its scrape."""

    page: str = ""
    up: bool = True

    def expose(self) -> Iterator[tuple[str, dict[str, str], float]]:
        yield "up", {}, float(self.up)
        if not self.up:
            return
        yield from exposition(self.page)


class World:
    """A router, and a pod of each track; scraped every five seconds from 990 on."""

    def __init__(self, server: str) -> None:
        self.profile = server
        self.clock = Clock()
        self.prometheus = FakePrometheus()
        self.collector = Collector(self.prometheus, self.clock)
        self.router = Router(ROUTER)
        self.candidate, self.stable = Server(CANDIDATE, page=f"{server}-start"), Server(STABLE, page=f"{server}-start")
        self.model = Model(CANDIDATE)
        self.scraped = 985.0

    def run_to(self, time: float) -> None:
        while self.scraped + 5 <= time:
            self.scraped += 5
            self.prometheus.scrape(self.scraped, self.router, self.candidate, self.stable)
            self.prometheus.scrape(self.scraped, self.model, job="bins")
        self.clock.now = time

    async def read(self, **changes: Any) -> Reading:
        asked = request(stable_pod_prefix="fraud-stable-old-", profile=self.profile, **changes)
        return await self.collector.read(asked)

    def answer(self) -> None:
        """Let the candidate's pods do what their second page shows, and ml-router see some of it."""
        self.candidate.page = f"{self.profile}-end"
        self.router.answer("candidate", "live", seconds=0.1, times=2)
        self.router.answer("candidate", "mirror", "server_error", seconds=0.01)
        self.router.comparisons["match"] += 3


@pytest.fixture(params=SERVERS)
def world(request: pytest.FixtureRequest) -> World:
    world = World(request.param)
    world.run_to(1008.0)
    return world


ROUTERS = Attempts(3, 1, {"80": 2, "120": 0})
SERVED = {
    "mlserver": Attempts(6, 1, {"80": 1, "120": 0}, {"80": 1, "120": 1}),
    "bentoml": Attempts(5, 1, {"80": 1, "120": 0}, {"80": 1, "120": 1}),
    "kserve": Attempts(3, 1, {"80": 1, "120": 0}, {"80": 1, "120": 1}, timed=4),
    "triton": Attempts(4, 1, {"80": 2, "120": 0}, timed=3),
    "istio": Attempts(6, 2, {"80": 1, "120": 0}, {"80": 1, "120": 1}),
}
"""What the second page holds, and where a check is not carried by it what ml-router saw."""
EDGES = {
    "mlserver": {"80": (75.0, 100.0), "120": (100.0, 250.0)},
    "bentoml": {"80": (50.0, 100.0), "120": (100.0, 250.0)},
    "kserve": {"80": (75.0, 100.0), "120": (100.0, 250.0)},
    "triton": {},
    "istio": {"80": (50.0, 100.0), "120": (100.0, 250.0)},
}


def test_every_profile_of_the_schema_is_known_and_tested() -> None:
    assert {*PROFILES, "kanarya"} == set(get_args(Profile))
    assert {*SERVERS} == SERVED.keys() == EDGES.keys()
    for name, profile in PROFILES.items():
        assert profile.name == name
        assert len(profile.notes) == 2 - len(profile.carries), "each check that is measured elsewhere has a sentence"


async def test_requests_errors_and_durations_of_the_servers_own_series(world: World) -> None:
    world.answer()
    world.run_to(1018.0)
    reading = await world.read()
    expected = SERVED[world.profile]
    # The request of 150 ms lies between the edges at 100 and 250: slower than 80 ms for certain, slower than 120 ms perhaps.
    counted = reading.counts.candidate
    assert (counted.requests, counted.errors, counted.timed_requests) == (expected.requests, expected.errors, expected.timed_requests)
    assert {limit: counted.known_slower(limit) for limit in (80, 120)} == {limit: expected.known_slower(limit) for limit in (80, 120)}
    assert {limit: counted.possibly_slower(limit) for limit in (80, 120)} == {limit: expected.possibly_slower(limit) for limit in (80, 120)}
    assert reading.counts.stable.requests == reading.counts.stable.errors == 0
    assert (reading.counts.attempted, reading.counts.compared) == (3, 3)
    assert (dict(reading.missing), reading.detail, reading.history_lost) == ({}, "", False)
    assert dict(reading.edges) == EDGES[world.profile]
    assert reading.notes == PROFILES[world.profile].notes
    assert reading.newest == 1015.0


async def test_looks_that_end_anywhere_count_the_same(world: World) -> None:
    world.answer()
    whole = Attempts()
    watermark = 1000.0
    for step in range(14):
        world.run_to(1008.0 + step)
        reading = await world.read(watermark=watermark)
        watermark, whole = reading.until, whole + reading.counts.candidate
    assert watermark > 1016
    once = (await world.read()).counts.candidate
    assert (whole.requests, whole.errors, dict(whole.slower)) == (once.requests, once.errors, dict(once.slower))


async def test_a_quiet_night_is_no_silence(world: World) -> None:
    world.run_to(1018.0)
    reading = await world.read()
    assert (dict(reading.missing), reading.counts.candidate.requests) == ({}, 0)


async def test_stables_pods_are_counted_as_stable(world: World) -> None:
    world.stable.page = f"{world.profile}-end"
    world.run_to(1018.0)
    counts = (await world.read()).counts
    wanted = SERVED[world.profile]
    at_server = "errors" in PROFILES[world.profile].carries
    assert (counts.stable.requests, counts.stable.errors) == ((wanted.requests, wanted.errors) if at_server else (0, 0))
    assert counts.candidate.requests == 0


async def test_what_got_no_answer_is_an_error_although_no_server_knows_of_it(world: World) -> None:
    world.router.answer("candidate", "live", "unreachable", times=3)
    world.router.answer("candidate", "mirror", "timeout", seconds=5, times=4)
    world.run_to(1018.0)
    counts = (await world.read()).counts
    assert (counts.candidate.requests, counts.candidate.errors) == (7, 7)


async def test_pods_that_nobody_scrapes(world: World) -> None:
    world.prometheus.samples = {key: samples for key, samples in world.prometheus.samples.items() if dict(key)["pod"] != CANDIDATE}
    world.candidate.up = False
    world.clock.now = 1008.0
    reading = await world.read()
    carried = dict.fromkeys(PROFILES[world.profile].carries, Missing.NO_SERIES)
    assert {metric: why for metric, why in reading.missing.items() if metric in ("errors", "latency")} == carried
    assert "does not scrape the candidate's pods" in reading.detail
    assert reading.newest is None


async def test_pods_that_are_scraped_no_more(world: World) -> None:
    world.candidate.up = False
    world.run_to(1040.0)
    reading = await world.read()
    carried = dict.fromkeys(PROFILES[world.profile].carries, Missing.STALE_SAMPLES)
    assert {metric: why for metric, why in reading.missing.items() if metric in ("errors", "latency")} == carried
    assert reading.newest == 1005.0


async def test_another_server_than_the_profile_says(world: World) -> None:
    other = {"kserve": "triton"}.get(world.profile, "kserve")
    world.prometheus.samples.clear()
    world.candidate.page = f"{other}-end"
    world.run_to(1012.0)
    world.router.answer("candidate", times=5)
    world.run_to(1018.0)
    reading = await world.read()
    assert {why for metric, why in reading.missing.items() if metric in PROFILES[world.profile].carries} == {Missing.NO_SERIES}
    assert PROFILES[world.profile].title in reading.detail


async def test_limits_outside_the_servers_edges_are_refused_with_what_to_change(world: World) -> None:
    profile = PROFILES[world.profile]
    world.answer()
    world.run_to(1018.0)
    reading = await world.read(thresholds_ms=(80, 600_000_0))
    assert reading.missing.get("latency") is Missing.MISSING_EDGE
    if "latency" in profile.carries:
        assert "lower the limit of 6000000 ms to at most that, or use profile kanarya" in reading.detail
        assert profile.title in reading.detail


async def test_pods_of_others_do_not_count(world: World) -> None:
    for name in ("fraud-new-other-abcde", "fraud-stable-old", "another-new-abcde"):
        stranger = Server(name, page=f"{world.profile}-start")
        world.prometheus.scrape(1007.0, stranger)
        stranger.page = f"{world.profile}-end"
        world.prometheus.scrape(1012.0, stranger)
    world.run_to(1018.0)
    counts = (await world.read()).counts
    assert counts.candidate.requests == counts.stable.requests == 0


async def test_what_a_pod_says_of_itself_is_not_looked_at(world: World) -> None:
    world.answer()
    world.run_to(1018.0)
    honest = await world.read()
    for key in [key for key in world.prometheus.samples if dict(key)["pod"] == CANDIDATE]:
        renamed = tuple(sorted({**dict(key), "exported_pod": STABLE, "exported_namespace": "elsewhere"}.items()))
        world.prometheus.samples[renamed] = world.prometheus.samples.pop(key)
    liar = Collector(world.prometheus, world.clock)
    reading = await liar.read(request(stable_pod_prefix="fraud-stable-old-", profile=world.profile))
    assert reading.counts.candidate == honest.counts.candidate
    assert reading.counts.stable == honest.counts.stable


async def test_one_query_serves_all_rollouts_of_a_profile(world: World) -> None:
    asked = request(stable_pod_prefix="fraud-stable-old-", profile=world.profile)
    await world.read()
    await world.collector.read(
        replace(asked, rollout="cards", candidate_pod_prefixes=("cards-new-",), stable_pod_prefix="cards-stable-old-")
    )
    before = len(world.prometheus.asked)
    assert before == 5  # routers, which both have in this test; servers and bins of one, and again of both
    await world.read()
    await world.collector.read(
        replace(asked, rollout="cards", candidate_pod_prefixes=("cards-new-",), stable_pod_prefix="cards-stable-old-")
    )
    assert len(world.prometheus.asked) == before
    (written,) = [query for query, _ in world.prometheus.asked[3:] if any(name in query for name in PROFILES[world.profile].series)]
    assert "cards-stable-old-" in written
    assert "fraud-new-" in written


async def test_evidence_gets_the_queries_of_this_rollout_alone(world: World) -> None:
    reading = await world.read()
    routers, servers, bins = reading.queries
    assert "kanarya_comparisons_total" in routers
    assert all(name in servers for name in PROFILES[world.profile].series)
    assert 'pod=~"(?:fraud-new-|fraud-stable-old-).*"' in servers
    assert "ml_feature_bin_total" in bins


async def test_a_first_request_after_a_long_quiet_is_no_lost_history(world: World) -> None:
    world.run_to(1120.0)
    first = await world.read(watermark=1100.0)
    world.answer()
    world.run_to(1130.0)
    reading = await world.read(watermark=first.until)
    assert not reading.history_lost
    assert reading.counts.candidate.requests == SERVED[world.profile].requests


def test_a_new_process_of_the_model_is_none_of_its_sidecar() -> None:
    assert "process_start_time_seconds" in (EXPOSITIONS / "istio-end.txt").read_text(encoding="utf-8")
    assert "process_start_time_seconds" not in PROFILES["istio"].query(["shop"], ["fraud-new-"], 20)


async def test_envoy_gateway_cannot_tell_the_tracks_so_ml_router_does() -> None:
    page = (EXPOSITIONS / "envoy-gateway.txt").read_text(encoding="utf-8")
    clusters = {name for name in re.findall(r'envoy_cluster_name="([^"]*)"', page) if name.startswith("httproute/shop/fraud/")}
    assert clusters == {"httproute/shop/fraud/rule/0"}, "one for each rule: nothing says which backend answered"
    world, plain = World("envoy-gateway"), World("kanarya")
    readings = []
    for one in (world, plain):
        one.candidate.page = one.stable.page = "envoy-gateway"
        one.run_to(1008.0)
        one.router.answer("candidate", outcome="server_error", seconds=0.1, times=2)
        one.router.answer("candidate", "mirror", times=3)
        one.run_to(1018.0)
        readings.append(await one.read())
    assert readings[0] == replace(readings[1], notes=PROFILES["envoy-gateway"].notes)
    assert readings[0].counts.candidate == Attempts(5, 2, {"80": 2, "120": 0})
    assert [query for query, _ in world.prometheus.asked] == [query for query, _ in plain.prometheus.asked]


async def test_model_servers_without_a_new_sample_leave_the_look_open(world: World) -> None:
    world.scraped += 5
    world.prometheus.scrape(world.scraped, world.router)
    world.clock.now = 1013.0
    assert (await world.read(watermark=1006.0)).blank
    world.run_to(1018.0)
    assert not (await world.read(watermark=1006.0)).blank
