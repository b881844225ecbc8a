"""Candidates that answer every request, and still must not pass."""

from __future__ import annotations

import time

from tests.e2e.conftest import Serving, check_end, no_client_error, quick_spec, weights_entered
from tests.e2e.replaying import check_replay

HOLD_SECONDS = 10


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
