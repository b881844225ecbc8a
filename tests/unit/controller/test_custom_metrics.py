"""Metrics of the team's own through the whole operator: from the resource to the weight, the status and the evidence."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import jsonschema
import pytest

from kanarya.cluster.port import CONFIGMAPS
from kanarya.decision.counts import Missing, Reading, Sight
from kanarya.decision.evidence import digest
from kanarya.decision.replay import first_difference
from kanarya.decision.schema import evidence_schema
from kanarya.telemetry.request import ReadRequest
from tests.unit.controller.simulation import KEY, NAMESPACE, Simulation, conditions

pytestmark = pytest.mark.slow

GPU: dict[str, Any] = {"name": "gpu", "query": 'max(gpu{pod=~"{{pods}}"})', "slo": 10, "abort": 20, "abortForSeconds": 5}
LOW: dict[str, Any] = {"name": "low", "bad": "low_total", "total": "all_total", "slo": 0.05, "abort": 0.1}


@dataclass
class Own(Simulation):
    """A simulation whose Prometheus also answers the team's own queries."""

    allowed: bool = True
    gpu: float | None = 5.0
    low: float = 0.01
    asked: list[dict[str, float]] = field(default_factory=list)

    def boot(self) -> None:
        super().boot()
        self.reconciler._custom_queries = self.allowed

    async def read(self, request: ReadRequest) -> Reading:
        reading = await super().read(request)
        self.asked.append({one.metric.name: one.watermark for one in request.custom})
        sights, missing = {}, dict(reading.missing)
        for one in request.custom:
            seconds = max(self.now - 2 - one.watermark, 0.0)
            if one.metric.bad is not None:
                sights[one.metric.name] = Sight(self.now - 2, bad=100 * self.low * seconds, total=100 * seconds)
            elif self.gpu is None:
                missing[one.metric.name] = Missing.NO_SERIES
            else:
                sights[one.metric.name] = Sight(self.now, self.gpu, self.now - 1)
        return replace(reading, custom=sights, missing=missing)


async def releasing(*metrics: dict[str, Any], method: str = "Threshold", **changes: Any) -> Own:
    analysis = {"intervalSeconds": 1, "minSamples": 50, "method": method, "metrics": list(metrics), **changes.pop("analysis", {})}
    sim = Own(spec={"analysis": analysis}, **changes)
    await sim.adopted()
    await sim.release("v2")
    return sim


async def at_weight(sim: Own, weight: int = 10) -> Own:
    await sim.until(lambda status: (status.get("run") or {}).get("weight") == weight)
    return sim


async def checked(sim: Own, entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the evidence of a run, valid by its schema and judged again."""
    entries = await sim.evidence(entry["run"])
    body = await sim.api.get(CONFIGMAPS, NAMESPACE, entry["evidence"])
    assert body is not None
    jsonschema.Draft202012Validator(evidence_schema()).validate(json.loads(body["data"]["evidence.json"]))
    assert first_difference(entries) is None
    return entries


@pytest.mark.parametrize("method", ["Threshold", "Sequential"])
async def test_good_metrics_are_promoted_and_leave_evidence_that_is_judged_again(method: str) -> None:
    sim = await releasing(GPU, LOW, method=method)
    entry = await sim.ended()
    assert entry["outcome"] == "Succeeded"
    entries = await checked(sim, entry)
    last = next(item for item in reversed(entries) if item.get("decision") == "Promote")
    assert (last["verdicts"]["gpu"]["verdict"], last["verdicts"]["low"]["verdict"]) == ("Good", "Good")
    assert last["values"]["gpu"]["value"] == 5.0
    assert last["counts"]["custom"]["low"][1] == pytest.approx(100 * last["elapsed"], rel=0.3)
    index = entries.index(last)
    forged = {**last, "values": {"gpu": {**last["values"]["gpu"], "value": 15.0}}}
    forged["hash"] = digest({key: value for key, value in forged.items() if key != "hash"})
    assert first_difference([*entries[:index], forged]) is not None, "a number that was changed, hash and all, is found"


async def test_a_value_that_stays_beyond_abort_takes_the_candidate_back() -> None:
    sim = await at_weight(await releasing(GPU))
    sim.gpu = 30.0
    await sim.tick()
    assert (await sim.weight()) == 10, "one look is not enough"
    entry = await sim.ended()
    assert (entry["outcome"], entry["reason"]) == ("RolledBack", "ValueBeyondAbort")
    assert entry["message"].startswith("gpu: 30, beyond abort 20 for ")
    assert (await sim.weight()) == 0
    await checked(sim, entry)


@pytest.mark.parametrize("method", ["Threshold", "Sequential"])
async def test_a_ratio_above_abort_takes_the_candidate_back(method: str) -> None:
    sim = await at_weight(await releasing(LOW, method=method))
    sim.low = 0.5
    entry = await sim.ended()
    assert (entry["outcome"], entry["reason"]) == ("RolledBack", "RatioAboveAbort")
    await checked(sim, entry)


async def test_a_metric_that_is_only_told_stops_nothing() -> None:
    sim = await releasing({**GPU, "action": "Report"}, gpu=99.0)
    entry = await sim.ended()
    assert entry["outcome"] == "Succeeded"
    assert any(item["verdicts"]["gpu"]["verdict"] == "Bad" for item in await checked(sim, entry) if "verdicts" in item)


async def test_a_query_that_gives_nothing_keeps_the_first_weight_back() -> None:
    sim = await releasing(GPU, gpu=None)
    for _ in range(60):
        await sim.tick()
    status = (await sim.rollout())["status"]
    assert (await sim.weight(), conditions(status)["Progressing"]) == (0, ("True", "NoSeries"))
    sim.gpu = 5.0
    await at_weight(sim, 5)


async def test_a_metric_that_falls_silent_holds_and_then_follows_its_policy() -> None:
    sim = await at_weight(await releasing(GPU, analysis={"missingData": {"noSeries": {"action": "Rollback", "afterSeconds": 20}}}))
    sim.gpu = None
    for _ in range(15):
        await sim.tick()
    assert (await sim.weight()) == 10
    entry = await sim.ended()
    assert (entry["outcome"], entry["reason"]) == ("RolledBack", "NoSeries")


async def test_a_metric_that_could_not_be_asked_is_counted_from_where_it_was() -> None:
    sim = await at_weight(await releasing(LOW))
    await sim.tick()
    before = sim.asked[-1]["low"]
    await sim.tick()
    assert sim.asked[-1]["low"] == pytest.approx(before + 1.0)


async def test_an_installation_that_does_not_allow_queries_refuses_them() -> None:
    sim = Own(spec={"analysis": {"metrics": [GPU]}}, allowed=False)
    await sim.install()
    await sim.tick()
    assert conditions((await sim.rollout())["status"])["Accepted"] == ("False", "QueriesNotAllowed")
    assert await sim.stables() == []


async def test_a_query_that_may_not_be_asked_is_refused_with_what_to_change() -> None:
    sim = Own(spec={"analysis": {"metrics": [{**GPU, "query": 'up{namespace="other"}'}]}})
    await sim.install()
    await sim.tick()
    status = (await sim.rollout())["status"]
    assert conditions(status)["Accepted"] == ("False", "InvalidQuery")
    (message,) = [item["message"] for item in status["conditions"] if item["type"] == "Accepted"]
    assert message == "spec.analysis.metrics: gpu, query: it may read the rollout's own namespace only: leave the matcher on namespace out"


async def test_the_operators_own_metrics_have_them_only_during_a_run() -> None:
    sim = await at_weight(await releasing(GPU))
    shown = sim.metrics.exposition().decode()
    assert f'kanarya_rollout_value{{metric="gpu",namespace="{KEY[0]}",rollout="{KEY[1]}"}} 5.0' in shown
    await sim.ended()
    for _ in range(3):
        await sim.tick()
    assert 'metric="gpu"' not in sim.metrics.exposition().decode()


async def test_the_clock_is_set_back_during_a_run() -> None:
    sim = await at_weight(await releasing(LOW, GPU))
    sim.set_clock(-30)
    entry = await sim.ended()
    assert entry["outcome"] == "Succeeded"


async def test_preflight_wants_fresh_samples_though_a_metric_that_is_only_told_is_missing() -> None:
    """What is missing and does not matter must not stand in for what has to be there."""
    sim = await releasing({**GPU, "action": "Report"}, gpu=None)
    sim.traffic = replace(sim.traffic, rate=0.0)
    for _ in range(60):
        await sim.tick()
    assert (await sim.weight()) == 0


async def test_preflight_wants_fresh_samples_though_a_drift_that_is_only_told_is_missing() -> None:
    sim = await releasing(analysis={"drift": {"action": "Report"}})
    sim.traffic = replace(sim.traffic, rate=0.0, missing={"drift": Missing.NO_REFERENCE})
    for _ in range(60):
        await sim.tick()
    assert (await sim.weight()) == 0
