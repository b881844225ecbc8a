"""Building programs from Go modules, at the versions that the modules in `node/` pin."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.cached import is_fresh, key_of, mark_fresh, mark_stale
from tests.cluster.run import logged, output, step
from tests.cluster.settings import NODE, Settings, Unavailable

KUBERNETES = "v1.34.4"
GATEWAY_API = "v1.5.1"

BUILD_LIMIT = 3000
"""Seconds; the API server takes three minutes on two cores when nothing is cached."""

# Programs of the Kubernetes release report this version; kubeadm derives image names from it.
KUBERNETES_FLAGS = " ".join(
    ["-s -w"]
    + [
        f"-X {package}.{name}={value}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in (("gitVersion", KUBERNETES), ("gitMajor", "1"), ("gitMinor", "34"))
    ]
)


@dataclass(frozen=True)
class Program:
    """One program, and the module that pins it."""

    name: str
    module: str
    package: str
    flags: str = "-s -w"
    tags: str = ""


def _kubernetes(name: str) -> Program:
    return Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", KUBERNETES_FLAGS)


TOOLS = (
    Program("kind", "kind", "sigs.k8s.io/kind"),
    _kubernetes("kubectl"),
    Program("helm", "helm", "helm.sh/helm/v4/cmd/helm"),
)
"""What people and tests call."""

NODE_PROGRAMS = (
    *(_kubernetes(name) for name in ("kube-apiserver", "kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubeadm")),
    Program("etcd", "kubernetes", "go.etcd.io/etcd/server/v3"),
    Program("coredns", "coredns", "."),
)
"""What runs inside the node, besides kubectl."""


PROMETHEUS = Program(
    "prometheus",
    "prometheus",
    "github.com/prometheus/prometheus/cmd/prometheus",
    # The discovery of a dozen clouds is most of the compile time.
    tags="remove_all_sd,enable_kubernetes_sd",
)
"""Built, since Debian's has no Kubernetes service discovery."""


def ensure_built(settings: Settings, programs: tuple[Program, ...], folder: Path) -> None:
    """Build those programs that are not there yet, each into a file of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    compiler = go_version()
    for program in programs:
        target = folder / program.name
        key = key_of(compiler, program.package, program.flags, program.tags, NODE / program.module)
        if is_fresh(target, key):
            continue
        mark_stale(target)
        with step(f"building {program.name}"):
            logged(
                # Paths and revision are left out, so that the same sources give the same bytes everywhere.
                [
                    *("go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-tags", program.tags),
                    *("-ldflags", program.flags, "-o", target, program.package),
                ],
                settings.logs / "go-build.log",
                timeout=BUILD_LIMIT,
                # Static programs: they run in images that hold nothing else.
                env={"CGO_ENABLED": "0", "GOFLAGS": ""},
                cwd=NODE / program.module,
            )
        mark_fresh(target, key)


def tools_on_path(settings: Settings) -> bool:
    """Tell whether kind, kubectl and helm are installed already, as they are on hosted CI machines."""
    path = os.pathsep.join(p for p in os.environ.get("PATH", "").split(os.pathsep) if p != str(settings.bin))
    return all(shutil.which(program.name, path=path) for program in TOOLS)


def go_version() -> str:
    """Return the compiler's version, or give up without one."""
    version = output(["go", "env", "GOVERSION"])
    if version is None:
        raise Unavailable("Go is not installed; without an image registry the cluster's programs are built from source.")
    return version.strip()


def gateway_crds() -> list[Path]:
    """Return the files of the Gateway API's standard channel."""
    go_version()
    described = output(["go", "mod", "download", "-json", f"sigs.k8s.io/gateway-api@{GATEWAY_API}"], timeout=120, cwd=NODE)
    if described is None:
        raise Unavailable(f"The Go module of the Gateway API {GATEWAY_API} cannot be downloaded.")
    folder = Path(json.loads(described)["Dir"]) / "config" / "crd" / "standard"
    return sorted(folder.glob("*.yaml"))
