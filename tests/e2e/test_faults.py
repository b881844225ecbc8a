"""What a user is promised while parts of the system fail."""

from __future__ import annotations

import time
from datetime import datetime
from itertools import pairwise

import pytest

from examples import lab
from examples.lab import get
from tests.e2e.conftest import Serving, check_evidence, no_client_error
from tests.e2e.disturb import kill_processes, node, prometheus_away

pytestmark = pytest.mark.alone


def kill_operator() -> None:
    """End the operator with SIGKILL, from the node: nothing in the pod gets to say goodbye."""
    before = restarts()
    kill_processes(node(), "kanarya operator --config")
    lab.eventually(lambda: restarts() > before, "a restarted operator", 90)
    lab.kubectl("rollout", "status", "-n", lab.OPERATOR_NAMESPACE, "deployment/kanarya", "--timeout=60s")


def started() -> float:
    """Give when the operator's container began, in epoch seconds; the process began later still."""
    (pod,) = get(lab.OPERATOR_NAMESPACE, "pods", "-l", "app.kubernetes.io/name=kanarya")["items"]
    (state,) = pod["status"]["containerStatuses"]
    return datetime.fromisoformat(state["state"]["running"]["startedAt"]).timestamp()


def restarts() -> int:
    items = get(lab.OPERATOR_NAMESPACE, "pods", "-l", "app.kubernetes.io/name=kanarya")["items"]
    return sum(state["restartCount"] for pod in items for state in pod.get("status", {}).get("containerStatuses", []))


def test_the_operator_killed_in_mid_step_loses_and_repeats_nothing(serving: Serving) -> None:
    service = serving()
    service.release("v1.8.1")
    restarted: list[float] = []
    for weight in (10, 50):
        service.wait_weight(weight)
        time.sleep(2)
        kill_operator()
        restarted.append(started())
    entry = service.wait_outcome(1, 300)
    assert entry["outcome"] == "Succeeded"
    entries = check_evidence(service, entry["run"])
    entered = [(item["step"], item["at"]) for item in entries if item["kind"] == "StepEntered"]
    assert [step for step, _ in entered] == [1, 2, 3, 4, 5]
    assert all(later - earlier >= 8 for (_, earlier), (_, later) in pairwise(entered))
    rises = [item for item in entries if item["kind"] == "Decision" and item["decision"] == "Advance"]
    for moment in restarted:
        after = next(item for item in rises if float(item["at"]) > moment)
        assert float(after["newestSample"]) > moment, after
    no_client_error(service)


def test_prometheus_gone_for_a_minute_holds_and_goes_on(serving: Serving) -> None:
    service = serving()
    service.release("v1.8.1")
    service.wait_weight(10)
    with prometheus_away():
        service.wait(lambda status: status.get("reason") == "SourceDown", "the reason SourceDown", 60)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            assert service.weight() <= 25
            assert not service.status().get("history")
            time.sleep(2)
        held = service.weight()
        assert service.status()["reason"] == "SourceDown"
    assert service.weight() == held
    entry = service.wait_outcome()
    assert entry["outcome"] == "Succeeded"
    check_evidence(service, entry["run"])
    no_client_error(service)
