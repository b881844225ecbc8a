"""The images that run in the cluster: the project's own from the Dockerfile, and Prometheus."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.cluster import archive, debian, engine, golang, kind, machine
from tests.cluster.archive import File, Folder, Image
from tests.cluster.cached import key_of
from tests.cluster.run import logged, output, piped, say, step
from tests.cluster.settings import (
    CLUSTER,
    INFERENCE_IMAGE,
    NODE,
    OPERATOR_IMAGE,
    PROMETHEUS_IMAGE,
    PUBLISHED_PROMETHEUS_IMAGE,
    PUBLISHED_PYTHON_IMAGE,
    PYTHON_IMAGE,
    REPOSITORY,
    Settings,
    Unavailable,
)

TARGETS = {"operator": OPERATOR_IMAGE, "inference": INFERENCE_IMAGE}
BUILD_SECONDS = 1500
KEY_LABEL = "dev.kanarya.tests/key"
NOBODY = "65534"
PYTHON_NAMES = ("python", "python3")


def build(settings: Settings) -> None:
    """Build the project's images from the Dockerfile, and get the ones that they and the tests need."""
    docker = docker_environment(settings)
    own = engine.is_running(settings)
    python = ensure_python_image(settings, docker) if own else PUBLISHED_PYTHON_IMAGE
    if own:
        ensure_prometheus_image(settings, docker)
    elif not has_image(PROMETHEUS_IMAGE, docker):
        log = settings.logs / "docker-pull.log"
        with step("pulling Prometheus"):
            logged(["docker", "pull", PUBLISHED_PROMETHEUS_IMAGE], log, timeout=300, env=docker)
        logged(["docker", "tag", PUBLISHED_PROMETHEUS_IMAGE, PROMETHEUS_IMAGE], log, timeout=30, env=docker)
    # BuildKit where the machine's Docker brings it: a plugin that Debian's engine lacks.
    buildkit = "1" if output(["docker", "buildx", "version"], env=docker) is not None and not own else "0"
    with machine.prepared():
        for target, image in TARGETS.items():
            with step(f"building {image}"):
                logged(
                    [
                        *("docker", "build", "--target", target, "--tag", image, "--network", "host"),
                        *("--build-arg", f"PYTHON_IMAGE={python}", "."),
                    ],
                    settings.logs / f"docker-build-{target}.log",
                    timeout=BUILD_SECONDS,
                    env={**docker, "DOCKER_BUILDKIT": buildkit},
                    cwd=REPOSITORY,
                )
    # Stages without a name are the builder's cache, so only those that no recent build used go.
    output(["docker", "image", "prune", "--force", "--filter", "until=24h"], timeout=120, env=docker)


def load(settings: Settings) -> None:
    """Put the images into the cluster's node; one that is there already is left alone."""
    docker = docker_environment(settings)
    node = f"{CLUSTER}-control-plane"
    present = images_on_node(output(["docker", "exec", node, "ctr", "-n", "k8s.io", "images", "ls"], env=docker) or "")
    for image in (*TARGETS.values(), PROMETHEUS_IMAGE):
        identity = output(["docker", "image", "inspect", "-f", "{{.Id}}", image], env=docker)
        if identity is None:
            raise Unavailable(f"{image} is not built; run `python -m tests.cluster build` first.")
        if identity.strip() in present.get(image, ()):
            say(f"{image} is in the cluster already")
            continue
        with step(f"loading {image}"):
            load_into_node(settings, node, image, docker)


def load_into_node(settings: Settings, node: str, image: str, docker: dict[str, str]) -> None:
    """Stream an image from the engine into the node's containerd.

    As `kind load` does, without the archive on disk in between; the label lets the next run see which image it is.
    """
    identity = (output(["docker", "image", "inspect", "-f", "{{.Id}}", image], env=docker) or "").strip()
    importer = ["docker", "exec", "-i", node, "ctr", "-n", "k8s.io", "images", "import", "--snapshotter", "overlayfs", "-"]
    piped(["docker", "save", image], importer, settings.logs / "load.log", docker)
    reference = f"docker.io/{image}"
    label = ["docker", "exec", node, "ctr", "-n", "k8s.io", "images", "label", reference, f"{KEY_LABEL}={identity}"]
    logged(label, settings.logs / "load.log", timeout=30, env=docker)


def images_on_node(listed: str) -> dict[str, set[str]]:
    """Read `ctr images ls`: which of our images are there, and the engine's ids they were loaded from."""
    found: dict[str, set[str]] = {}
    for line in listed.splitlines()[1:]:
        words = line.split()
        if not words:
            continue
        ids = {label.partition("=")[2] for label in words[-1].split(",") if label.startswith(f"{KEY_LABEL}=")}
        found.setdefault(words[0].removeprefix("docker.io/"), set()).update(ids)
    return found


def ensure_python_image(settings: Settings, docker: dict[str, str]) -> str:
    """Return the name of a Python base image made of Debian packages, which stands in for the published one."""
    key = key_of(debian.SUITE, debian.PYTHON_SYSTEM.packages, debian.LEFT_OUT, PYTHON_NAMES)
    if label_of(PYTHON_IMAGE, docker) == key:
        return PYTHON_IMAGE
    system = debian.ensure_root(settings, debian.PYTHON_SYSTEM)
    # The published image's pip installs where it is told and its interpreter is also called `python`: so do these.
    for guard in system.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        guard.unlink()
    for name in PYTHON_NAMES:
        link = system / "usr/local/bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to("/usr/bin/python3")
    with step("making the Python base image"):
        importer = ["docker", "import", "--change", f"LABEL {KEY_LABEL}={key}", "--change", f"ENV {archive.PATH_VARIABLE}"]
        tar = debian.tar_of(system)
        piped(tar, [*importer, "--change", 'CMD ["python3"]', "-", PYTHON_IMAGE], settings.logs / "python-image.log", docker)
    return PYTHON_IMAGE


def ensure_prometheus_image(settings: Settings, docker: dict[str, str]) -> None:
    """Make an image of Prometheus: one static program, and a folder that any user can write."""
    programs = settings.cache / "prometheus"
    golang.ensure_built(settings, (golang.PROMETHEUS,), programs)
    key = key_of(golang.go_version(), golang.PROMETHEUS.tags, NODE / golang.PROMETHEUS.module, Path(archive.__file__))
    if label_of(PROMETHEUS_IMAGE, docker) == key:
        return
    image = Image(
        PROMETHEUS_IMAGE,
        (
            File(programs / "prometheus", "/bin/prometheus"),
            Folder("/prometheus", mode=0o1777),
            Folder("/tmp", mode=0o1777),
        ),
        entrypoint=("/bin/prometheus",),
        user=NOBODY,
        labels=((KEY_LABEL, key),),
    )
    with step("making the Prometheus image"), tempfile.TemporaryDirectory(dir=settings.cache) as scratch:
        tar = Path(scratch) / "prometheus.tar"
        archive.write(image, tar, Path(scratch))
        logged(["docker", "load", "-i", tar], settings.logs / "prometheus-image.log", timeout=120, env=docker)


def docker_environment(settings: Settings) -> dict[str, str]:
    """Return the variables for docker, or give up if no engine answers."""
    docker = kind.environment(settings)
    if output(["docker", "version", "--format", "{{.Server.Version}}"], timeout=10, env=docker) is None:
        raise Unavailable("No Docker engine answers; run `python -m tests.cluster up` first.")
    return docker


def has_image(image: str, docker: dict[str, str]) -> bool:
    """Tell whether the engine has an image of this name."""
    return output(["docker", "image", "inspect", image], env=docker) is not None


def label_of(image: str, docker: dict[str, str]) -> str | None:
    """Return the key that an image was made with."""
    listed = output(["docker", "image", "inspect", "-f", "{{json .Config.Labels}}", image], env=docker)
    labels = json.loads(listed) if listed else None
    return labels.get(KEY_LABEL) if isinstance(labels, dict) else None
