"""A required offline report through the whole operator: from the resource over the request to the weight, the status and the evidence."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kanarya.cluster.port import ROLLOUTS
from kanarya.decision.counts import Reading
from kanarya.decision.offline import OfflineReport
from kanarya.decision.replay import first_difference
from kanarya.telemetry.request import ReadRequest
from tests.unit.controller.simulation import NAME, NAMESPACE, Simulation, conditions

ANALYSIS = {"method": "Threshold", "intervalSeconds": 1, "minSamples": 50, "offlineReport": "Required"}


@dataclass
class Evaluated(Simulation):
    """A simulation whose candidate's pods tell of their model's offline report when they are asked."""

    verdict: str = "missing"
    asked: list[tuple[int, bool]] = field(default_factory=list)
    """By look: the candidate's weight, and whether reports were asked for."""

    async def read(self, request: ReadRequest) -> Reading:
        reading = await super().read(request)
        self.asked.append((await self.weight() or 0, request.wants_report))
        report = OfflineReport("v2", "a" * 64, self.verdict, "" if self.verdict == "missing" else "b" * 64)
        return replace(reading, reports={"a": report, "b": report} if request.wants_report else {})


async def releasing(analysis: dict[str, object]) -> Evaluated:
    sim = Evaluated(spec={"replicas": 2, "analysis": analysis})
    await sim.adopted()
    await sim.release("v2")
    for _ in range(60):
        await sim.tick()
    return sim


async def test_no_weight_before_a_report_that_passed() -> None:
    sim = await releasing(ANALYSIS)
    status = (await sim.rollout())["status"]
    assert (await sim.weight(), conditions(status)["Progressing"]) == (0, ("True", "OfflineReportMissing"))
    (message,) = [item["message"] for item in status["conditions"] if item["type"] == "Progressing"]
    assert message.startswith("model v2 has no offline report: run `kanarya-ml evaluate`")
    sim.verdict = "FAIL"
    await sim.tick()
    assert conditions((await sim.rollout())["status"])["Progressing"] == ("True", "OfflineReportFailed")
    sim.verdict = "PASS"
    entry = await sim.ended()
    assert entry["outcome"] == "Succeeded"
    entries = await sim.evidence(entry["run"])
    assert entries[0]["offlineReport"]["verdict"] == "PASS"
    assert first_difference(entries) is None
    assert {wanted for weight, wanted in sim.asked if weight} == {False}, "asked once, before the first weight"


async def test_a_crash_of_the_operator_changes_nothing() -> None:
    sim = await releasing(ANALYSIS)
    sim.boot()
    for _ in range(20):
        await sim.tick()
    assert await sim.weight() == 0


async def test_a_spec_that_no_longer_asks_lets_the_run_go_on() -> None:
    sim = await releasing(ANALYSIS)
    patch = {"spec": {"analysis": {"offlineReport": "Optional"}}}
    await sim.api.merge_patch(ROLLOUTS, NAMESPACE, NAME, patch)
    assert (await sim.ended())["outcome"] == "Succeeded"
    assert not sim.asked[-1][1]
