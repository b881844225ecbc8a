"""The kind cluster: made, checked and deleted."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from tests.cluster import engine, golang, node_image
from tests.cluster.run import logged, output, say, step, wait_until
from tests.cluster.settings import CLUSTER, CONTEXT, NODE, Settings, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

CREATE_SECONDS = 300
READY_SECONDS = 180


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables with which docker, kind, kubectl and helm find this cluster."""
    path = os.environ.get("PATH", "")
    found = {"KUBECONFIG": str(settings.kubeconfig)}
    if settings.bin.is_dir() and str(settings.bin) not in path.split(os.pathsep):
        path = f"{settings.bin}{os.pathsep}{path}"
    if settings.given_kubeconfig is None and settings.socket.exists():
        found["DOCKER_HOST"] = f"unix://{settings.socket}"
    return {**found, "PATH": path}


def up(settings: Settings) -> None:
    """Make the cluster running and Ready."""
    published = not engine.is_running(settings) and engine.published_images_in_reach()
    if published:
        say("an image registry answers: using kind's published node image")
        if not golang.tools_on_path(settings):
            golang.ensure_built(settings, golang.TOOLS, settings.bin)
        image = None
    else:
        started = engine.ensure_running(settings)
        golang.ensure_built(settings, golang.TOOLS, settings.bin)
        image = node_image.ensure_node_image(settings, environment(settings))
        if started:
            # Containers of an engine that was stopped under them do not come back as a working cluster.
            delete(settings)
    if is_healthy(settings, image):
        say("the cluster is running already")
    else:
        delete(settings)
        create(settings, image)
    install_gateway_crds(settings)


def create(settings: Settings, image: str | None) -> None:
    """Make the cluster, and wait until its own pods are Ready."""
    env = environment(settings)
    log = settings.logs / "kind-create.log"
    with step("making the cluster"):
        arguments: list[str | Path] = ["kind", "create", "cluster", "--name", CLUSTER, "--kubeconfig", settings.kubeconfig, "--retain"]
        if image is not None:
            arguments += ["--image", image, "--config", NODE / "kind.yaml"]
        logged(arguments, log, timeout=CREATE_SECONDS, env=env)
    with step("waiting for the cluster's own pods"):
        kubectl(settings, "wait", "--for=create", "serviceaccount/default", f"--timeout={READY_SECONDS}s")
        kubectl(settings, "wait", "--for=condition=Ready", "node", "--all", f"--timeout={READY_SECONDS}s")
        # Without a request of its own it waits for a core as long as others want one, and clients are sent to pods that are gone.
        kubectl(settings, "-n", "kube-system", "set", "resources", "daemonset/kube-proxy", "--requests=cpu=50m")
        kubectl(settings, "-n", "kube-system", "rollout", "status", "deployment/coredns", f"--timeout={READY_SECONDS}s")
        kubectl(settings, "-n", "kube-system", "rollout", "status", "daemonset/kube-proxy", f"--timeout={READY_SECONDS}s")
        wait_until(
            lambda: all_ready(settings, "kube-system"), timeout=READY_SECONDS, what="Not every pod of kube-system became Ready", every=1
        )


def delete(settings: Settings) -> None:
    """Delete the cluster, dead or alive."""
    env = environment(settings)
    clusters = output(["kind", "get", "clusters"], env=env)
    if clusters is None or CLUSTER not in clusters.split():
        return
    with step("deleting the cluster"):
        logged(
            ["kind", "delete", "cluster", "--name", CLUSTER, "--kubeconfig", settings.kubeconfig],
            settings.logs / "kind-create.log",
            timeout=120,
            env=env,
        )


def is_healthy(settings: Settings, image: str | None) -> bool:
    """Tell whether the cluster answers, its node is Ready, and it was made from this image."""
    if not settings.kubeconfig.is_file() or output(["kind", "get", "clusters"], env=environment(settings)) in (None, ""):
        return False
    if image is not None:
        state = ["docker", "inspect", "-f", "{{.Config.Image}} {{.State.Running}}", f"{CLUSTER}-control-plane"]
        used = output(state, env=environment(settings))
        if used is None or used.split() != [image, "true"]:
            return False
    if read(settings, "get", "--raw", "/readyz") is None:
        return False
    waited = read(settings, "wait", "--for=condition=Ready", "node", "--all", "--timeout=15s")
    return waited is not None and all_ready(settings, "kube-system")


def all_ready(settings: Settings, namespace: str) -> bool:
    """Tell whether every pod of a namespace is Ready, and there is at least one."""
    listed = read(settings, "-n", namespace, "get", "pods", "-o", "json")
    if listed is None:
        return False
    pods = json.loads(listed)["items"]
    return bool(pods) and all(is_ready(pod) for pod in pods)


def is_ready(pod: dict[str, object]) -> bool:
    """Tell whether a pod's condition Ready is True."""
    status = pod.get("status")
    conditions = status.get("conditions", []) if isinstance(status, dict) else []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def install_gateway_crds(settings: Settings) -> None:
    """Install the Gateway API's standard channel, unless this version is there."""
    have = read(
        settings, "get", "crd", "httproutes.gateway.networking.k8s.io", "-o",
        r"jsonpath={.metadata.annotations.gateway\.networking\.k8s\.io/bundle-version}",
    )  # fmt: skip
    if have == golang.GATEWAY_API:
        return
    with step(f"installing the Gateway API {golang.GATEWAY_API}"):
        files = [argument for file in golang.gateway_crds() for argument in ("-f", file)]
        # On the server: the definitions are larger than the annotation of a client-side apply may be.
        kubectl(settings, "apply", "--server-side", "--force-conflicts", *files)
        kubectl(settings, "wait", "--for=condition=Established", "crd/httproutes.gateway.networking.k8s.io", "--timeout=60s")


def check_allowed(settings: Settings) -> str:
    """Return the current context; refuse it unless it is on the list."""
    env = environment(settings)
    context = (output(["kubectl", "config", "current-context"], env=env) or "").strip()
    if not context:
        raise Unavailable(f"{settings.kubeconfig} names no current context, or kubectl is not installed.")
    if context not in settings.allowed_contexts:
        allowed = ", ".join(sorted(settings.allowed_contexts))
        raise Unavailable(f"Context {context} is not on the list of clusters that tests may touch (KANARYA_ALLOWED_CONTEXTS: {allowed}).")
    return context


def check_given(settings: Settings) -> None:
    """Refuse a cluster made by somebody else unless tests may touch it and it answers."""
    context = check_allowed(settings)
    if read(settings, "get", "--raw", "/readyz") is None:
        raise Unavailable(f"Context {context} is allowed, but its API server does not answer.")
    say(f"using context {context}")


def kubectl(settings: Settings, *arguments: str | Path) -> None:
    """Run kubectl; its output goes to a log."""
    context = () if settings.given_kubeconfig else ("--context", CONTEXT)
    logged(["kubectl", *context, *arguments], settings.logs / "kubectl.log", timeout=READY_SECONDS + 20, env=environment(settings))


def read(settings: Settings, *arguments: str) -> str | None:
    """Return what kubectl prints, or None if it fails."""
    return output(["kubectl", "--request-timeout=10s", *arguments], timeout=30, env=environment(settings))
