"""Ways to disturb a cluster of one kind node, each of which puts right again what it did.

What disturbs more than one namespace is for tests marked `alone`.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from examples import lab

MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
BACK_SECONDS = 120.0
NAMES_SECONDS = 180.0
"""A DNS server tries its watches again after up to a minute, and each try may last half of one. 84 s were measured."""


def node() -> str:
    """Give the name of the only node, which is also that of its container."""
    (name,) = [item["metadata"]["name"] for item in lab.get("default", "nodes")["items"]]
    return str(name)


def on_node(name: str, script: str) -> str:
    """Run a shell script on the node, as root."""
    return lab.run("docker", "exec", name, "sh", "-c", script)


def kill_processes(name: str, command: str, *, pod_uid: str = "", signal: str = "KILL") -> None:
    """Send a signal to every process whose command line holds `command`; after SIGKILL nothing in its pod gets to say goodbye.

    With `pod_uid` only to those of one pod, never to its sandbox.
    """
    # The bracket keeps the pattern from matching the shell that looks for it.
    pattern = f"[{command[0]}]{command[1:]}"
    # cgroups that systemd manages have underscores in the place of dashes.
    group = pod_uid.replace("-", "[-_]")
    script = f"""
    for p in /proc/[0-9]*; do
      if tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q '{pattern}' && grep -q '{group}' $p/cgroup; then
        kill -{signal} ${{p#/proc/}} || true
      fi
    done
    """
    on_node(name, script)


@contextlib.contextmanager
def prometheus_away() -> Iterator[None]:
    """Scale Prometheus to nothing, and back. What it had scraped is lost."""
    lab.kubectl("scale", "-n", "monitoring", "deploy/prometheus", "--replicas=0")
    try:
        yield
    finally:
        lab.kubectl("scale", "-n", "monitoring", "deploy/prometheus", "--replicas=1")
        lab.kubectl("rollout", "status", "-n", "monitoring", "deploy/prometheus", "--timeout=90s")


def service_address() -> str:
    """Give the address by which pods reach the API server."""
    return str(lab.get("default", "service", "kubernetes")["spec"]["clusterIP"])


def api_server_answers(name: str, address: str) -> bool:
    """Tell whether the API server is ready to work, and pods can reach it: kube-proxy learns of it some time later."""
    return ready() and succeeds("docker", "exec", name, "bash", "-c", f"exec 3<>/dev/tcp/{address}/443")


def ready() -> bool:
    """Tell whether the API server is ready to work."""
    return succeeds("kubectl", "--request-timeout=2s", "get", "--raw", "/readyz")


def succeeds(*command: str, seconds: float = 5) -> bool:
    """Tell whether a program ends well within some seconds."""
    try:
        return subprocess.run(command, capture_output=True, timeout=seconds, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@contextlib.contextmanager
def api_server_away(name: str) -> Iterator[None]:
    """Take the API server's static pod away, and bring it back. The kubelet and all other pods go on."""
    address = service_address()
    on_node(name, f"mv {MANIFEST} /root/")
    try:
        lab.eventually(lambda: not ready(), "no API server", 60)
        yield
    finally:
        on_node(name, f"test -e {MANIFEST} || mv /root/{MANIFEST.rsplit('/', 1)[1]} {MANIFEST}")
        lab.eventually(lambda: api_server_answers(name, address), "the API server again", BACK_SECONDS, pause=0.2)


def wait_for_names() -> None:
    """Wait until every DNS server of the cluster knows a Service that is new.

    After an outage of the API server each comes back to its watches in its own time. Until then clients of a new Service find no address
    at every other try.
    """
    service = f"made-{time.time_ns()}"
    lab.kubectl("create", "service", "clusterip", service, "-n", "default", "--tcp=80")
    # Each lookup meets a server by chance: one that lags is met by some of so many.
    script = f"import socket; [socket.getaddrinfo('{service}.default.svc.cluster.local.', 80) for _ in range(20)]"
    lookups = ("kubectl", "exec", "-n", lab.OPERATOR_NAMESPACE, "deployment/kanarya", "--", "python", "-c", script)
    try:
        lab.eventually(lambda: succeeds(*lookups, seconds=20), "DNS servers that know a new Service", NAMES_SECONDS)
    finally:
        lab.kubectl("delete", "service", service, "-n", "default")


def restart_node(name: str) -> None:
    """Stop the node as a power cut does, start it, and wait for the cluster's own pods."""
    address = service_address()
    lab.run("docker", "restart", "--time", "0", name)
    lab.eventually(lambda: api_server_answers(name, address), "the API server again", BACK_SECONDS)
    lab.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")
    for what in ("kube-system deploy/coredns", "kube-system daemonset/kube-proxy", "monitoring deploy/prometheus"):
        namespace, workload = what.split()
        lab.kubectl("rollout", "status", "-n", namespace, workload, "--timeout=120s")


def candidate_pods(service: lab.ModelService) -> list[dict[str, Any]]:
    """List the target's own pods, those that are going included."""
    label = f"app.kubernetes.io/component=model,app.kubernetes.io/instance={service.name}"
    return list(lab.get(service.namespace, "pods", "-l", label)["items"])


def stable_pods(service: lab.ModelService) -> list[dict[str, Any]]:
    """List the pods of stable, those that are going included."""
    return list(lab.get(service.namespace, "pods", "-l", f"kanarya.dev/rollout={service.name},kanarya.dev/track=stable")["items"])


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod takes requests and is to go on doing so."""
    conditions = {item["type"]: item["status"] for item in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]
