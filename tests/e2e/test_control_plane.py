"""The API server away, and the whole node."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from examples import lab
from examples.lab import ModelService, steps
from tests.e2e.conftest import Serving, check_end, no_client_error, quick_spec, weights_entered
from tests.e2e.disturb import api_server_away, candidate_pods, kill_processes, node, restart_node, wait_for_names

pytestmark = pytest.mark.alone

AWAY_SECONDS = 90.0
LOWERED_SECONDS = 16.0
"""From the API server's return to weight 0: a call that was under way may last its 10 s, then one retry and one tick."""


@pytest.fixture(autouse=True)
def names_known(turn: None) -> Iterator[None]:
    """Let no other test begin before new Services have names again."""
    yield
    wait_for_names()


def long_first_step(seconds: int) -> dict[str, object]:
    """Give a spec whose first step is still on when something happens to it."""
    return quick_spec(plan={"steps": [*steps(10, seconds=seconds), *steps(100, seconds=5)]})


def test_an_api_server_away_for_90_s_stops_no_answer_and_no_verdict(serving: Serving) -> None:
    good = serving(spec=long_first_step(60))
    bad = serving(spec=long_first_step(60), namespace=f"{good.namespace}-bad")
    for service in (good, bad):
        service.release("v1.8.1")
    for service in (good, bad):
        service.wait_weight(10)
    host = node()
    uids = [pod["metadata"]["uid"] for pod in candidate_pods(bad)]
    with api_server_away(host):
        end = time.monotonic() + AWAY_SECONDS
        while time.monotonic() < end:
            for uid in uids:
                kill_processes(host, "kanarya-ml serve", pod_uid=uid)
            time.sleep(2)
        away_until = time.time()
    back = time.time()
    lab.eventually(lambda: bad.weight() == 0, "weight 0 of the candidate that turned bad", LOWERED_SECONDS, pause=0.1)
    print(f"weight 0 after {time.time() - back:.1f} s")
    assert good.weight() in (10, 100)
    entry = bad.wait_outcome(1, 30)
    assert entry["reason"] in ("CandidateCrashLooping", "CandidateRestarting", "ErrorsAboveAbort"), entry
    check_end(bad, "RolledBack", entry["reason"])
    entries = check_end(good, "Succeeded", "Promoted")
    assert weights_entered(entries) == [10, 100]
    # Not later than `back`: the operator may find the API server before this test does.
    assert next(item["at"] for item in entries if item["kind"] == "StepEntered" and item["weight"] == 100) > away_until
    no_client_error(good)
    # With the API server away nobody marks the starting candidate unready: it says so itself.
    no_client_error(bad)


def test_a_restarted_node_brings_everything_back_by_itself(serving: Serving) -> None:
    service = serving(spec=long_first_step(30))
    service.release("v1.8.1")
    service.wait_weight(10)
    restart_node(node())
    lab.eventually(lambda: answers(service), "answers again", 120)
    service.reset_load()
    entries = check_end(service, "Succeeded", "Promoted")
    assert weights_entered(entries) == [10, 100]
    no_client_error(service)


def answers(service: ModelService) -> bool:
    """Tell whether the load, which the restart ended too, has been answered without an error for some seconds."""
    try:
        service.reset_load()
        time.sleep(5)
        stats = service.stats()
    except (lab.CommandFailed, ValueError):
        return False
    return stats["answered"] > 100 and not stats["error_count"]
