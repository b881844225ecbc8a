"""Looks at a Prometheus in memory: bins of features, and their reference."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kanarya.decision.counts import Missing
from tests.unit.telemetry.fakes import Model, down
from tests.unit.telemetry.watched import World


class TestDrift:
    """Bins of the candidate's own pods."""

    async def test_pods_add_up_and_others_are_left_out(self, world: World) -> None:
        second, stable = Model("fraud-new-fghij"), Model("fraud-stable-old-xyz")
        world.prometheus.scrape(1002.0, second, stable)
        world.run_to(1006.0)
        for pod, more in ((world.model, 2), (second, 3), (stable, 100)):
            pod.bins["amount"][10] += more
        world.prometheus.scrape(1009.0, second, stable)
        world.run_to(1013.0)
        reading = await world.read()
        assert reading.drift.current["amount"][10] == 5
        assert dict(reading.missing) == {}

    async def test_the_pods_of_another_rollout_are_left_out(self, world: World) -> None:
        other = Model("cards-new-abcde", bins={"age": [0.0] * 11}, reference={"age": [1.0] * 11})
        world.prometheus.scrape(1002.0, other)
        await world.read(rollout="cards", candidate_pod_prefixes=("cards-new-",))
        reading = await world.read()
        assert "cards-new-" in world.prometheus.asked[-1][0]
        assert set(reading.drift.reference) == {"amount"}

    async def test_it_has_its_own_span(self, world: World) -> None:
        world.run_to(1006.0)
        world.model.bins["amount"][0] = 5.0
        world.run_to(1012.0)
        reading = await world.read(since=1011.0, watermark=1011.0, drift_since=1000.0, drift_watermark=1006.0)
        assert reading.drift.current["amount"][0] == 5.0

    async def test_no_reference(self, world: World) -> None:
        world.model.reference.clear()
        world.prometheus.samples.clear()
        world.run_to(1008.0)
        reading = await world.read()
        assert (dict(reading.missing), reading.drift.reference) == ({"drift": Missing.NO_REFERENCE}, {})

    async def test_nothing_at_all(self, world: World) -> None:
        assert dict((await world.read(candidate_pod_prefixes=("fraud-none-",))).missing) == {"drift": Missing.NO_REFERENCE}
        assert dict((await world.read(candidate_pod_prefixes=())).missing) == {"drift": Missing.NO_SERIES}
        assert dict((await world.read(candidate_pod_prefixes=("",))).missing) == {"drift": Missing.NO_SERIES}

    async def test_no_bins(self, world: World) -> None:
        world.model.bins.clear()
        world.prometheus.samples.clear()
        world.run_to(1008.0)
        assert dict((await world.read()).missing) == {"drift": Missing.NO_SERIES}

    async def test_bins_that_differ(self, world: World) -> None:
        world.model.reference["age"] = [1.0] * 10
        world.model.bins["age"] = [0.0] * 11
        world.run_to(1008.0)
        reading = await world.read()
        assert dict(reading.missing) == {"drift": Missing.NO_REFERENCE}
        assert set(reading.drift.current) == set(reading.drift.reference) == {"amount"}

    async def test_pods_that_disagree(self, world: World) -> None:
        world.prometheus.scrape(1002.0, Model("fraud-new-fghij", reference={"amount": [5.0] * 11}))
        assert dict((await world.read()).missing) == {"drift": Missing.NO_REFERENCE}

    async def test_a_reference_that_is_no_count(self, world: World) -> None:
        world.model.reference["amount"][2] = math.nan
        world.run_to(1008.0)
        assert dict((await world.read()).missing) == {"drift": Missing.NOT_A_NUMBER}

    async def test_too_many_features(self, world: World) -> None:
        world.model.bins = {f"f{index}": [0.0] * 11 for index in range(201)}
        world.model.reference = {f"f{index}": [1.0] * 11 for index in range(201)}
        world.run_to(1008.0)
        reading = await world.read()
        assert (dict(reading.missing), dict(reading.drift.current)) == ({"drift": Missing.NO_REFERENCE}, {})

    async def test_stale_bins(self, world: World) -> None:
        world.run_to(1005.0)
        world.prometheus.scrape(1024.0, world.router)
        world.prometheus.scrape(1024.0, Model("fraud-new-fghij", bins={}))
        world.clock.now = 1026.0
        assert dict((await world.read(tick_seconds=10.0)).missing) == {"drift": Missing.STALE_SAMPLES}

    async def test_looking_back_further_may_fail(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.run_to(1008.0)
        world.model.bins["amount"][1] += 40
        world.scraped = 1065.0
        world.run_to(1073.0)
        query = world.prometheus.query

        async def only_short(promql: str, at: float) -> Any:
            if "ml_feature" in promql and "[20s]" not in promql:
                raise down()
            return await query(promql, at)

        monkeypatch.setattr(world.prometheus, "query", only_short)
        reading = await world.read(watermark=1066.0, drift_watermark=1066.0)
        assert dict(reading.missing) == {"drift": Missing.SOURCE_DOWN}
        assert (reading.drift.current, set(reading.drift.reference)) == ({}, {"amount"})

    async def test_it_fails_alone(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        query = world.prometheus.query

        async def only_traffic(promql: str, at: float) -> Any:
            if "ml_feature" in promql:
                raise down()
            return await query(promql, at)

        monkeypatch.setattr(world.prometheus, "query", only_traffic)
        reading = await world.read()
        assert dict(reading.missing) == {"drift": Missing.SOURCE_DOWN}
        assert reading.until == 1001.0


@pytest.mark.parametrize(("last", "known"), [("2", True), ("3", False)])
async def test_a_feature_may_have_fewer_bins_than_ten_but_no_gap(last: str, known: bool) -> None:
    world = World()
    world.model.labels = ("0", "1", last, "missing")
    world.model.bins, world.model.reference = {"amount": [0.0] * 4}, {"amount": [1.0, 60.0, 30.0, 9.0]}
    world.run_to(1007.0)
    world.model.bins["amount"][1] += 5
    world.run_to(1013.0)
    drift = (await world.read()).drift
    assert (drift.reference, drift.current) == (({"amount": (1, 60, 30, 9)}, {"amount": (0, 5, 0, 0)}) if known else ({}, {}))
