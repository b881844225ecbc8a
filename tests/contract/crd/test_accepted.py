"""What the API server accepts, fills in, keeps and prints."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kanarya.api.rollout import parse_spec
from kanarya.api.status import CONDITION_TYPES, Condition, HistoryEntry, RolloutStatus, RunStatus, StableStatus
from kanarya.cluster.port import ROLLOUTS, ApiError, Invalid, Object
from tests.contract.crd.cases import body, merged, steps
from tests.contract.crd.conftest import Server, same

TIME = "2026-01-02T03:04:05Z"
PARTIAL: dict[str, dict[str, Any]] = {
    "the smallest": {},
    "empty parts": {"plan": {}, "analysis": {}, "traffic": {}},
    "empty parts of the analysis": {"analysis": {"latency": {}, "errors": {}, "match": {}, "drift": {}, "missingData": {}}},
    "empty policies": {"analysis": {"missingData": {"noTraffic": {}, "noSeries": {}, "sourceDown": {}}}},
    "a policy in part": {"analysis": {"missingData": {"noSeries": {"action": "Hold"}}}},
    "steps without durations": {"plan": {"steps": [{"weight": 0}, {"weight": 100}]}},
    "one limit of each pair": {
        "analysis": {"latency": {"abortMilliseconds": 500}, "errors": {"abort": 0.5}, "match": {"abort": 0.5}, "drift": {"perFeature": 1}}
    },
    "whole numbers for fractions": {"analysis": {"drift": {"overall": 1, "perFeature": 2}, "match": {"tolerance": 0}}},
    "labels, and clients that stay": {
        "analysis": {"match": {"compare": "Label", "relativeTolerance": 1}},
        "traffic": {"stickyHeader": "X-User-Id"},
    },
    "20 steps": {"plan": {"weightTotal": 20, "steps": steps(*range(1, 21))}, "analysis": {"drift": {"maxWeight": 20}}},
    "the largest plan": {"plan": {"weightTotal": 10_000, "steps": steps(1, 10_000, seconds=604_800), "maxRunSeconds": 31_536_000}},
    "exactly as long as its steps": {"plan": {"steps": steps(5, 100), "soakSeconds": 5, "maxRunSeconds": 125}},
    "everything else": {
        "replicas": 1000,
        "paused": True,
        "traffic": {"mirrorPercent": 1, "fallback": "AnyError"},
        "analysis": {"sourceName": "n" * 63, "intervalSeconds": 300, "minSamples": 10_000_000},
        "scaleDownDelaySeconds": 0,
    },
}


def test_the_definition_is_the_generated_one(definition: Object) -> None:
    assert same(definition)
    conditions = {item["type"]: item for item in definition["status"]["conditions"]}
    assert "NonStructuralSchema" not in conditions, conditions["NonStructuralSchema"]["message"]
    assert conditions["NamesAccepted"]["status"] == "True"


@pytest.mark.parametrize("changes", PARTIAL.values(), ids=PARTIAL.keys())
async def test_the_server_fills_in_what_the_models_do(server: Server, name: str, changes: dict[str, Any]) -> None:
    sent = body(name, **changes)

    made = await server.api.create(ROLLOUTS, server.namespace, sent)

    model = parse_spec(sent["spec"])
    assert made["spec"] == model.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert parse_spec(made["spec"]) == model


async def test_the_longest_names_are_accepted(server: Server) -> None:
    long = body("n" * 40, targetRef={"name": "n" * 40}, serviceRef={"name": "n" * 63})
    assert await server.api.create(ROLLOUTS, server.namespace, long)


async def test_unknown_fields_are_dropped(server: Server, name: str) -> None:
    made = await server.api.create(ROLLOUTS, server.namespace, body(name, gates={"start": "Approval"}))
    assert "gates" not in made["spec"]


async def test_references_may_be_written_again_as_they_are(server: Server, name: str) -> None:
    made = await server.api.create(ROLLOUTS, server.namespace, body(name))
    patch = {"spec": {"targetRef": made["spec"]["targetRef"], "serviceRef": {"name": "fraud", "port": 80}, "paused": True}}
    assert (await server.api.merge_patch(ROLLOUTS, server.namespace, name, patch))["spec"]["paused"] is True


def full_status() -> RolloutStatus:
    """Give a status with every field filled, most of them to the brim."""
    conditions = tuple(
        Condition(type=kind, status="True", reason="R" * 64, message="ü" * 1024, observed_generation=2**40, last_transition_time=TIME)
        for kind in CONDITION_TYPES
    )
    history = [
        HistoryEntry(
            run="r" * 256, version="v" * 256, outcome=outcome, reason="R" * 64, finished=TIME, evidence="e" * 256, evidence_head="f" * 128
        )
        for outcome in ("Succeeded", "RolledBack", "Superseded", "Expired", "Aborted")
    ]
    return RolloutStatus(
        observed_generation=7,
        summary="s" * 256,
        reason="R" * 64,
        step_summary="2/5",
        replicas=2,
        selector="kanarya.dev/rollout=fraud,kanarya.dev/track=stable",
        conditions=conditions,
        stable=StableStatus(revision="aaa", version="v1", images=tuple(f"{number}{'i' * 1020}" for number in range(50))),
        run=RunStatus(
            id="bbb-1", revision="bbb", version="v2", step=2, steps=5, weight=10, since=TIME, reason="Stepping", spec_digest="d" * 128
        ),
        history=(*history, *history),
    )


async def test_a_full_status_survives_whole(server: Server, name: str) -> None:
    await server.api.create(ROLLOUTS, server.namespace, body(name))
    status = full_status().model_dump(mode="json", by_alias=True)

    # The answer to the write, because an operator in the same cluster may have its own words soon after.
    kept = await server.api.merge_patch(ROLLOUTS, server.namespace, name, {"status": status}, subresource="status")

    assert kept["status"] == status
    assert RolloutStatus.model_validate(kept["status"]) == full_status()


@pytest.mark.parametrize(
    "changes",
    [
        {"summary": "s" * 257},
        {"conditions": [{"type": "Odd", "status": "True", "reason": "R", "lastTransitionTime": TIME}]},
        {"conditions": [{"type": "Ready", "status": "True", "reason": "R", "lastTransitionTime": TIME}] * 2},
        {"history": [{"run": "r", "outcome": "Paused", "reason": "R", "finished": TIME}]},
    ],
    ids=["summary too long", "unknown condition", "condition twice", "unknown outcome"],
)
async def test_a_bad_status_is_refused(server: Server, name: str, changes: dict[str, Any]) -> None:
    await server.api.create(ROLLOUTS, server.namespace, body(name))
    with pytest.raises(Invalid):
        await server.api.merge_patch(ROLLOUTS, server.namespace, name, {"status": changes}, subresource="status")


async def test_the_scale_subresource(server: Server, name: str) -> None:
    await server.api.create(ROLLOUTS, server.namespace, body(name, replicas=3))
    status = merged(RolloutStatus().model_dump(mode="json", by_alias=True), {"replicas": 2, "selector": "kanarya.dev/track=stable"})
    path = f"/apis/{ROLLOUTS.api_version}/namespaces/{server.namespace}/{ROLLOUTS.plural}/{name}/scale"

    async def look() -> Any:
        scale = await server.raw("GET", path)
        return scale["spec"]["replicas"], scale["status"]

    assert await told(server, name, status, look, (3, {"replicas": 2, "selector": "kanarya.dev/track=stable"}))

    await server.api.merge_patch(ROLLOUTS, server.namespace, name, {"spec": {"replicas": 4}}, subresource="scale")
    assert (await server.raw("GET", path))["spec"]["replicas"] == 4
    with pytest.raises(ApiError):
        await server.api.merge_patch(ROLLOUTS, server.namespace, name, {"spec": {"replicas": 0}}, subresource="scale")


async def test_what_kubectl_prints(server: Server, name: str) -> None:
    await server.api.create(ROLLOUTS, server.namespace, body(name))
    status = merged(full_status().model_dump(mode="json", by_alias=True), {"summary": "Progressing", "reason": "TooFewSamples"})

    async def narrow() -> Any:
        header, row = await kubectl(server, "get", "mlr", name)
        return header, row[:5]

    async def wide() -> Any:
        header, row = await kubectl(server, "get", "mlr", name, "-o", "wide")
        return header[6:], row[6:]

    columns = ["NAME", "STATE", "STEP", "WEIGHT", "REASON", "AGE"]
    assert await told(server, name, status, narrow, (columns, [name, "Progressing", "2/5", "10", "TooFewSamples"]))
    columns = ["STABLE", "CANDIDATE", "RUN", "SINCE", "READY", "RELEASED"]
    assert await told(server, name, status, wide, (columns, ["v1", "v2", "bbb-1", TIME, "True", "R" * 64]))


async def told(server: Server, name: str, status: Object, look: Callable[[], Awaitable[Any]], want: Any) -> bool:
    """Write a status and look at it; an operator in the same cluster may put its own there in between, so more than once."""
    seen = None
    for _ in range(60):
        await server.api.merge_patch(ROLLOUTS, server.namespace, name, {"status": status}, subresource="status")
        seen = await look()
        if seen == want:
            return True
    raise AssertionError(f"{seen} is not {want}")


async def kubectl(server: Server, *arguments: str) -> list[list[str]]:
    """Run kubectl, from the path or from beside the test cluster; gives the words of each line."""
    program = shutil.which("kubectl") or str(server.kubeconfig.parent / "bin" / "kubectl")
    command = [program, "--kubeconfig", str(server.kubeconfig), "--namespace", server.namespace, "--request-timeout=20s", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err.decode()
    return [line.split() for line in out.decode().splitlines()]
