"""The model side on a real cluster: what its image weighs, how soon it is ready, and what a reload, a drain and a release cost clients."""

from __future__ import annotations

import json
import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from examples import lab
from examples.lab import ModelService
from tests.e2e.conftest import Services, check_end, check_evidence, no_client_error, quick_spec
from tests.e2e.disturb import is_ready, kill_processes, node, stable_pods

RATE = 200
"""Requests a second of clients; each is copied to the other track during a release."""
MOST_BYTES = 500_000_000
READY_SECONDS = 30
RELOAD_SECONDS = 5
HOLD_SECONDS = 4


def test_the_image_is_small() -> None:
    assert int(lab.run("docker", "image", "inspect", "--format", "{{.Size}}", "kanarya/inference:dev")) < MOST_BYTES


@pytest.mark.alone  # so many requests, and six pods that read models: beside another test answers wait seconds for a core
def test_a_reload_a_drain_and_a_release_fail_no_request(service: Services) -> None:
    found = service(spec=quick_spec(10, 50, 100))
    found.release("v1.8.0")
    found.wait_ready()
    for pod in stable_pods(found):
        assert seconds_to_ready(pod) <= READY_SECONDS, pod["status"]["conditions"]
    found.start_load(rate=RATE)
    every = json.loads(lab.kubectl("get", "pods", "-A", "-o", "json"))["items"]
    # Such a pod gets no core for seconds while others start; the load and kube-proxy were, and answers in time were called late.
    assert not [pod["metadata"]["name"] for pod in every if pod["status"]["qosClass"] == "BestEffort"]
    host = node()
    for pod in stable_pods(found):
        kill_processes(host, "kanarya-ml serve", pod_uid=pod["metadata"]["uid"], signal="HUP")
    lab.eventually(
        lambda: all(activations(found, pod) == 2 for pod in stable_pods(found)), "both pods have read their model again", RELOAD_SECONDS + 2
    )
    no_client_error(found)
    lab.kubectl("delete", "pod", "-n", found.namespace, stable_pods(found)[0]["metadata"]["name"], "--wait=true")
    lab.eventually(lambda: sum(is_ready(pod) for pod in stable_pods(found)) == 2, "two stable pods ready again", 60)
    no_client_error(found)
    found.release("v1.8.1")
    check_end(found, "Succeeded", "Promoted")
    no_client_error(found)


def test_a_candidate_without_a_passing_offline_report_gets_no_weight(service: Services, laboratory: Path, tmp_path: Path) -> None:
    models = shutil.copytree(laboratory, tmp_path / "models")
    pass_report(models / "v1.8.2")
    found = service(models=models, spec=quick_spec(10, 100, analysis={"offlineReport": "Required"}))
    found.release("v1.8.0")
    found.wait_ready()
    found.start_load()
    found.release("v1.8.1")
    found.wait(lambda status: status.get("reason") == "OfflineReportMissing", "the reason OfflineReportMissing", 120)
    progressing = next(entry for entry in found.status()["conditions"] if entry["type"] == "Progressing")
    assert "model v1.8.1 has no offline report" in progressing["message"]
    end = time.monotonic() + HOLD_SECONDS
    while time.monotonic() < end:
        assert found.weight() == 0
        time.sleep(1)
    assert set(found.stats()["by_version"]) == {"v1.8.0"}
    found.release("v1.8.2")
    entry = found.wait_outcome(2)
    assert (entry["outcome"], entry["version"]) == ("Succeeded", "v1.8.2")
    started = check_evidence(found, entry["run"])[0]
    assert (started["offlineReport"]["verdict"], started["offlineReport"]["version"]) == ("PASS", "v1.8.2")
    assert "v1.8.1" not in found.stats()["by_version"]
    no_client_error(found)


def pass_report(folder: Path) -> None:
    """Write the report of a model that passed beside it, as `kanarya-ml registry add --report` does."""
    metadata = json.loads((folder / "metadata.json").read_text())
    report = {"version": metadata["version"], "modelSha256": metadata["sha256"]["model.onnx"], "verdict": "PASS"}
    (folder / "offline_report.json").write_text(json.dumps(report))


def activations(service: ModelService, pod: dict[str, Any]) -> int:
    """Count how often a model server says that it made a model active."""
    log = lab.kubectl("logs", "-n", service.namespace, pod["metadata"]["name"])
    return sum(
        '"event":"model_change"' in line.replace(" ", "") and '"action":"activate"' in line.replace(" ", "") for line in log.splitlines()
    )


def seconds_to_ready(pod: dict[str, Any]) -> float:
    """Give the seconds from the container's start to the pod's readiness."""
    (container,) = pod["status"]["containerStatuses"]
    ready = next(item["lastTransitionTime"] for item in pod["status"]["conditions"] if item["type"] == "Ready")
    return (_time(ready) - _time(container["state"]["running"]["startedAt"])).total_seconds()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
