"""What comes from Debian: programs for this machine, and root file systems for the images."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster.cached import is_fresh, key_of, mark_fresh, mark_stale
from tests.cluster.run import logged, output, step
from tests.cluster.settings import Settings, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SUITE = "bookworm"

# Package, and a program that shows it is there.
NEEDED = {
    "docker.io": "dockerd",
    "debootstrap": "debootstrap",
    "jq": "jq",
    "iptables": "iptables",
    "gcc": "gcc",
    "libc6-dev": "/usr/lib/x86_64-linux-gnu/libc.a",
    "util-linux": "setpriv",
    "procps": "sysctl",
}

# Never part of an image: nothing at run time reads them.
LEFT_OUT = ("./var/cache/apt/*", "./var/lib/apt/lists/*", "./var/log/*", "./usr/share/doc/*", "./usr/share/locale/*", "./usr/share/man/*")


@dataclass(frozen=True)
class RootFileSystem:
    """A Debian system made of a few packages."""

    name: str
    packages: tuple[str, ...]


NODE_SYSTEM = RootFileSystem("node", ("containerd", "containernetworking-plugins", "iptables", "iproute2", "mount"))
PYTHON_SYSTEM = RootFileSystem("python", ("python3", "python3-venv", "python3-pip", "ca-certificates"))


def ensure_installed(settings: Settings) -> None:
    """Install what this machine lacks to run a Docker engine and to make root file systems."""
    missing = [package for package, program in NEEDED.items() if shutil.which(program) is None and not os.path.isfile(program)]  # noqa: PTH113
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise Unavailable(f"No image registry answers and this is no Debian machine, so {' and '.join(missing)} cannot be installed.")
    log = settings.logs / "apt.log"
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"installing {' '.join(missing)}"):
        # One of several package lists may be out of reach; what counts is whether the packages can be installed.
        output(["apt-get", "update"], timeout=300, env=quiet)
        logged(["apt-get", "install", "-y", "--no-install-recommends", *missing], log, timeout=600, env=quiet)


def ensure_root(settings: Settings, system: RootFileSystem) -> Path:
    """Return a folder that holds the root file system, made on the first call."""
    root = settings.cache / "root" / system.name
    key = key_of(SUITE, system.packages)
    if is_fresh(root, key):
        return root
    mark_stale(root)
    if root.exists():
        shutil.rmtree(root)
    packages = settings.cache / "debs"
    packages.mkdir(parents=True, exist_ok=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    with step(f"making the Debian system for {system.name}"):
        logged(
            ["debootstrap", "--variant=minbase", f"--cache-dir={packages}", f"--include={','.join(system.packages)}", SUITE, root],
            settings.logs / f"debootstrap-{system.name}.log",
            timeout=1200,
        )
    mark_fresh(root, key)
    return root


def tar_of(root: Path, without: Iterable[str] = ()) -> list[str]:
    """Return the command that writes a root file system as a tar stream, without what no image needs and some paths more."""
    return ["tar", "-C", str(root), "--numeric-owner", *(f"--exclude={pattern}" for pattern in (*LEFT_OUT, *without)), "-c", "."]
