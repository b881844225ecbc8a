"""What the operator asks telemetry for when a rollout names a profile: the pods that carry its metrics, and no others."""

from __future__ import annotations

from dataclasses import replace

from kanarya.cluster import names
from kanarya.cluster.port import PODS
from kanarya.decision.counts import Reading
from kanarya.telemetry.request import ReadRequest
from tests.unit.controller.simulation import NAME, NAMESPACE, Simulation

NOTE = "errors are measured at ml-router: KServe's Python server has no counter of them"


class Asked(Simulation):
    """Remembers what telemetry was asked for."""

    seen: list[ReadRequest]

    async def read(self, request: ReadRequest) -> Reading:
        self.seen = [*getattr(self, "seen", []), request]
        return replace(await super().read(request), notes=(NOTE,), queries=('{__name__="x"}[20s]',))


async def test_a_profile_reaches_telemetry_with_the_pods_of_both_tracks() -> None:
    sim = Asked()
    sim.spec["analysis"] = {**sim.spec.get("analysis", {}), "profile": "kserve"}
    await sim.adopted()
    (before,) = await sim.stables()
    await sim.release("v2")
    await sim.until(lambda status: (status.get("run") or {}).get("weight") == 5)
    asked = sim.seen[-1]
    assert asked.profile == "kserve"
    pods = [body["metadata"]["name"] for body in await sim.api.list(PODS, NAMESPACE)]
    stable = [pod for pod in pods if pod.startswith(names.stable_deployment(NAME, before))]
    candidate = [pod for pod in pods if pod not in stable and asked.candidate_revision in pod]
    assert stable
    assert candidate
    assert all(asked.is_stable(pod) and not asked.is_candidate(pod) for pod in stable)
    assert all(asked.is_candidate(pod) and not asked.is_stable(pod) for pod in candidate)
    assert "MeasuredOtherwise" in await sim.events()
    run = (await sim.rollout())["status"]["run"]["id"]
    begun = (await sim.evidence(run))[0]
    assert (begun["spec"]["analysis"]["profile"], begun["notes"], begun["queries"]) == ("kserve", [NOTE], ['{__name__="x"}[20s]'])
