"""What a user is promised of a release, on a real cluster under constant load."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise

from examples import lab
from examples.lab import ModelService, get
from tests.e2e.conftest import check_evidence, no_client_error
from tests.e2e.replaying import check_replay

Serving = Callable[..., ModelService]


def test_a_good_candidate_takes_every_weight_and_is_promoted(serving: Serving) -> None:
    service = serving(spec=lab.short_spec())  # with the limits of errors that are there by default
    before = service.status()["stable"]["revision"]
    service.release("v1.8.1")
    seen: list[int] = []

    def watch() -> bool:
        weight = service.weight()
        if not seen or seen[-1] != weight:
            seen.append(weight)
        return bool(service.status().get("history"))

    lab.eventually(watch, "the end of the run", 240, pause=0.3)
    entry = service.status()["history"][-1]
    assert (entry["outcome"], entry["version"]) == ("Succeeded", "v1.8.1")
    assert [weight for weight in seen if weight] == [5, 10, 25, 50, 100]
    entries = check_evidence(service, entry["run"])
    assert [item["step"] for item in entries if item["kind"] == "StepEntered"] == [1, 2, 3, 4, 5]
    after = service.status()["stable"]
    assert after["version"] == "v1.8.1"
    assert after["revision"] != before

    def tidy() -> bool:
        deployments = {body["metadata"]["name"]: body["spec"].get("replicas") for body in get(service.namespace, "deploy")["items"]}
        return f"fraud-stable-{before}" not in deployments and deployments["fraud"] == 0

    check_replay(service, entries)
    lab.eventually(tidy, "old stable and target scaled down", 60)
    stable = get(service.namespace, "deploy", f"fraud-stable-{after['revision']}")
    assert stable["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/version"] == "v1.8.1"
    service.wait(lambda _: service.stats()["by_version"]["v1.8.1"]["last_at"] > stable_since(service), "answers by the new stable", 30)
    no_client_error(service)


def stable_since(service: ModelService) -> float:
    return float(service.evidence(service.status()["history"][-1]["run"])[-1]["entries"][-1]["at"])


def test_an_erroring_candidate_is_taken_back(serving: Serving) -> None:
    # Hardly any mirroring: the evidence has to come from live requests, whose errors clients see.
    spec = lab.short_spec()
    service = serving(spec={**spec, "traffic": {"mirrorPercent": 1}})
    service.release("v1.8.1", "--fault-control")
    service.wait_weight(5)
    service.switch_faults("v1.8.1", {"errorRate": 0.3})  # from the start on, even so few copies would keep it from this weight
    entry = service.wait_outcome()
    assert (entry["outcome"], entry["reason"]) == ("RolledBack", "ErrorsAboveAbort")
    assert service.weight() == 0
    assert service.condition("Ready") == ("True", "StableServes")
    entries = check_evidence(service, entry["run"])
    assert [item["weight"] for item in entries if item["kind"] == "StepEntered"] == [5]
    check_replay(service, entries)
    counts = next(item["counts"] for item in entries if item.get("decision") == "Rollback")
    stats = service.stats()
    # Clients saw the candidate's errors, and nothing else went wrong for them.
    assert set(stats["by_status"]) == {"200", "500"}, stats
    assert stats["error_count"] == stats["by_status"]["500"] >= counts["candidate"]["live"]["errors"], stats
    assert stats["error_count"] < 0.03 * stats["answered"], stats
    assert "v1.8.1" in stats["by_version"]
    reasons = {event["reason"] for event in get(service.namespace, "events.events.k8s.io")["items"]}
    assert {"RunStarted", "RollingBack", "RolledBack"} <= reasons
    lab.eventually(lambda: get(service.namespace, "deploy", "fraud")["spec"]["replicas"] == 0, "the candidate's pods gone", 60)
    before = service.stats()
    lab.eventually(lambda: service.stats()["answered"] > before["answered"] + 100, "more answers", 30)
    assert service.stats()["error_count"] == before["error_count"]


def test_a_candidate_that_fails_copies_never_gets_a_live_request(serving: Serving) -> None:
    service = serving()
    service.release("v1.8.1", "--fault-error-rate", "0.3")
    entry = service.wait_outcome()
    assert (entry["outcome"], entry["reason"]) == ("RolledBack", "ErrorsAboveAbort")
    entries = check_evidence(service, entry["run"])
    assert not [item for item in entries if item["kind"] == "StepEntered"]
    assert set(service.stats()["by_version"]) == {"v1.8.0"}
    no_client_error(service)


def test_a_newer_template_in_mid_run_waits_for_its_own_run(serving: Serving) -> None:
    service = serving()
    service.release("v1.8.1")
    service.wait_weight(10)
    service.release("v1.8.2")
    entry = service.wait_outcome()
    assert (entry["outcome"], entry["reason"], entry["version"]) == ("Superseded", "NewerRevision", "v1.8.1")
    status = service.wait_weight(5)
    assert status["run"]["version"] == "v1.8.2"
    service.wait(lambda _: "v1.8.2" in service.stats()["by_version"], "answers of the newer revision", 60)
    first_answer = service.stats()["by_version"]["v1.8.2"]["first_at"]
    run_id = status["run"]["id"]
    ended = next(item["at"] for item in check_evidence(service, entry["run"]) if item["kind"] == "RunEnded")
    entered = next(item["at"] for item in check_evidence(service, run_id) if item["kind"] == "StepEntered")
    assert ended < entered
    # The route is written just before the entry is made, and the clock of the load is the same node's.
    assert first_answer >= entered - 1.0
    no_client_error(service)


def test_deletion_and_recreation_never_interrupt_stable(serving: Serving) -> None:
    service = serving()
    stable = service.status()["stable"]["revision"]
    manifest = service.rollout()
    for junk in ("resourceVersion", "uid", "creationTimestamp", "generation", "managedFields"):
        manifest["metadata"].pop(junk, None)
    manifest.pop("status")
    lab.kubectl("delete", "-n", service.namespace, "mlr", "fraud")
    lab.apply(manifest)
    service.wait_ready()
    assert service.status()["stable"]["revision"] == stable
    service.release("v1.8.1")
    service.wait_weight(25)
    lab.kubectl("delete", "-n", service.namespace, "mlr", "fraud")
    lab.eventually(lambda: service.weight() == 0, "weight 0 after the deletion", 15)
    lab.apply(manifest)
    service.wait(lambda status: (status.get("stable") or {}).get("revision") == stable, "the same stable adopted", 60)
    entry = service.wait_outcome()
    assert entry["outcome"] == "Succeeded"
    check_evidence(service, entry["run"])
    no_client_error(service)


def test_adoption_of_a_running_deployment_without_a_client_error(service: Callable[..., ModelService]) -> None:
    found = service()
    # A team that has a Deployment and a Service, and clients on it, before it has heard of Kanarya.
    found.release("v1.8.0", rollout={"enabled": False})
    direct = {"app.kubernetes.io/component": "model", "app.kubernetes.io/instance": "fraud"}
    set_selector(found, direct)
    lab.kubectl("scale", "-n", found.namespace, "deploy/fraud", "--replicas=2")
    lab.kubectl("rollout", "status", "-n", found.namespace, "deploy/fraud", "--timeout=90s")
    found.start_load(wait_for_router=False)
    lab.apply(rollout_of(found))
    found.wait(lambda status: status.get("reason") == "ServiceSelectsTarget", "the refusal", 90)
    assert found.condition("Ready") == ("False", "ServiceSelectsTarget")
    assert get(found.namespace, "deploy", "fraud")["spec"]["replicas"] == 2
    # The router is ready before the Service is pointed at it.
    lab.kubectl("rollout", "status", "-n", found.namespace, "deploy/fraud-router", "--timeout=60s")
    set_selector(found, {"app.kubernetes.io/component": "router", "app.kubernetes.io/instance": "fraud"})
    found.wait_ready()
    lab.eventually(lambda: get(found.namespace, "deploy", "fraud")["spec"]["replicas"] == 0, "the target scaled down", 60)
    lab.eventually(lambda: len(pods(found)) == 4, "two stable pods and two routers left", 60)
    before = found.stats()["answered"]
    lab.eventually(lambda: found.stats()["answered"] > before + 100, "more answers", 30)
    no_client_error(found)


def pods(service: ModelService) -> list[str]:
    return [pod["metadata"]["name"] for pod in get(service.namespace, "pods", "-l", "app!=load")["items"]]


def set_selector(service: ModelService, selector: dict[str, str]) -> None:
    body = get(service.namespace, "service", "fraud")
    ports = [{**port, "targetPort": "http"} for port in body["spec"]["ports"]]
    patch = [{"op": "replace", "path": "/spec/selector", "value": selector}, {"op": "replace", "path": "/spec/ports", "value": ports}]
    lab.kubectl("patch", "-n", service.namespace, "service", "fraud", "--type=json", "-p", json.dumps(patch))


def rollout_of(service: ModelService) -> dict[str, object]:
    return {
        "apiVersion": "kanarya.dev/v1alpha1",
        "kind": "MLModelRollout",
        "metadata": {"name": "fraud", "namespace": service.namespace},
        "spec": {"targetRef": {"name": "fraud"}, "serviceRef": {"name": "fraud", "port": 80}, **service.spec},
    }


def test_abort_and_retry_by_annotation(serving: Serving) -> None:
    service = serving()
    service.release("v1.8.1")
    run_id = service.wait_weight(5)["run"]["id"]
    service.annotate("kanarya.dev/abort", run_id)
    entry = service.wait_outcome(1, 60)
    assert entry["outcome"] == "Aborted"
    assert service.weight() == 0
    service.annotate("kanarya.dev/retry", run_id)
    entry = service.wait_outcome(2)
    assert (entry["outcome"], entry["version"]) == ("Succeeded", "v1.8.1")
    steps = [item["at"] for item in check_evidence(service, entry["run"]) if item["kind"] == "StepEntered"]
    assert all(later - earlier >= 8 for earlier, later in pairwise(steps))
    no_client_error(service)
