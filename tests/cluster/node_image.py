"""The node image, made from Go modules and Debian packages where kind's published one is out of reach."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.cluster import archive, debian, golang
from tests.cluster.archive import File, Folder, Image, Link
from tests.cluster.cached import key_of
from tests.cluster.run import logged, output, piped, step
from tests.cluster.settings import NODE, Settings, Unavailable

REGISTRY = "registry.k8s.io"
ETCD = "3.6.4-0"
COREDNS = "v1.12.1"
PAUSE = "3.10.1"

IPTABLES_NAMES = ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore")
XTABLES = "/usr/sbin/xtables-nft-multi"
XTABLES_MODULES = "usr/lib/x86_64-linux-gnu/xtables"


def ensure_node_image(settings: Settings, docker: dict[str, str]) -> str:
    """Return the name of the node image, made on the first call with these sources."""
    programs = settings.cache / "node"
    golang.ensure_built(settings, golang.NODE_PROGRAMS, programs)
    system = debian.ensure_root(settings, debian.NODE_SYSTEM)
    ours = [NODE / name for name in ("entrypoint", "containerd.toml", "bridge.conflist", "pause.c")]
    code = [Path(__file__), Path(archive.__file__)]
    modules = [NODE / "kubernetes", NODE / "coredns"]
    key = key_of(golang.go_version(), golang.KUBERNETES, debian.SUITE, debian.NODE_SYSTEM.packages, *ours, *code, *modules)
    name = f"kanarya/node:{golang.KUBERNETES}-{key}"
    if output(["docker", "image", "inspect", name], env=docker) is not None:
        return name
    with step("making the node image"), tempfile.TemporaryDirectory(dir=settings.cache) as scratch:
        _import(settings, name, system, _overlay(settings, programs, system, Path(scratch)), docker)
    # The ones before it are of no use any more; one that a cluster still runs on stays until the next time.
    for old in (output(["docker", "image", "ls", "-q", "--filter", f"before={name}", "kanarya/node"], env=docker) or "").split():
        output(["docker", "image", "rm", old], env=docker)
    return name


def control_plane_images(programs: Path, system: Path, pause: Path) -> list[Image]:
    """Return the images that kubeadm's manifests name, each holding one static program."""
    images = [
        Image(f"{REGISTRY}/{name}:{golang.KUBERNETES}", (File(programs / name, f"/usr/local/bin/{name}"),))
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ]
    return [
        *images,
        Image(f"{REGISTRY}/etcd:{ETCD}", (File(programs / "etcd", "/usr/local/bin/etcd"),)),
        Image(f"{REGISTRY}/coredns/coredns:{COREDNS}", (File(programs / "coredns", "/coredns"),), entrypoint=("/coredns",)),
        Image(f"{REGISTRY}/pause:{PAUSE}", (File(pause, "/pause"),), entrypoint=("/pause",)),
        Image(f"{REGISTRY}/kube-proxy:{golang.KUBERNETES}", _kube_proxy(programs, system)),
    ]


def _kube_proxy(programs: Path, system: Path) -> tuple[archive.Entry, ...]:
    """Return kube-proxy with iptables and every library that iptables or one of its modules loads.

    A module is loaded when a rule first needs it: with one endpoint per Service nothing is missed, with two the rules of every Service
    stop being written if the library of the `statistic` module is not there.
    """
    modules = sorted((system / XTABLES_MODULES).glob("*.so"))
    in_system = [f"/{XTABLES_MODULES}/{module.name}" for module in modules]
    libraries = libraries_of(system, [XTABLES, *in_system])
    return (
        File(programs / "kube-proxy", "/usr/local/bin/kube-proxy"),
        File(system / XTABLES.lstrip("/"), XTABLES),
        *(File(module, target, mode=0o644) for module, target in zip(modules, in_system, strict=True) if not module.is_symlink()),
        *(Link(target, module.readlink().name) for module, target in zip(modules, in_system, strict=True) if module.is_symlink()),
        *(File(inside(system, library), library) for library in libraries),
        *(Link(f"/usr/sbin/{name}", "xtables-nft-multi") for name in IPTABLES_NAMES),
        Folder("/tmp", mode=0o1777),
        Folder("/run"),
    )


def libraries_of(system: Path, programs: list[str]) -> list[str]:
    """Return the shared libraries that programs inside a root file system load."""
    listed = output(["chroot", system, "ldd", *programs])
    if listed is None:
        raise Unavailable(f"The libraries of {programs[0]} in {system} cannot be listed.")
    words = {word for line in listed.splitlines() if not line.endswith(":") for word in line.split()}
    return sorted(word for word in words if word.startswith("/"))


def inside(system: Path, path: str) -> Path:
    """Return where a path of the root file system lies here; links in it are followed within that system."""
    found = output(["chroot", system, "realpath", path])
    if found is None:
        raise Unavailable(f"{path} is missing in {system}.")
    return system / found.strip().lstrip("/")


def _overlay(settings: Settings, programs: Path, system: Path, scratch: Path) -> Path:
    """Gather what the node has beyond Debian's packages."""
    overlay = scratch / "overlay"
    pause = scratch / "pause"
    logged(["gcc", "-Os", "-static", "-s", "-o", pause, NODE / "pause.c"], settings.logs / "node-image.log", timeout=60)
    images = overlay / "kind" / "images"
    images.mkdir(parents=True)
    for image in control_plane_images(programs, system, pause):
        file = images / f"{image.name.rpartition('/')[2].partition(':')[0]}.tar"
        archive.write(image, file, scratch)
    (overlay / "kind" / "version").write_text(golang.KUBERNETES)
    (overlay / "etc/kubernetes/manifests").mkdir(parents=True)
    for source, target, mode in (
        (NODE / "entrypoint", "usr/local/bin/entrypoint", 0o755),
        (NODE / "containerd.toml", "etc/containerd/config.toml", 0o644),
        (NODE / "bridge.conflist", "etc/cni/net.d/10-bridge.conflist", 0o644),
        (programs / "kubeadm", "usr/bin/kubeadm", 0o755),
        (programs / "kubelet", "usr/bin/kubelet", 0o755),
        (settings.bin / "kubectl", "usr/bin/kubectl", 0o755),
    ):
        (overlay / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, overlay / target)
        (overlay / target).chmod(mode)
    return overlay


def _import(settings: Settings, name: str, system: Path, overlay: Path, docker: dict[str, str]) -> None:
    """Give the engine the image: the Debian system and the overlay in one stream.

    The engine refuses a stream that names a path twice, so a folder comes from the system and a file from the overlay if both have it.
    """
    paths = [path.relative_to(overlay) for path in sorted(overlay.rglob("*"))]
    files = [path for path in paths if not (overlay / path).is_dir()]
    folders = [path for path in paths if (overlay / path).is_dir() and not (system / path).is_dir()]
    replaced = [f"./{path}" for path in files if (system / path).exists()]
    # Without the dot that the system's paths begin with: tar applies its patterns to these, too.
    tar = [*debian.tar_of(system, replaced), "-C", str(overlay), "--no-recursion", *map(str, folders + files)]
    importer = ["docker", "import", "--change", 'ENTRYPOINT ["/usr/local/bin/entrypoint"]', "-", name]
    piped(tar, importer, settings.logs / "node-image.log", docker)
