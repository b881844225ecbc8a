"""Silence is never success: no traffic, no series, no Prometheus."""

from __future__ import annotations

import time

import pytest

from examples import lab
from tests.e2e.conftest import Services, Serving, check_end, no_client_error, quick_spec, weights_entered
from tests.e2e.disturb import prometheus_away


def policy(name: str, seconds: int) -> dict[str, object]:
    return {"missingData": {name: {"action": "Rollback", "afterSeconds": seconds}}}


def test_without_traffic_a_run_holds_until_there_is_some(service: Services) -> None:
    found = service(spec=quick_spec())
    found.release("v1.8.0")
    found.wait_ready()
    found.release("v1.8.1")
    found.wait_weight(10)
    found.wait(lambda status: status.get("reason") == "NoTraffic", "the reason NoTraffic", 60)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        assert found.weight() == 10
        assert found.condition("Promotable") == ("False", "NoTraffic")
        time.sleep(1)
    found.start_load()
    entries = check_end(found, "Succeeded", "Promoted")
    assert weights_entered(entries) == [10, 50, 100]
    no_client_error(found)


def test_a_candidate_that_nobody_measures_is_taken_back(serving: Serving) -> None:
    service = serving(spec=quick_spec(analysis=policy("noSeries", 10)))
    service.release("v1.8.1")
    service.wait_weight(10)
    # The pods alone: a change of their template would make new ones.
    routers = lab.get(service.namespace, "pods", "-l", "app.kubernetes.io/component=router")["items"]
    names = [f"pod/{pod['metadata']['name']}" for pod in routers]
    lab.kubectl("annotate", "-n", service.namespace, *names, "prometheus.io/scrape=false", "--overwrite")
    entry = service.wait_outcome()
    assert entry["reason"] in ("NoSeries", "StaleSamples")
    entries = check_end(service, "RolledBack", entry["reason"])
    assert max(weights_entered(entries)) < 100
    assert "missingData.noSeries allows 10 s" in dict(service.events())["RollingBack"]
    no_client_error(service)


@pytest.mark.alone
def test_without_prometheus_a_candidate_is_taken_back_when_its_policy_says_so(serving: Serving) -> None:
    service = serving(spec=quick_spec(analysis=policy("sourceDown", 20)))
    service.release("v1.8.1")
    service.wait_weight(10)
    with prometheus_away():
        entries = check_end(service, "RolledBack", "SourceDown")
    assert max(weights_entered(entries)) < 100
    assert "missingData.sourceDown allows 20 s" in dict(service.events())["RollingBack"]
    no_client_error(service)
