"""A laboratory on a kind cluster: the operator, demo models, a model service and a steady load, by the same charts that users install.

Shared by `make demo` and the end-to-end tests, so that what is shown is what is tested.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from kanarya_inference.training.train import Kind, train

ROOT = Path(__file__).resolve().parent.parent
OPERATOR_NAMESPACE = "kanarya-system"
SCRAPE_SECONDS = 2
MODELS: Mapping[str, tuple[Kind, int]] = {
    "v1.8.0": ("good", 7),
    "v1.8.1": ("good", 8),
    "v1.8.2": ("good", 9),
    "v1.9.0": ("disagreeing", 7),
    "v1.9.1": ("drifted", 7),
}
"""Kind and seed of each demo model."""


class CommandFailed(Exception):  # noqa: N818 -- reads as what happened
    """A program ended badly; the message holds the end of what it said."""


def run(*command: str, stdin: str | None = None, timeout: float = 180) -> str:
    """Run a program and give what it prints; raises `CommandFailed`."""
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"{' '.join(command[:6])} did not end within {timeout:.0f} s") from error
    if done.returncode:
        raise CommandFailed(f"{' '.join(command[:8])}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def kubectl(*arguments: str, stdin: str | None = None, timeout: float = 180) -> str:
    """Run kubectl against the cluster that KUBECONFIG names."""
    return run("kubectl", *arguments, stdin=stdin, timeout=timeout)


def get(namespace: str, *what: str) -> dict[str, Any]:
    """Read an object or a list as JSON."""
    found: dict[str, Any] = json.loads(kubectl("get", "-n", namespace, *what, "-o", "json"))
    return found


def apply(*objects: Mapping[str, Any]) -> None:
    """Apply objects server-side."""
    document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(document))


T = TypeVar("T")


def eventually(look: Callable[[], T | None], what: str, seconds: float, pause: float = 0.5) -> T:
    """Look until something is there; raises `TimeoutError` that says what was waited for."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)


def models(folder: Path) -> None:
    """Train the demo models that are not there yet."""
    for version, (kind, seed) in MODELS.items():
        if not (folder / version / "metadata.json").exists():
            train(folder / version, version=version, rows=20_000, seed=seed, kind=kind)


def install_operator(values: Mapping[str, Any] | None = None) -> None:
    """Install the operator's chart, or upgrade it, and wait until it is ready."""
    chosen: dict[str, Any] = {
        "image": {"repository": "kanarya/operator", "tag": "dev", "pullPolicy": "IfNotPresent"},
        "sources": {"default": {"url": "http://prometheus.monitoring:9090", "scrapeIntervalSeconds": SCRAPE_SECONDS, "timeoutSeconds": 3}},
        # A new image has the same tag here: the annotation makes the Deployment take it.
        "podAnnotations": {"kanarya.dev/image": image_id("kanarya/operator:dev")},
        **(values or {}),
    }
    _hand_definition_to_helm()
    helm("kanarya", ROOT / "charts/kanarya", OPERATOR_NAMESPACE, chosen, "--create-namespace")
    kubectl("rollout", "status", "-n", OPERATOR_NAMESPACE, "deployment/kanarya", "--timeout=120s")


def operator_pod() -> str:
    """Give the name of the operator's pod: its port has no Service unless something scrapes it by one."""
    pods = get(OPERATOR_NAMESPACE, "pods", "-l", "app.kubernetes.io/name=kanarya", "--field-selector=status.phase=Running")["items"]
    alive = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    if not alive:
        raise CommandFailed(f"no pod of the operator runs in namespace {OPERATOR_NAMESPACE}")
    return str(alive[0])


def _hand_definition_to_helm() -> None:
    """Let Helm adopt a resource definition that was applied without it, as the contract tests do."""
    definition = "customresourcedefinition/mlmodelrollouts.kanarya.dev"
    if not kubectl("get", definition, "--ignore-not-found", "-o", "name").strip():
        return
    kubectl("label", definition, "app.kubernetes.io/managed-by=Helm", "--overwrite")
    release = ("meta.helm.sh/release-name=kanarya", f"meta.helm.sh/release-namespace={OPERATOR_NAMESPACE}")
    kubectl("annotate", definition, *release, "--overwrite")


def image_id(image: str) -> str:
    """Give the id of a local image, cut to what an annotation needs."""
    return run("docker", "image", "inspect", "--format", "{{.Id}}", image).strip()[-16:]


def helm(release: str, chart: Path, namespace: str, values: Mapping[str, Any], *options: str) -> None:
    """Install or upgrade a chart with real Helm."""
    run(
        "helm", "upgrade", "--install", release, str(chart), "-n", namespace, "--timeout", "120s", *options, "-f", "-",
        stdin=json.dumps(values),
    )  # fmt: skip


def steps(*weights: int, seconds: int) -> list[dict[str, int]]:
    """Give a plan's steps of equal length."""
    return [{"weight": weight, "durationSeconds": seconds} for weight in weights]


def short_spec(seconds: int = 8, weights: Sequence[int] = (5, 10, 25, 50, 100)) -> dict[str, Any]:
    """Give a rollout spec whose steps last seconds, with limits wide enough for a small shared machine."""
    return {
        "replicas": 2,
        "plan": {"steps": steps(*weights, seconds=seconds)},
        "analysis": {
            "intervalSeconds": 1,
            "minSamples": 60,
            "latency": {"sloMilliseconds": 500, "abortMilliseconds": 1000},
        },
        "scaleDownDelaySeconds": 10,
    }


@dataclass
class ModelService:
    """A model service in a namespace of its own, with its rollout, its router and a load on it."""

    namespace: str
    models: Path
    name: str = "fraud"
    spec: dict[str, Any] = field(default_factory=short_spec)
    load: str = "load"
    """Name of the pod that the load runs in."""
    _operator_pod: str = field(default="", init=False, repr=False)

    # -- changing ---------------------------------------------------------------------------------------------------------

    def create_namespace(self) -> None:
        """Create the namespace, with every demo model in a ConfigMap."""
        apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        for version in MODELS:
            source = f"--from-file={self.models / version}"
            name = f"{self.name}-model-{version}"
            text = kubectl("create", "configmap", name, "-n", self.namespace, source, "--dry-run=client", "-o", "json")
            apply({**json.loads(text), "immutable": True})

    def release(self, version: str, *faults: str, **values: Any) -> None:
        """Install the chart, or upgrade it to a version; `faults` are flags of the inference server."""
        chosen = {
            "model": {"version": version},
            "image": {"repository": "kanarya/inference", "tag": "dev", "pullPolicy": "IfNotPresent"},
            "extraArgs": list(faults),
            "resources": {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
            "router": {"resources": {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}}},
            "rollout": {"spec": self.spec},
            **values,
        }
        helm(self.name, ROOT / "charts/inference", self.namespace, chosen)

    def switch_faults(self, version: str, faults: Mapping[str, float]) -> None:
        """Switch the faults of every pod of a version that was released with `--fault-control`, of all at once; what is left out is off."""
        found = get(self.namespace, "pods", "-l", f"app.kubernetes.io/version={version}")["items"]
        pods = [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]
        if not pods:
            raise LookupError(f"{version} has no pods in namespace {self.namespace}")

        def switch(pod: str) -> None:
            path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}:4010/proxy/ml/faults"
            kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(faults))

        with ThreadPoolExecutor(len(pods)) as pool:
            list(pool.map(switch, pods))

    def start_load(self, rate: int = 50, *, wait_for_router: bool = True) -> None:
        """Start the steady load in a pod: half of it on new connections, every error counted."""
        if wait_for_router:  # a ClusterIP is not answered by its own endpoints before kube-proxy has heard of them
            kubectl("rollout", "status", "-n", self.namespace, f"deployment/{self.name}-router", "--timeout=90s")
            time.sleep(3)
        # The address, not the name: what goes wrong with names is no fault of anything that is looked at here.
        address = get(self.namespace, "service", self.name)["spec"]["clusterIP"]
        command = ["kanarya-ml", "load", "--url", f"http://{address}/ml/predict", "--rate", str(rate), "--port", "9000"]
        container = {
            "name": self.load,
            "image": "kanarya/inference:dev",
            "imagePullPolicy": "IfNotPresent",
            "command": command,
            "ports": [{"containerPort": 9000}],
            "readinessProbe": {"httpGet": {"path": "/stats", "port": 9000}, "periodSeconds": 1},
            # Who asks for nothing gets no core for seconds while other pods start, and would call answers late that were not.
            "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}},
        }
        metadata = {"name": self.load, "namespace": self.namespace, "labels": {"app": "load"}}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        apply({**body, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, "enableServiceLinks": False}})
        kubectl("wait", "-n", self.namespace, "--for=condition=Ready", f"pod/{self.load}", "--timeout=90s")

    def reset_load(self) -> None:
        """Set everything that the load has counted to zero."""
        self._load("create", "reset", "-f", "/dev/null")

    def annotate(self, key: str, value: str) -> None:
        """Annotate the rollout, as people do to abort or retry a run."""
        kubectl("annotate", "-n", self.namespace, "mlr", self.name, f"{key}={value}", "--overwrite")

    def delete(self) -> None:
        """Delete the namespace without waiting for it."""
        kubectl("delete", "namespace", self.namespace, "--wait=false", "--ignore-not-found")

    # -- looking ----------------------------------------------------------------------------------------------------------

    def rollout(self) -> dict[str, Any]:
        """Read the rollout."""
        return get(self.namespace, "mlr", self.name)

    def status(self) -> dict[str, Any]:
        """Read the rollout's status."""
        found: dict[str, Any] = self.rollout().get("status", {})
        return found

    def condition(self, kind: str) -> tuple[str, str]:
        """Give status and reason of a condition."""
        for entry in self.status().get("conditions", []):
            if entry["type"] == kind:
                return entry["status"], entry["reason"]
        return "Unknown", ""

    def weight(self) -> int:
        """Give the candidate's weight on the route itself."""
        (rule,) = get(self.namespace, "httproute", self.name)["spec"]["rules"]
        return int(next(backend["weight"] for backend in rule["backendRefs"] if backend["name"].endswith("-candidate")))

    def live(self) -> dict[str, Any]:
        """Ask the operator what it last decided; empty while it does not answer."""
        try:
            pod = self._operator_pod = self._operator_pod or operator_pod()
            path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod}:8080/proxy/rollouts/{self.namespace}/{self.name}"
            found: dict[str, Any] = json.loads(kubectl("get", "--raw", path, timeout=10))
        except (CommandFailed, ValueError):
            self._operator_pod = ""
            return {}
        return found

    def stats(self) -> dict[str, Any]:
        """Read what the clients of the load saw."""
        found: dict[str, Any] = self._load("get", "stats")
        return found

    def answers(self, since: float) -> list[Any]:
        """Read the single answers since a time: `[time, version, track, status, milliseconds]` each."""
        found = self._load("get", f"answers?since={since}")
        return list(found["answers"]) if isinstance(found, dict) else found

    def _load(self, verb: str, path: str, *options: str) -> Any:
        raw = f"/api/v1/namespaces/{self.namespace}/pods/{self.load}:9000/proxy/{path}"
        return json.loads(kubectl(verb, "--raw", raw, *options, timeout=30))

    def events(self) -> list[tuple[str, str]]:
        """Read the Events about the rollout, oldest first: reason and note."""
        items = get(self.namespace, "events.events.k8s.io")["items"]
        ours = [item for item in items if item["regarding"]["kind"] == "MLModelRollout" and item["regarding"]["name"] == self.name]
        return [(item["reason"], item["note"]) for item in sorted(ours, key=lambda item: str(item["eventTime"]))]

    def evidence(self, run_id: str) -> list[dict[str, Any]]:
        """Read the parts of a run's evidence."""
        label = f"kanarya.dev/rollout={self.name},kanarya.dev/run={run_id}"
        parts = get(self.namespace, "configmap", "-l", label)["items"]
        parts.sort(key=lambda body: int(body["metadata"]["name"].rsplit("-", 1)[1]))
        return [json.loads(part["data"]["evidence.json"]) for part in parts]

    # -- waiting ----------------------------------------------------------------------------------------------------------

    def wait_ready(self, seconds: float = 150) -> None:
        """Wait until the rollout is Ready and its target is scaled down: adopted."""
        self.wait(lambda status: self.condition("Ready")[0] == "True" and bool(status.get("stable")), "Ready", seconds)

    def wait(self, holds: Callable[[dict[str, Any]], bool], what: str, seconds: float) -> dict[str, Any]:
        """Wait until something holds of the status."""

        def look() -> dict[str, Any] | None:
            status = self.status()
            return status if holds(status) else None

        found: dict[str, Any] = eventually(look, f"{self.namespace}/{self.name}: {what}", seconds)
        return found

    def wait_weight(self, weight: int, seconds: float = 120) -> dict[str, Any]:
        """Wait until a run is at a weight."""
        return self.wait(lambda status: (status.get("run") or {}).get("weight") == weight, f"weight {weight}", seconds)

    def wait_outcome(self, number: int = 1, seconds: float = 240) -> dict[str, Any]:
        """Wait until the run of this number, 1 to 10, has ended; gives its history entry. The history keeps ten."""
        status = self.wait(lambda status: len(status.get("history") or []) >= number, f"the end of run {number}", seconds)
        entry: dict[str, Any] = status["history"][number - 1]
        return entry

    def wait_outcome_after(self, run: str, seconds: float = 240) -> dict[str, Any]:
        """Wait until the run that follows this one, or the first when it is empty, has ended; gives its history entry."""

        def last(status: dict[str, Any]) -> dict[str, Any]:
            entry: dict[str, Any] = (status.get("history") or [{"run": run}])[-1]
            return entry

        return last(self.wait(lambda status: last(status)["run"] != run, f"the end of the run after {run or 'none'}", seconds))


def cluster_environment() -> None:
    """Point this process, and the programs it starts, at the cluster of `make cluster`."""
    from tests.cluster import environment  # noqa: PLC0415 -- only a checkout has it

    os.environ.update(environment())
