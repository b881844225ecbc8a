"""`mode: Observe` on a real cluster: no live request for the candidate, and the same verdicts."""

from __future__ import annotations

import json
from collections.abc import Callable

from examples import lab
from examples.lab import ModelService
from kanarya.cli.report import report
from tests.e2e.conftest import check_evidence, no_client_error, quick_spec

Serving = Callable[..., ModelService]


def observing(serving: Serving) -> ModelService:
    return serving(spec=quick_spec(5, 10, 25, 50, 100, mode="Observe"))


def only_stable_answered(service: ModelService) -> None:
    assert set(service.stats()["by_version"]) == {"v1.8.0"}
    assert service.weight() == 0
    no_client_error(service)


def test_observe_walks_through_the_plan_without_a_live_request_and_live_follows(serving: Serving) -> None:
    service = observing(serving)
    service.release("v1.8.1")
    service.wait(lambda status: (status.get("run") or {}).get("virtualWeight") == 25, "the virtual weight 25", 120)
    assert service.weight() == 0
    entry = service.wait_outcome()
    assert (entry["outcome"], entry["reason"]) == ("Observed", "WouldPromote")
    only_stable_answered(service)
    entries = check_evidence(service, entry["run"])
    assert [item["virtualWeight"] for item in entries if item["kind"] == "StepEntered"] == [5, 10, 25, 50, 100]
    assert "would promote" in report(entries)
    lab.kubectl("patch", "-n", service.namespace, "mlr", service.name, "--type=merge", "-p", json.dumps({"spec": {"mode": "Live"}}))
    entry = service.wait_outcome(2)
    assert (entry["outcome"], entry["version"]) == ("Succeeded", "v1.8.1")
    no_client_error(service)


def test_observe_says_at_which_step_it_would_have_taken_a_slow_candidate_back(serving: Serving) -> None:
    service = observing(serving)
    service.release("v1.8.1", "--fault-latency-ms", "1500")
    entry = service.wait_outcome()
    assert (entry["outcome"], entry["reason"]) == ("Observed", "LatencyAboveAbort")
    assert entry["message"].startswith("would have been rolled back at step 1 of 5, weight 5: ")
    only_stable_answered(service)
    assert "would roll back: LatencyAboveAbort" in report(check_evidence(service, entry["run"]))


def test_from_live_to_observe_in_mid_run_is_an_abort(serving: Serving) -> None:
    service = serving()
    service.release("v1.8.1")
    service.wait_weight(10)
    lab.kubectl("patch", "-n", service.namespace, "mlr", service.name, "--type=merge", "-p", json.dumps({"spec": {"mode": "Observe"}}))
    entry = service.wait_outcome(1, 30)
    assert (entry["outcome"], entry["reason"]) == ("Aborted", "ModeChanged")
    assert service.weight() == 0
    no_client_error(service)
