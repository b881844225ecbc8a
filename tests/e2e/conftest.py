"""The cluster, the operator and the load that every end-to-end test uses; on failure, a dump of what is there."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from filelock import ReadWriteLock

from examples import lab
from kanarya.decision.replay import first_difference
from tests.cluster.settings import Settings

DUMPS = Path(os.environ.get("KANARYA_DUMPS", lab.ROOT / "build/out/dumps"))
SCHEMA = json.loads((lab.ROOT / "docs/reference/evidence-v1.schema.json").read_text(encoding="utf-8"))

Services = Callable[..., lab.ModelService]
"""Makes a model service."""
Serving = Callable[..., lab.ModelService]
"""Makes a model service that is adopted and under load."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that must be alone first: among others, each would wait for the ends of all that run, and keep the next ones from beginning."""
    here = Path(__file__).parent

    def turn_of(item: pytest.Item) -> int:
        ours = item.path.is_relative_to(here)  # `items` holds those of other folders, too: they keep their places before ours
        return (1 if item.get_closest_marker("alone") else 2) if ours else 0

    items.sort(key=turn_of)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if call.when == "call":
        item.stash[FAILED] = bool(report.failed)  # type: ignore[attr-defined]
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Say at once why a test failed: pytest's own account comes after the last test, half an hour later or never."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if report.failed and crash is not None:
        print(f"\n{report.nodeid} ({report.when}): {crash.message[:MOST_TOLD]}", flush=True)


MOST_TOLD = 2000
"""Characters of an error that are told at once."""
FAILED = pytest.StashKey[bool]()
TURN_SECONDS = 2400.0
"""The longest wait: for every test that is `alone`, one after another."""
COUNTER = itertools.count(1)
"""Keeps namespaces apart whose tests have nearly the same name, or that one test makes."""


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the operator with its chart; gives the folder of trained models."""
    lab.cluster_environment()
    with turns().write_lock():
        lab.install_operator()
    folder = tmp_path_factory.mktemp("models")
    lab.models(folder)
    return folder


@pytest.fixture(autouse=True)
def turn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let tests of several processes run side by side, but one that is marked `alone` only by itself."""
    alone = request.node.get_closest_marker("alone") is not None
    with turns().write_lock() if alone else turns().read_lock():
        yield


def turns() -> ReadWriteLock:
    """Give the lock that all processes share which use this cluster: written to by whoever must be alone."""
    folder = Settings.read().cache
    folder.mkdir(parents=True, exist_ok=True)
    return ReadWriteLock(folder / "scenarios.lock", timeout=TURN_SECONDS)


@pytest.fixture
def service(laboratory: Path, request: pytest.FixtureRequest) -> Iterator[Services]:
    """Give a function that makes a model service in a namespace of its own."""
    made: list[lab.ModelService] = []

    def make(**changes: object) -> lab.ModelService:
        base = "".join(part if part.isalnum() else "-" for part in request.node.name.lower().replace("test_", ""))
        namespace = f"e2e-{base[:38].strip('-')}-{os.getpid() % 10_000}-{next(COUNTER)}"
        given = {"namespace": namespace, "models": laboratory, "spec": quick_spec(5, 10, 25, 50, 100, seconds=8), **changes}
        found = lab.ModelService(**given)  # type: ignore[arg-type]
        found.create_namespace()
        made.append(found)
        return found

    yield make
    for found in made:
        if request.node.stash.get(FAILED, True):
            dump(found, request.node.name)
        found.delete()


@pytest.fixture
def serving(service: Services) -> Serving:
    """Give a function that makes a model service which is adopted and under load."""

    def make(**changes: object) -> lab.ModelService:
        found = service(**changes)
        found.release("v1.8.0")
        found.wait_ready()
        found.start_load()
        return found

    return make


def quick_spec(*weights: int, seconds: int = 5, analysis: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Give a spec with few, short steps; `analysis` and `changes` are put over the laboratory's own.

    Errors have wider limits than by default: a healthy candidate is shown to be below 5 % in half the looks that 2 % takes.
    """
    spec = lab.short_spec(seconds, weights or (10, 50, 100))
    return {**spec, "analysis": {**spec["analysis"], "errors": {"slo": 0.02, "abort": 0.05}, **(analysis or {})}, **changes}


def check_end(service: lab.ModelService, outcome: str, reason: str, *, seconds: float = 180) -> list[dict[str, Any]]:
    """Wait for the end of the first run; check outcome, reason, weight, Event and evidence; gives the entries."""
    entry = service.wait_outcome(1, seconds)
    assert (entry["outcome"], entry["reason"]) == (outcome, reason), entry
    assert service.weight() == 0
    assert service.condition("Ready") == ("True", "StableServes")
    assert outcome in {word for word, _ in service.events()}
    return check_evidence(service, entry["run"])


def weights_entered(entries: Sequence[Mapping[str, Any]]) -> list[int]:
    """Give the weights of the steps that a run entered."""
    return [item["weight"] for item in entries if item["kind"] == "StepEntered"]


def check_evidence(service: lab.ModelService, run_id: str) -> list[dict[str, Any]]:
    """Check a run's evidence against its schema, its chain and its own counts; gives the entries."""
    parts = service.evidence(run_id)
    assert parts, f"no evidence of run {run_id}"
    for part in parts:
        jsonschema.Draft202012Validator(SCHEMA).validate(part)
    entries = [entry for part in parts for entry in part["entries"]]
    assert first_difference(entries) is None
    return entries


def no_client_error(service: lab.ModelService) -> None:
    """Check that every request of the load was answered, and with 200."""
    stats = service.stats()
    assert stats["answered"] > 100, stats
    assert stats["error_count"] == 0, (stats["errors"][-5:], f"requests left up to {stats['late_ms']:.0f} ms late")
    assert set(stats["by_status"]) == {"200"}, stats


def dump(service: lab.ModelService, name: str) -> None:
    """Write down everything a person would ask for."""
    namespace = service.namespace
    folder = DUMPS / f"{name}-{namespace}-{service.name}".replace("/", "-")
    folder.mkdir(parents=True, exist_ok=True)
    commands = {
        "objects.yaml": ["get", "mlr,deploy,rs,pods,svc,endpointslices,httproute,configmap", "-n", namespace, "-o", "yaml"],
        "events.txt": ["get", "events", "-n", namespace, "--sort-by=.metadata.creationTimestamp"],
        "operator.log": ["logs", "-n", lab.OPERATOR_NAMESPACE, "deployment/kanarya", "--tail=2000"],
        "operator-before.log": ["logs", "-n", lab.OPERATOR_NAMESPACE, "deployment/kanarya", "--previous", "--tail=500"],
        "router.log": ["logs", "-n", namespace, "-l", "app.kubernetes.io/component=router", "--prefix", "--tail=500"],
        "load.json": ["get", "--raw", f"/api/v1/namespaces/{namespace}/pods/{service.load}:9000/proxy/stats"],
        "nodes.txt": ["describe", "nodes"],
    }
    for file, command in commands.items():
        try:
            done = subprocess.run(["kubectl", *command], capture_output=True, text=True, timeout=60, check=False)
            (folder / file).write_text(done.stdout + done.stderr)
        except subprocess.TimeoutExpired:
            (folder / file).write_text("timed out")
    print(f"\ndump of {namespace} in {folder}")
