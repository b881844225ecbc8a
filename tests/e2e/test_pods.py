"""Pods come and go during a run: killed at random, and the router's own restarted."""

from __future__ import annotations

import os
import random
import time
from typing import Any

from examples import lab
from examples.lab import ModelService
from tests.e2e.conftest import Serving, check_end, no_client_error, quick_spec, weights_entered
from tests.e2e.disturb import candidate_pods, is_ready, kill_processes, node, stable_pods

KILLS = 10


def test_pods_killed_at_random_change_no_outcome_and_no_answer(serving: Serving) -> None:
    # A killed pod costs its track a few attempts, which count, and come in a burst: they prolong a step, and end no run.
    service = serving(spec=quick_spec(10, 50, 100, seconds=10))
    seed = int(os.environ.get("KANARYA_SEED") or random.SystemRandom().randrange(10_000))
    print(f"KANARYA_SEED={seed}")
    chance, host = random.Random(seed), node()
    service.release("v1.8.1")
    service.wait(lambda status: bool(status.get("run")), "a run", 60)
    kills = 0
    while not service.status().get("history"):
        pods = spare(service) if kills < KILLS else []
        if pods:
            kill(chance, host, chance.choice(pods))
            kills += 1
        time.sleep(chance.uniform(1, 3))
    entries = check_end(service, "Succeeded", "Promoted")
    assert kills >= KILLS // 2
    assert weights_entered(entries) == [10, 50, 100]
    no_client_error(service)


def spare(service: ModelService) -> list[dict[str, Any]]:
    """List the pods of each revision of each track that is at full size: one of these may go without taking its track away."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for pod in (*candidate_pods(service), *stable_pods(service)):
        if is_ready(pod):
            labels = pod["metadata"]["labels"]
            groups.setdefault(labels.get("kanarya.dev/revision", "candidate"), []).append(pod)
    return [pod for pods in groups.values() if len(pods) >= 2 for pod in pods]


def kill(chance: random.Random, host: str, pod: dict[str, Any]) -> None:
    """End a pod without a warning: by deletion, or, for stable, by the end of its process.

    Two ends of a candidate's process in one step are its own fault by definition (`CandidateRestarting`).
    """
    metadata = pod["metadata"]
    if "kanarya.dev/track" in metadata["labels"] and chance.random() < 0.5:
        print(f"process of {metadata['name']}")
        kill_processes(host, "kanarya-ml serve", pod_uid=metadata["uid"])
    else:
        print(f"pod {metadata['name']}")
        lab.kubectl("delete", "-n", metadata["namespace"], "pod", metadata["name"], "--grace-period=0", "--force", "--wait=false")


def test_the_routers_pods_are_restarted_in_mid_run(serving: Serving) -> None:
    service = serving(spec=quick_spec(10, 50, 100, seconds=8))
    service.release("v1.8.1")
    for weight in (10, 50):
        service.wait_weight(weight)
        lab.kubectl("rollout", "restart", "-n", service.namespace, "deploy/fraud-router")
        lab.kubectl("rollout", "status", "-n", service.namespace, "deploy/fraud-router", "--timeout=90s")
    entries = check_end(service, "Succeeded", "Promoted")
    assert weights_entered(entries) == [10, 50, 100]
    no_client_error(service)
