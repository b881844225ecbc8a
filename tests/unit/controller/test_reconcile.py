from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import jsonschema
import pytest

from kanarya.cluster import names
from kanarya.cluster.execute import FAULT_POINTS
from kanarya.cluster.fake import Call
from kanarya.cluster.port import (
    CONFIGMAPS,
    DEPLOYMENTS,
    EVENTS,
    HTTPROUTES,
    REPLICASETS,
    ROLLOUTS,
    SERVICES,
    Conflict,
    Forbidden,
    Object,
    Resource,
    Unavailable,
)
from kanarya.decision.counts import Missing, Reading
from kanarya.decision.replay import first_difference
from kanarya.decision.schema import evidence_schema
from kanarya.telemetry.request import ReadRequest
from tests.unit.controller.simulation import KEY, NAME, NAMESPACE, Simulation, template
from tests.unit.decision.play import Traffic


async def releasing(weight: int = 5, traffic: Traffic | None = None) -> Simulation:
    """A release under way at a weight; `traffic` from there on."""
    sim = await Simulation().adopted()
    await sim.release("v2")
    await sim.until(lambda status: (status.get("run") or {}).get("weight") == weight)
    sim.traffic = traffic or sim.traffic
    return sim


def conditions(status: dict[str, object]) -> dict[str, tuple[str, str]]:
    found = status["conditions"]
    assert isinstance(found, list)
    return {entry["type"]: (entry["status"], entry["reason"]) for entry in found}


async def test_a_good_release_is_promoted_and_leaves_valid_evidence() -> None:
    sim = await releasing()
    entry = await sim.ended()
    assert entry["outcome"] == "Succeeded"
    assert sim.weights == [0, 5, 10, 25, 50, 100, 0]
    run = entry["run"]
    entries = await sim.evidence(run)
    assert [item["step"] for item in entries if item["kind"] == "StepEntered"] == [1, 2, 3, 4, 5]
    assert first_difference(entries) is None
    assert entries[-1]["hash"] == entry["evidenceHead"]
    body = await sim.api.get(CONFIGMAPS, NAMESPACE, entry["evidence"])
    assert body is not None
    jsonschema.Draft202012Validator(evidence_schema()).validate(json.loads(body["data"]["evidence.json"]))
    for _ in range(40):
        await sim.tick()
    (stable,) = await sim.stables()
    assert run == f"{stable}-1"
    assert (await sim.target())["spec"]["replicas"] == 0
    status = (await sim.rollout())["status"]
    assert conditions(status)["Released"] == ("True", "Succeeded")
    assert status["stable"]["version"] == "v2"
    assert {"Adopted", "RunStarted", "Promoting", "Succeeded"} <= set(await sim.events())


async def test_a_bad_release_is_taken_back() -> None:
    sim = await releasing(traffic=Traffic(errors=0.2))
    entry = await sim.ended()
    assert (entry["outcome"], entry["reason"]) == ("RolledBack", "ErrorsAboveAbort")
    assert sim.weights == [0, 5, 0]
    status = (await sim.rollout())["status"]
    assert conditions(status)["Ready"][0] == "True"
    assert conditions(status)["Released"] == ("False", "RolledBack")
    for _ in range(30):
        await sim.tick()
    assert (await sim.target())["spec"]["replicas"] == 0
    assert b"kanarya_rollback_seconds_count 1.0" in sim.metrics.exposition()


async def test_conditions_are_all_there_from_the_first_pass() -> None:
    sim = Simulation()
    await sim.install()
    await sim.tick()
    status = (await sim.rollout())["status"]
    assert set(conditions(status)) == {"Accepted", "Ready", "Progressing", "Promotable", "Released"}
    assert all(entry["observedGeneration"] == 1 for entry in status["conditions"])
    assert conditions(status)["Ready"][0] == "False"
    assert status["summary"] == "Adopting"


async def test_stable_pods_do_not_belong_to_the_target() -> None:
    sim = await Simulation().adopted()
    (revision,) = await sim.stables()
    body = await sim.api.get(DEPLOYMENTS, NAMESPACE, names.stable_deployment(NAME, revision))
    assert body is not None
    labels = body["spec"]["template"]["metadata"]["labels"]
    assert labels == {
        "team": "risk",
        "app.kubernetes.io/version": "v1",
        names.ROLLOUT: NAME,
        names.TRACK: "stable",
        names.REVISION: revision,
    }
    assert body["metadata"]["annotations"][names.VERSION] == "v1"
    assert "ownerReferences" not in body["metadata"]


# -- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"plan": {"steps": [{"weight": 50}, {"weight": 5}]}}, "InvalidSpec", "steps must rise"),
        ({"analysis": {"sourceName": "elsewhere"}}, "UnknownSource", "known: default"),
    ],
)
async def test_a_bad_object_is_told_what_to_change(spec: dict[str, object], reason: str, words: str) -> None:
    sim = Simulation(spec=spec)
    await sim.install()
    await sim.tick()
    status = (await sim.rollout())["status"]
    accepted = next(entry for entry in status["conditions"] if entry["type"] == "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", reason)
    assert words in accepted["message"]
    assert await sim.stables() == []


async def test_a_target_without_a_clear_port_is_refused() -> None:
    sim = Simulation()
    await sim.install()
    body = template("v1")
    body["spec"]["containers"][0]["ports"] = [{"containerPort": 1}, {"containerPort": 2}]
    await sim.api.json_patch(DEPLOYMENTS, NAMESPACE, NAME, [{"op": "replace", "path": "/spec/template", "value": body}])
    await sim.tick()
    status = (await sim.rollout())["status"]
    assert conditions(status)["Accepted"] == ("False", "UnusableTarget")


@pytest.mark.parametrize("differs", ["serviceRef", "targetRef", ""])
async def test_the_younger_of_two_rollouts_on_one_target_or_service_is_refused(differs: str) -> None:
    sim = await Simulation().adopted()
    rollout = await sim.rollout()
    sim.now += 5
    body = {"apiVersion": rollout["apiVersion"], "kind": rollout["kind"], "metadata": {"name": "second", "namespace": NAMESPACE}}
    other = {differs: {"name": "other"}} if differs else {}
    await sim.api.create(ROLLOUTS, NAMESPACE, {**body, "spec": {**rollout["spec"], **other}})
    await sim.reconciler.reconcile((NAMESPACE, "second"))
    second = await sim.api.get(ROLLOUTS, NAMESPACE, "second")
    assert second is not None
    assert conditions(second["status"])["Accepted"] == ("False", "TargetTaken")
    wanted = "Service in spec.serviceRef" if differs == "targetRef" else "Deployment in spec.targetRef"
    (accepted,) = [entry for entry in second["status"]["conditions"] if entry["type"] == "Accepted"]
    assert accepted["message"].endswith(f"name another {wanted}, or delete one of the two")
    await sim.tick()
    assert conditions((await sim.rollout())["status"])["Accepted"][0] == "True"


async def test_a_checkpoint_of_a_newer_operator_is_not_touched() -> None:
    sim = await releasing()
    document = await sim.checkpoint()
    text = json.dumps({**document, "schemaVersion": 99})
    await sim.api.merge_patch(CONFIGMAPS, NAMESPACE, names.checkpoint(NAME), {"data": {"checkpoint.json": text}})
    sim.boot()
    for _ in range(20):
        await sim.tick()
    assert await sim.weight() == 5
    assert conditions((await sim.rollout())["status"])["Accepted"] == ("False", "CheckpointTooNew")


async def test_an_unreadable_checkpoint_goes_back_to_what_the_cluster_shows() -> None:
    sim = await releasing()
    await sim.api.merge_patch(CONFIGMAPS, NAMESPACE, names.checkpoint(NAME), {"data": {"checkpoint.json": "{"}})
    sim.boot()
    await sim.tick()
    assert await sim.weight() == 0
    assert "CheckpointUnreadable" in await sim.events()
    assert (await sim.ended())["outcome"] == "Succeeded"


# -- faults ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", FAULT_POINTS)
async def test_a_crash_at_any_point_of_a_good_release_repeats_nothing_that_matters(point: str) -> None:
    sim = await Simulation().adopted()
    await sim.release("v2")
    crashes = 0
    for tick in range(900):
        if tick % 45 == 0:
            sim.crash_at = point
        before = len(sim.passed)
        await sim.tick()
        crashes += point in sim.passed[before:] and not sim.crash_at
        status = (await sim.rollout()).get("status", {})
        if status.get("history"):
            break
    sim.crash_at = ""
    assert crashes
    assert status["history"][-1]["outcome"] == "Succeeded"
    entries = await sim.evidence(status["history"][-1]["run"])
    assert [item["step"] for item in entries if item["kind"] == "StepEntered"] == [1, 2, 3, 4, 5]
    assert first_difference(entries) is None
    times = [item["at"] for item in entries if item["kind"] in ("StepEntered", "WeightRestored")]
    assert all(later >= earlier for earlier, later in pairwise(times))


@pytest.mark.parametrize("point", FAULT_POINTS)
async def test_a_crash_at_any_point_of_a_rollback_still_ends_at_zero(point: str) -> None:
    sim = await releasing(10)
    sim.traffic.errors = 0.5
    sim.crash_at = point
    entry = await sim.ended()
    assert entry["outcome"] == "RolledBack"
    assert await sim.weight() == 0


async def test_weight_zero_is_written_though_everything_else_fails() -> None:
    sim = await releasing(10)

    async def only_routes(call: Call) -> None:
        if call.verb in ("create", "merge_patch", "json_patch", "replace", "delete") and call.resource != HTTPROUTES:
            raise Unavailable("injected")

    sim.traffic.errors = 0.5
    sim.fault = only_routes
    for _ in range(6):
        await sim.tick()
    assert await sim.weight() == 0
    sim.fault = None
    assert (await sim.ended())["outcome"] == "RolledBack"


async def test_the_way_down_waits_for_no_other_write_of_its_pass() -> None:
    sim = await releasing(10)

    async def services_fail(call: Call) -> None:
        if call.resource is SERVICES and call.verb not in ("get", "list"):
            raise Unavailable("injected")

    route = await sim.api.get(HTTPROUTES, NAMESPACE, NAME)
    assert route is not None
    for backend, weight in zip(route["spec"]["rules"][0]["backendRefs"], (20, 80), strict=True):
        backend["weight"] = weight
    await sim.api.merge_patch(HTTPROUTES, NAMESPACE, NAME, {"spec": route["spec"]})
    await sim.api.delete(SERVICES, NAMESPACE, names.stable_service(NAME))
    sim.fault = services_fail
    assert isinstance(await sim.tick(), Unavailable)
    assert await sim.weight() == 10


async def test_a_decided_rollback_is_written_before_anything_is_read() -> None:
    sim = await releasing(10)
    failing = True

    async def routes_fail(call: Call) -> None:
        if failing and call.verb == "merge_patch" and call.resource == HTTPROUTES:
            raise Unavailable("injected")

    sim.traffic.errors = 0.5
    sim.fault = routes_fail
    for _ in range(5):
        await sim.tick()
    assert await sim.weight() == 10
    failing = False

    async def nothing_can_be_read(call: Call) -> None:
        if call.verb in ("get", "list"):
            raise Unavailable("injected")

    sim.fault = nothing_can_be_read
    sim.traffic.errors = 0.0
    assert isinstance(await sim.tick(), Unavailable)
    sim.fault = None
    assert await sim.weight() == 0


async def test_a_raise_is_announced_in_the_checkpoint_before_it_is_on_the_route() -> None:
    sim = await releasing()
    announced: list[tuple[int, int]] = []

    async def look(call: Call) -> None:
        if call.resource is HTTPROUTES and call.verb == "merge_patch" and "resourceVersion" in call.body["metadata"]:
            weight = call.body["spec"]["rules"][0]["backendRefs"][1]["weight"]
            announced.append((weight, (await sim.checkpoint())["intent"]))

    sim.fault = look
    assert (await sim.ended())["outcome"] == "Succeeded"
    assert announced == [(weight, weight) for weight in (10, 25, 50, 100)]


async def test_an_upward_write_is_lost_to_somebody_who_was_faster() -> None:
    sim = await releasing()
    once = True

    async def conflict(call: Call) -> None:
        nonlocal once
        if once and call.resource == HTTPROUTES and call.verb == "merge_patch" and "resourceVersion" in call.body["metadata"]:
            once = False
            raise Conflict("injected")

    sim.fault = conflict
    while once:
        await sim.tick()
    assert (await sim.weight(), (await sim.rollout())["status"]["run"]["weight"]) == (5, 5)
    assert (await sim.ended())["outcome"] == "Succeeded"
    assert "RouteRepaired" not in await sim.events()
    assert sim.weights == [0, 5, 10, 25, 50, 100, 0]


async def test_prometheus_gone_holds_and_says_so() -> None:
    sim = await releasing(10)
    sim.traffic.missing = {"*": Missing.SOURCE_DOWN}
    for _ in range(60):
        await sim.tick()
    status = (await sim.rollout())["status"]
    assert (status["run"]["weight"], status["reason"]) == (10, "SourceDown")
    sim.traffic.missing = {}
    assert (await sim.ended())["outcome"] == "Succeeded"


async def test_a_clock_that_is_set_back_holds_nothing_up_and_hides_nothing() -> None:
    sim = await Simulation().adopted()
    await sim.release("v2")
    await sim.tick()
    sim.now -= 3600
    await sim.until(lambda status: (status.get("run") or {}).get("weight") == 5, limit=30)
    await sim.until(lambda status: (status.get("run") or {}).get("weight") == 10, limit=30)
    sim.now -= 3600
    sim.traffic.errors = 0.5
    for _ in range(10):
        await sim.tick()
    assert await sim.weight() == 0


async def test_an_unreadable_checkpoint_is_told_after_the_weight_is_down() -> None:
    sim = await releasing(25)
    await sim.api.merge_patch(CONFIGMAPS, NAMESPACE, names.checkpoint(NAME), {"data": {"checkpoint.json": "{"}})
    sim.boot()

    async def no_events(call: Call) -> None:
        if call.resource == EVENTS:
            assert await sim.weight() == 0

    sim.fault = no_events
    await sim.tick()
    assert await sim.weight() == 0
    assert "CheckpointUnreadable" in await sim.events()


# -- foreign hands --------------------------------------------------------------------------------------------------------


async def test_foreign_edits_are_repaired_and_reported() -> None:
    sim = await Simulation().adopted()
    (revision,) = await sim.stables()
    stable = names.stable_deployment(NAME, revision)
    change = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "evil:1"}]
    await sim.api.json_patch(DEPLOYMENTS, NAMESPACE, stable, change)
    await sim.api.merge_patch(SERVICES, NAMESPACE, names.stable_service(NAME), {"spec": {"selector": {"evil": "yes"}}})
    await sim.api.merge_patch(CONFIGMAPS, NAMESPACE, names.settings(NAME), {"data": {"settings.json": "{}"}})
    await sim.api.json_patch(HTTPROUTES, NAMESPACE, NAME, [{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 70}])
    await sim.tick()
    await sim.tick()
    body = await sim.api.get(DEPLOYMENTS, NAMESPACE, stable)
    service = await sim.api.get(SERVICES, NAMESPACE, names.stable_service(NAME))
    settings = await sim.api.get(CONFIGMAPS, NAMESPACE, names.settings(NAME))
    assert body is not None
    assert service is not None
    assert settings is not None
    assert body["spec"]["template"]["spec"]["containers"][0]["image"] == "model:v1"
    assert "evil" not in service["spec"]["selector"]
    assert json.loads(settings["data"]["settings.json"])["tracks"]["stable"]["revision"] == revision
    assert await sim.weight() == 0
    assert {"StableRepaired", "RouteRepaired"} <= set(await sim.events())


async def _edit_weight(sim: Simulation, weight: int) -> None:
    path = "/spec/rules/0/backendRefs/1/weight"
    await sim.api.json_patch(HTTPROUTES, NAMESPACE, NAME, [{"op": "replace", "path": path, "value": weight}])


async def test_no_sample_from_before_a_lower_weight_was_written_allows_a_rise() -> None:
    sim = await releasing(10)

    async def slow_write(call: Call) -> None:
        if call.resource is HTTPROUTES and call.verb == "merge_patch":
            sim.now += 3

    await _edit_weight(sim, 80)
    sim.fault = slow_write
    await sim.tick()
    assert await sim.weight() == 10
    assert (await sim.checkpoint())["run"]["proofSince"] == sim.now


async def test_a_lower_weight_that_was_written_without_an_answer_counts_from_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    sim = await releasing(10)
    merge_patch = sim.api.merge_patch

    async def lost(resource: Resource, *arguments: Any, **named: Any) -> Object:
        answer = await merge_patch(resource, *arguments, **named)
        if resource is HTTPROUTES:
            raise Unavailable("the answer was lost")
        return answer

    await _edit_weight(sim, 80)
    with monkeypatch.context() as patch:
        patch.setattr(sim.api, "merge_patch", lost)
        assert isinstance(await sim.tick(), Unavailable)
    assert await sim.weight() == 10
    await sim.tick(7.0)
    assert (await sim.checkpoint())["run"]["proofSince"] == sim.now


async def test_a_deleted_route_comes_back_at_zero_and_the_step_is_earned_again() -> None:
    sim = await releasing(25)
    await sim.api.delete(HTTPROUTES, NAMESPACE, NAME)
    await sim.tick()
    assert await sim.weight() == 0
    assert (await sim.ended())["outcome"] == "Succeeded"


async def test_deletion_in_mid_run_leaves_stable_at_full_weight_and_recreation_adopts_it() -> None:
    sim = await releasing(25)
    stables = await sim.stables()
    await sim.api.delete(ROLLOUTS, NAMESPACE, NAME)
    sim.controllers()
    assert await sim.reconciler.reconcile(KEY) is None
    assert await sim.weight() == 0
    assert await sim.stables() == stables
    await sim.apply()
    await sim.until(lambda status: bool(status.get("stable")))
    assert await sim.stables() == stables
    assert (await sim.ended())["outcome"] == "Succeeded"


async def test_abort_and_retry_by_annotation() -> None:
    sim = await releasing(10)
    run = (await sim.rollout())["status"]["run"]["id"]
    await sim.annotate(names.ABORT, run)
    entry = await sim.ended()
    assert entry["outcome"] == "Aborted"
    for _ in range(40):
        await sim.tick()
    assert (await sim.rollout())["status"].get("run") is None
    await sim.annotate(names.RETRY, run)
    entry = await sim.ended()
    assert entry["outcome"] == "Succeeded"
    assert entry["run"] != run


async def test_evidence_of_only_the_last_runs_is_kept() -> None:
    sim = await Simulation(spec={"plan": {"steps": [{"weight": 100, "durationSeconds": 1}]}}).adopted()
    for version in range(2, 9):
        await sim.release(f"v{version}")
        await sim.ended()
    found = await sim.api.list(CONFIGMAPS, NAMESPACE, label_exists=names.RUN)
    assert len({body["metadata"]["labels"][names.RUN] for body in found}) <= 6
    assert len((await sim.rollout())["status"]["history"]) == 7


async def test_a_crash_looping_pod_ends_the_run() -> None:
    sim = await releasing()
    sim.crash_looping = True
    entry = await sim.ended()
    assert entry["reason"] == "CandidateCrashLooping"


@pytest.mark.parametrize("asked", ["abort", "mode"])
async def test_an_ending_that_people_ask_for_waits_for_no_sample(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sim = await releasing(10)

    async def hang(request: ReadRequest) -> Reading:
        raise AssertionError("Prometheus was asked")

    monkeypatch.setattr(sim, "read", hang)
    if asked == "abort":
        await sim.annotate(names.ABORT, (await sim.rollout())["status"]["run"]["id"])
    else:
        await sim.api.merge_patch(ROLLOUTS, NAMESPACE, NAME, {"spec": {"mode": "Observe"}})
    await sim.tick()
    assert await sim.weight() == 0
    entry = await sim.ended()
    assert (entry["outcome"], entry["reason"]) == ("Aborted", "AbortRequested" if asked == "abort" else "ModeChanged")


async def test_an_observed_release_is_told_in_status_and_event() -> None:
    sim = await Simulation(spec={"mode": "Observe"}).adopted()
    await sim.release("v2")
    status = await sim.until(lambda status: (status.get("run") or {}).get("virtualWeight") == 25)
    assert (status["summary"], status["run"]["mode"], status["run"]["weight"]) == ("Observing", "Observe", 0)
    entry = await sim.ended()
    assert (entry["outcome"], entry["reason"]) == ("Observed", "WouldPromote")
    assert entry["message"].startswith("would have been promoted after ")
    assert set(sim.weights) == {0}
    assert "Observed" in await sim.events()
    released = next(item for item in (await sim.rollout())["status"]["conditions"] if item["type"] == "Released")
    assert (released["status"], released["reason"]) == ("False", "Observed")
    assert entry["message"] in released["message"]


async def test_a_refused_write_is_told_and_keeps_nothing_from_being_judged() -> None:
    sim = await releasing(10)
    await sim.api.merge_patch(DEPLOYMENTS, NAMESPACE, NAME, {"spec": {"replicas": 1}}, subresource="scale")

    async def no_scaling(call: Call) -> None:
        if call.subresource == "scale":
            raise Forbidden("deployments/scale: not allowed by a quota")

    sim.fault = no_scaling
    await sim.tick()
    status = (await sim.rollout())["status"]
    assert status["reason"] == "WriteRefused"
    assert "not allowed by a quota" in next(item["message"] for item in status["conditions"] if item["type"] == "Progressing")
    assert "WriteRefused" in await sim.events()
    sim.api.before = no_scaling
    assert await sim.reconciler.reconcile(KEY) == 1.0  # no backoff: the next look is due at the usual time
    sim.traffic.errors = 0.5
    for _ in range(5):
        await sim.tick()
    assert await sim.weight() == 0


async def test_a_lost_template_is_told() -> None:
    sim = await releasing(10)
    (stable,) = await sim.stables()
    await sim.api.delete(DEPLOYMENTS, NAMESPACE, names.stable_deployment(NAME, stable))
    for body in await sim.api.list(REPLICASETS, NAMESPACE):
        if body["metadata"]["labels"].get(names.HASH) == stable or body["metadata"]["labels"].get(names.TRACK) == "stable":
            await sim.api.delete(REPLICASETS, NAMESPACE, body["metadata"]["name"])
    await sim.tick()
    status = (await sim.rollout())["status"]
    assert status["reason"] == "WriteRefused"
    assert "raise revisionHistoryLimit of the target" in next(
        item["message"] for item in status["conditions"] if item["type"] == "Progressing"
    )
