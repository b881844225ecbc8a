"""Whole passes over a simulated cluster: releases, refusals, what people ask for."""

from __future__ import annotations

import json

import jsonschema
import pytest

from kanarya.cluster import names
from kanarya.cluster.fake import Call
from kanarya.cluster.port import (
    CONFIGMAPS,
    DEPLOYMENTS,
    REPLICASETS,
    ROLLOUTS,
    SERVICES,
    Forbidden,
)
from kanarya.controller.reconcile import REFUSED_SECONDS, RESYNC_SECONDS
from kanarya.decision.counts import Reading
from kanarya.decision.replay import first_difference
from kanarya.decision.schema import evidence_schema
from kanarya.telemetry.request import ReadRequest
from tests.unit.controller.simulation import KEY, NAME, NAMESPACE, Simulation, conditions, releasing, template
from tests.unit.decision.play import Traffic


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
    sim.waiting = "CrashLoopBackOff"
    entry = await sim.ended()
    assert entry["reason"] == "CandidateCrashLooping"


async def test_a_pod_that_does_not_start_is_told_with_its_reason() -> None:
    sim = await Simulation().adopted()
    sim.ready, sim.waiting = False, "ImagePullBackOff"
    await sim.release("v2")
    await sim.until(lambda status: bool(status.get("run")))
    for _ in range(10):
        await sim.tick()
    status = (await sim.rollout())["status"]
    (message,) = [item["message"] for item in status["conditions"] if item["type"] == "Progressing"]
    assert "0 of 2 candidate pods are ready (fraud-" in message
    assert ": ImagePullBackOff)" in message


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


async def test_a_refused_write_is_tried_again_soon_though_nothing_else_is_due() -> None:
    sim = await Simulation().adopted()
    for _ in range(60):
        await sim.tick()
    assert await sim.reconciler.reconcile(KEY) == RESYNC_SECONDS

    async def refused(call: Call) -> None:
        if call.verb != "get" and call.resource == SERVICES:
            raise Forbidden("services: not allowed")

    await sim.api.merge_patch(SERVICES, NAMESPACE, names.stable_service(NAME), {"spec": {"selector": {"app": "other"}}})
    sim.api.before = refused
    assert await sim.reconciler.reconcile(KEY) == REFUSED_SECONDS


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
