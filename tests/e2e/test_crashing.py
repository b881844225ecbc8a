"""Candidates whose processes do not stay up: taken back at once, whatever the metrics say."""

from __future__ import annotations

from examples import lab
from tests.e2e.conftest import Serving, check_end, no_client_error, quick_spec, weights_entered
from tests.e2e.disturb import candidate_pods, kill_processes, node


def test_a_candidate_that_does_not_start_is_taken_back(serving: Serving) -> None:
    service = serving(spec=quick_spec())
    # A share above 1: the model server says so and ends with 2.
    service.release("v1.8.1", "--fault-error-rate", "7")
    entries = check_end(service, "RolledBack", "CandidateCrashLooping")
    assert weights_entered(entries) == []
    decision = next(item for item in entries if item.get("decision") == "Rollback")
    assert decision["counts"]["candidate"]["live"]["requests"] == 0
    lab.eventually(lambda: not candidate_pods(service), "the candidate's pods gone", 60)
    no_client_error(service)


def test_a_candidate_that_crashes_at_full_weight_is_taken_back(serving: Serving) -> None:
    # Only its restarts speak against it: with such limits nothing short of hours of nothing but failures is bad.
    service = serving(spec=quick_spec(100, seconds=60, analysis={"errors": {"slo": 0.998, "abort": 0.9999}}))
    service.release("v1.8.1")
    service.wait_weight(100)
    host = node()
    for pod in candidate_pods(service):
        kill_processes(host, "kanarya-ml serve", pod_uid=pod["metadata"]["uid"])
    entries = check_end(service, "RolledBack", "CandidateRestarting", seconds=60)
    assert weights_entered(entries) == [100]
    verdicts = next(item["verdicts"] for item in entries if item.get("decision") == "Rollback")
    assert verdicts["errors"]["verdict"] != "Bad", verdicts
    # Meanwhile stable answered everything that could not be sent to the candidate.
    no_client_error(service)
