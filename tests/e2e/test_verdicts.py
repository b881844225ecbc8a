"""Candidates that answer every request, and still must not pass."""

from __future__ import annotations

import re
import time

from examples import lab
from tests.e2e.conftest import Services, Serving, check_end, no_client_error, quick_spec, weights_entered
from tests.e2e.replaying import check_replay

HOLD_SECONDS = 10
FORECAST = re.compile(r"\d+ of about \d+ requests, about \d+ s at this rate")
HOLDING = {"noSeries": {"action": "Hold"}, "noTraffic": {"action": "Hold"}}


def test_a_slow_candidate_is_taken_back_at_the_first_weight(serving: Serving) -> None:
    service = serving(spec=quick_spec())
    service.release("v1.8.1", "--fault-latency-ms", "1500")
    # Preflight does not judge latency: pods that have just started are slow.
    service.wait_weight(10)
    entries = check_end(service, "RolledBack", "LatencyAboveAbort")
    assert weights_entered(entries) == [10]
    check_replay(service, entries)
    assert service.stats()["by_version"]["v1.8.1"]["count"] > 0
    no_client_error(service)


def test_a_disagreeing_candidate_never_gets_a_live_request(serving: Serving) -> None:
    service = serving(spec=quick_spec())
    service.release("v1.9.0")
    entries = check_end(service, "RolledBack", "MismatchesAboveAbort")
    assert weights_entered(entries) == []
    counts = next(item["counts"] for item in entries if item.get("decision") == "Rollback")
    assert counts["candidate"]["mirror"]["requests"] >= 3, counts
    assert counts["candidate"]["mirror"]["errors"] == 0, counts
    assert set(service.stats()["by_version"]) == {"v1.8.0"}
    no_client_error(service)


def test_drift_blocks_the_promotion_and_nothing_else(serving: Serving) -> None:
    service = serving(spec=quick_spec())
    service.release("v1.9.1")
    run_id = service.wait_weight(100)["run"]["id"]
    service.wait(lambda status: status.get("reason") == "DriftAboveLimit", "the reason DriftAboveLimit", 60)
    end = time.monotonic() + HOLD_SECONDS
    while time.monotonic() < end:
        status = service.status()
        assert status["run"]["weight"] == service.weight() == 100
        assert status["summary"] == "Progressing"
        assert service.condition("Promotable") == ("False", "DriftAboveLimit")
        time.sleep(1)
    service.annotate("kanarya.dev/abort", run_id)
    entries = check_end(service, "Aborted", "AbortRequested")
    assert weights_entered(entries) == [10, 50, 100]
    verdicts = next(item["verdicts"] for item in reversed(entries) if item["kind"] == "VerdictChanged" and item["weight"] == 100)
    assert {metric: verdict["verdict"] for metric, verdict in verdicts.items()} == {
        "errors": "Good",
        "latency": "Good",
        "match": "Good",
        "drift": "Bad",
    }
    no_client_error(service)


def progress_of(service: lab.ModelService) -> str:
    """Give the message of the condition Progressing."""
    return next(str(item["message"]) for item in service.status()["conditions"] if item["type"] == "Progressing")


def test_thin_traffic_holds_with_a_forecast_and_decides_when_more_comes(service: Services) -> None:
    # Next to no copies: two requests a second are all there is to judge by.
    found = service(spec=quick_spec(50, 100, analysis={"missingData": HOLDING}, traffic={"mirrorPercent": 10}))
    found.release("v1.8.0")
    found.wait_ready()
    found.start_load(rate=2)
    found.release("v1.8.1")
    found.wait_weight(50, 180)
    found.wait(lambda status: status.get("reason") == "TooFewSamples", "the reason TooFewSamples", 60)
    lab.eventually(lambda: FORECAST.search(progress_of(found)), "a forecast of when there are enough requests", 60)
    end = time.monotonic() + HOLD_SECONDS
    while time.monotonic() < end:
        assert found.weight() == 50
        time.sleep(1)
    stats = found.stats()
    assert (stats["error_count"], set(stats["by_status"])) == (0, {"200"}), stats
    lab.kubectl("delete", "pod", "-n", found.namespace, found.load, "--now")
    found.start_load(rate=80)
    entries = check_end(found, "Succeeded", "Promoted")
    assert weights_entered(entries) == [50, 100]
    no_client_error(found)
