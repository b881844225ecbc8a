"""Pods that lie to Prometheus: they cannot pass, cannot stop the operator, and cannot touch another rollout."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kanarya.api.rollout import Analysis
from kanarya.decision.counts import Counts, Drift, Missing, Reading
from kanarya.decision.judge import Standard, judge
from kanarya.decision.verdict import Kind
from kanarya.telemetry import profile, promql
from kanarya.telemetry.collector import Collector
from kanarya.telemetry.feed import APART_SECONDS, Feed, Interest
from kanarya.telemetry.source import Series, SourceError
from tests.unit.telemetry.fakes import Clock, FakePrometheus, Model, Pod, Router, request

pytestmark = pytest.mark.slow

ROUTER = "fraud-router-6c9f8d-x2x4z"
ABSURD = (1e308, math.nan, math.inf, -math.inf, -1.0, 2.0**53 + 2)


@dataclass
class Liar(Pod):
    """A pod that says whatever it likes."""

    lines: list[tuple[str, dict[str, str], float]] = field(default_factory=list)

    def expose(self) -> Iterator[tuple[str, dict[str, str], float]]:
        yield from self.lines


async def look(*pods: Pod, later: Any = lambda: None, **changes: Any) -> Reading:
    """Scrape some pods every 5 s, with `later` done in the middle, and look."""
    prometheus, clock = FakePrometheus(), Clock()
    for at in range(990, 1016, 5):
        if at == 1010:
            later()
        prometheus.scrape(float(at), *pods)
    clock.now = 1017.0
    return await Collector(prometheus, clock).read(request(**changes))


def lie(name: str, value: float, **labels: str) -> tuple[str, dict[str, str], float]:
    return f"kanarya_{name}", {"rollout": "fraud", "track": "candidate", "revision": "new", "exposure": "live", **labels}, value


def router_lies(value: float) -> list[tuple[str, dict[str, str], float]]:
    """A candidate's pod in the router's words: a million good answers of its own, and a million bad ones of stable."""
    return [
        *(lie("request_duration_seconds_bucket", value, outcome="success", le=le) for le in ("0.08", "0.12", "+Inf")),
        lie("request_duration_seconds_bucket", value, outcome="server_error", track="stable", revision="old", le="+Inf"),
        lie("comparisons_total", value, exposure="mirror", outcome="match"),
        lie("mirror_breaker_open", 1.0),
        ("process_start_time_seconds", {}, 1004.0),
    ]


LIARS = {
    "the candidate's pod": ("fraud-new-abcde", "shop"),
    "another rollout's pod": ("cards-5f6c8d-abcde", "shop"),
    "another rollout's router": ("cards-router-6c9f8d-x2x4z", "shop"),
    "the router of a rollout whose name begins alike": ("fraud-router-eu-router-6c9f8d-x2x4z", "shop"),
    "a model of a rollout named like the router": ("fraud-router-eu-6c9f8d-x2x4z", "shop"),
    "a router's namesake in another namespace": (ROUTER, "attic"),
}


@pytest.mark.parametrize("liar", LIARS)
async def test_only_the_rollouts_own_routers_are_believed_about_traffic(liar: str) -> None:
    name, namespace = LIARS[liar]
    router, model = Router(ROUTER), Model("fraud-new-fghij")
    honest = await look(router, model, later=lambda: router.answer("candidate", outcome="server_error", times=3))
    router, model = Router(ROUTER), Model("fraud-new-fghij")
    pod = Liar(name, namespace, lines=router_lies(1e6))
    reading = await look(router, model, pod, later=lambda: router.answer("candidate", outcome="server_error", times=3))
    assert reading.counts == honest.counts
    assert honest.counts.candidate.errors == 3
    assert dict(reading.missing) == dict(honest.missing) == {}


async def test_what_a_pod_says_of_its_own_identity_is_not_read() -> None:
    """With `honor_labels: false` a pod's own `pod`, `namespace` and `job` arrive as `exported_…`."""
    claims = {"exported_pod": ROUTER, "exported_namespace": "shop", "exported_job": "pods", "exported_instance": f"{ROUTER}:9090"}
    pod = Liar("cards-5f6c8d-abcde", lines=[(name, {**labels, **claims}, value) for name, labels, value in router_lies(1e6)])
    reading = await look(Router(ROUTER), Model("fraud-new-fghij"), pod)
    assert reading.counts.candidate.requests == 0
    assert dict(reading.missing) == {}


@pytest.mark.parametrize(
    "name", ["fraud-new", "fraud-new-6c9f8d-abcde", "fraud-newer-abcde", "fraud-stable-new-1-abcde", "xfraud-new-abcde"]
)
async def test_only_the_candidates_own_pods_are_believed_about_drift(name: str) -> None:
    honest, other = Model("fraud-new-abcde"), Model(name, reference={"amount": [7.0] * 11})

    def shifted() -> None:
        honest.bins["amount"][3] += 5
        other.bins["amount"][9] += 1e6

    reading = await look(Router(ROUTER), honest, other, later=shifted)
    assert reading.drift.current == {"amount": (0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0)}
    assert reading.drift.reference == {"amount": (*(100.0,) * 10, 3.0)}


# -- absurd numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ABSURD)
async def test_a_router_that_counts_absurdly_gives_no_verdict(value: float) -> None:
    router = Router(ROUTER)

    def absurd() -> None:
        for row in router.attempts.values():
            row.update(dict.fromkeys(row, value))
        router.comparisons.update(dict.fromkeys(router.comparisons, value))

    reading = await look(router, Model("fraud-new-abcde"), later=absurd)
    assert {reading.missing[metric] for metric in ("errors", "latency", "match")} == {Missing.NOT_A_NUMBER}
    assert verdicts_of(reading) == {Kind.NO_DATA}


@pytest.mark.parametrize("value", ABSURD)
@pytest.mark.parametrize("which", ["bins", "reference"])
async def test_a_candidate_with_absurd_features_passes_no_drift_and_stops_nothing(which: str, value: float) -> None:
    router, model = Router(ROUTER), Model("fraud-new-abcde", bins={"amount": [10.0] * 11})

    def absurd() -> None:
        getattr(model, which)["amount"][:] = [value] * 11
        router.answer("candidate", times=500)

    reading = await look(router, model, later=absurd)
    assert reading.missing["drift"] in (Missing.NOT_A_NUMBER, Missing.NO_REFERENCE)
    drift = judge(Standard(Analysis()), reading.counts, reading.drift, reading.missing, elapsed=15, run_elapsed=15, settled=True).verdicts[
        "drift"
    ]
    assert drift.kind is Kind.NO_DATA


def verdicts_of(reading: Reading) -> set[Kind]:
    judged = judge(Standard(Analysis()), reading.counts, reading.drift, reading.missing, elapsed=15, run_elapsed=15, settled=True).verdicts
    return {judged[metric].kind for metric in ("errors", "latency", "match")}


COUNT = st.one_of(st.sampled_from([*ABSURD, 0.0, 1.0, 2.0**53]), st.floats(), st.floats(0, 1e6))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.lists(COUNT, min_size=6, max_size=6), min_size=4, max_size=4))
def test_whatever_numbers_come_a_look_and_its_verdicts_are_finite(rows: list[list[float]]) -> None:
    """Counters that jump, fall, or are no numbers, in a router's buckets and comparisons and in a model's bins and reference."""
    prometheus, clock = FakePrometheus(), Clock()
    for step, at in enumerate(range(990, 1016, 5)):
        router, model = Router(ROUTER), Model("fraud-new-abcde")
        for row in router.attempts.values():
            row.update(dict.fromkeys(row, rows[0][step]))
        router.comparisons.update(dict.fromkeys(router.comparisons, rows[1][step]))
        model.bins["amount"] = [rows[2][step]] * 11
        model.reference["amount"] = [rows[3][step]] * 11
        prometheus.scrape(float(at), router, model)
    clock.now = 1017.0
    reading = _run(Collector(prometheus, clock).read(request()))
    counts, bins = reading.counts, [*reading.drift.current.values(), *reading.drift.reference.values()]
    numbers = [counts.candidate.requests, counts.candidate.errors, *counts.candidate.slower.values(), counts.attempted, counts.mismatched]
    assert all(0 <= number < 1e20 for number in (*numbers, *(value for row in bins for value in row)))
    judged = judge(Standard(Analysis()), counts, reading.drift, reading.missing, elapsed=15, run_elapsed=15, settled=True).verdicts
    assert all(verdict.estimate is None or math.isfinite(verdict.estimate) for verdict in judged.values())


def _run(work: Any) -> Any:
    """Drive a coroutine that never really waits."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def test_the_largest_counts_there_can_be_are_judged() -> None:
    bins = {"amount": (2.0**53,) * 11}
    for current, reference in ((bins, bins), (bins, {"amount": (0.0,) * 11}), ({"amount": (0.0,) * 11}, bins)):
        judged = judge(Standard(Analysis()), Counts(), Drift(current, reference), {}, elapsed=1, run_elapsed=1, settled=False).verdicts
        assert judged["drift"].estimate is not None
        assert math.isfinite(judged["drift"].estimate)


# -- too much -------------------------------------------------------------------------------------------------------------


async def test_features_without_number_and_names_without_end_give_no_verdict_and_take_no_room() -> None:
    for features in (
        {f"f{number}": [1.0] * 11 for number in range(profile.MAX_FEATURES + 1)},
        {"x" * (profile.MAX_FEATURE_NAME + 1): [1.0] * 11},
    ):
        reading = await look(Router(ROUTER), Model("fraud-new-abcde", bins=features, reference=features))
        assert reading.missing["drift"] is Missing.NO_REFERENCE
        assert reading.drift == Drift()


class Small(FakePrometheus):
    """Refuses to answer with more than so many series."""

    most = 100

    async def query(self, promql: str, at: float, *, lookback_seconds: float | None = None) -> list[Series]:
        found = await super().query(promql, at)
        if len(found) > self.most:
            raise SourceError("too_large", "The answer of Prometheus is larger than 32 MiB.")
        return found


async def test_a_candidate_with_millions_of_series_loses_its_own_drift_and_nobody_elses() -> None:
    prometheus, clock = Small(), Clock()
    prometheus.most = 400
    flood = {f"f{number}": [1.0] * 11 for number in range(50)}
    pods = [Router(ROUTER), Model("fraud-new-abcde"), Router("cards-router-0", rollout="cards"), Model("cards-new-abcde", bins=flood)]
    collector = Collector(prometheus, clock)
    cards = {"rollout": "cards", "router_pod_prefix": "cards-router-", "candidate_pod_prefixes": ("cards-new-",)}
    for at in range(990, 1200, 5):
        prometheus.scrape(float(at), *pods)
        clock.now = at + 2.0
        if at < 1005:
            continue
        before = len(prometheus.asked)
        flooded = await collector.read(request(**cards))
        clock.now += 0.1
        honest = await collector.read(request())
        assert flooded.missing == {"drift": Missing.SOURCE_DOWN}
        assert "larger than" in flooded.detail
        assert dict(honest.missing) == {}
        assert len(prometheus.asked) - before <= 6


async def test_one_that_is_small_again_is_read_again() -> None:
    prometheus, clock = Small(), Clock()
    feed = Feed(prometheus, clock, lambda interest, seconds: f'{{pod=~"{"|".join(sorted(interest.pod_prefixes))}"}}[{seconds}s]')
    one, two = (Interest(frozenset({"shop"}), frozenset({name}), seconds=20.0) for name in ("one", "two"))
    for number in range(3):
        prometheus.put(999.0, 1.0, name="x", pod="one", number=str(number))
    prometheus.put(999.0, 1.0, name="x", pod="two")
    prometheus.most = 2
    assert list((await feed.get(("shop", "two"), two, 990.0)).of_namespace("")) == ["two"]
    for _ in range(2):
        with pytest.raises(SourceError, match="larger than"):
            await feed.get(("shop", "one"), one, 990.0)
    asked = len(prometheus.asked)
    with pytest.raises(SourceError, match="larger than"):
        await feed.get(("shop", "one"), one, 990.0)
    assert len(prometheus.asked) == asked, "it is not asked for at every look"
    prometheus.most = 10
    clock.now += APART_SECONDS + 1
    for number in range(2):
        prometheus.put(clock.now, 1.0, name="x", pod="one", number=str(number))
    assert list((await feed.get(("shop", "one"), one, clock.now - 10)).of_namespace("")) == ["one"]


# -- into PromQL ----------------------------------------------------------------------------------------------------------

NASTY = (
    st.text(st.sampled_from("\\\"'`{}()[]|.*+?^$\n\r\t\x00\x07\x1b\u2028\u202e\ufeff#=~,/ aé😀"))
    | st.text(st.characters())
    | st.just("\ud800")
)


@given(NASTY, NASTY)
def test_a_value_stays_between_its_quotes_whatever_it_holds(value: str, other: str) -> None:
    query = profile.traffic_query([80], [value], [other], 20)
    query.encode()
    outside = re.sub(r'"(?:[^"\\\n]|\\.)*"', '""', query)
    assert outside == '{__name__=~"",le=~"",outcome!="",namespace=~"",pod=~""}[20s]'
    assert promql.escaped(value).count("\n") == 0
