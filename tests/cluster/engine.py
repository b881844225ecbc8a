"""The container engine: the machine's own where it can pull images, else a Docker engine that this tool starts and stops."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.cluster import debian
from tests.cluster.run import output, say, step, tail, wait_until
from tests.cluster.settings import NODE, PUBLISHED_PYTHON_IMAGE, Settings, Unavailable

PROBE_SECONDS = 20
START_SECONDS = 60
STOP_SECONDS = 40
KILL_SECONDS = 5


def published_images_in_reach() -> bool:
    """Tell whether a Docker engine answers that can pull images, so that nothing needs to be built from source."""
    if output(["docker", "version", "--format", "{{.Server.Version}}"], timeout=5) is None:
        return False
    # Asks the registry for a list of layers: a pull's first question, without the download.
    probe = ["docker", "manifest", "inspect", PUBLISHED_PYTHON_IMAGE]
    return output(probe, timeout=PROBE_SECONDS, env={"DOCKER_CLI_EXPERIMENTAL": "enabled"}) is not None


def is_running(settings: Settings) -> bool:
    """Tell whether the tool's own engine answers."""
    if not settings.socket.exists():
        return False
    return output(["docker", "-H", f"unix://{settings.socket}", "version", "--format", "{{.Server.Version}}"], timeout=10) is not None


def ensure_running(settings: Settings) -> bool:
    """Start the tool's own engine unless it runs; return whether it had to be started."""
    if is_running(settings):
        return False
    if os.geteuid() != 0:
        raise Unavailable("No Docker engine with an image registry answers, and only root can start one of its own.")
    debian.ensure_installed(settings)
    _clear_leftovers(settings)
    with step("starting the Docker engine"):
        _start(settings)
    return True


def stop(settings: Settings) -> None:
    """Stop the tool's own engine, and nothing else."""
    pid = _pid_of(_pidfile(settings), settings)
    if pid is not None:
        with step("stopping the Docker engine"):
            _end(pid, polite=True)
    _clear_leftovers(settings)


def _start(settings: Settings) -> None:
    # Before dockerd starts, or it makes the firewall drop what pods forward.
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
    folder = settings.engine
    folder.mkdir(parents=True, exist_ok=True)
    settings.logs.mkdir(parents=True, exist_ok=True)
    log = settings.logs / "dockerd.log"
    # A copy: the engine outlives this program, and may outlive the checkout that it is in.
    runtime = shutil.copy(NODE / "runc-within", folder)
    # A file of its own, empty: the machine's daemon.json is for the machine's engine.
    config = folder / "daemon.json"
    config.write_text("{}\n")
    with log.open("w") as out:
        process = subprocess.Popen(
            [
                "dockerd",
                f"--config-file={config}",
                f"--data-root={folder / 'data'}",
                f"--exec-root={_exec_root(settings)}",
                f"--pidfile={_pidfile(settings)}",
                f"--host=unix://{settings.socket}",
                f"--add-runtime=within={runtime}",
                "--default-runtime=within",
                "--storage-driver=overlay2",
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            # A session of its own: it outlives this program, and an interrupt at the keyboard does not reach it.
            start_new_session=True,
        )
    try:
        wait_until(
            lambda: process.poll() is not None or is_running(settings), timeout=START_SECONDS, what="The Docker engine did not start"
        )
    except Unavailable as slow:
        raise Unavailable(f"{slow} Its log is {log}.") from None
    if process.poll() is not None:
        say(tail(log))
        raise Unavailable(f"The Docker engine ended with {process.returncode}; its log is {log}.")


def _clear_leftovers(settings: Settings) -> None:
    """Remove what an engine that was killed leaves behind and that keeps the next one from starting.

    A pid in a stale file may by now belong to any other process, and both dockerd and the containerd under it trust it.
    """
    for process in _processes_of(settings):
        # By force: the first process of a container does not hear a polite signal, and nothing here is worth a wait.
        _end(process, polite=False)
    _pidfile(settings).unlink(missing_ok=True)
    settings.socket.unlink(missing_ok=True)
    _unmount_below(settings.engine)
    shutil.rmtree(_exec_root(settings), ignore_errors=True)


def _unmount_below(folder: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
        output(["umount", "--lazy", mount])


def _processes_of(settings: Settings) -> list[int]:
    """Return what still runs of the engine: dockerd, its containerd and shims, and the processes of its containers.

    A container outlives an engine that was killed, keeps its address on the bridge, and would answer in the next one's place.
    """
    containers = settings.engine / "data" / "containers"
    ids = [folder.name for folder in containers.iterdir()] if containers.is_dir() else []
    pids = map(int, filter(str.isdigit, os.listdir("/proc")))  # noqa: PTH208 - names are all that is wanted
    return [pid for pid in pids if _belongs(pid, settings) or _runs_in(pid, ids)]


def _runs_in(pid: int, containers: list[str]) -> bool:
    groups = _read_process(pid, "cgroup")
    return any(container in groups for container in containers)


def _belongs(pid: int, settings: Settings) -> bool:
    command = _read_process(pid, "cmdline")
    program = command.split("\0", 1)[0].rsplit("/", 1)[-1]
    return program in {"dockerd", "containerd", "containerd-shim-runc-v2", "docker-proxy"} and str(settings.engine) in command


def _read_process(pid: int, file: str) -> str:
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _pid_of(file: Path, settings: Settings) -> int | None:
    try:
        pid = int(file.read_text())
    except (OSError, ValueError):
        return None
    return pid if _belongs(pid, settings) else None


def _end(pid: int, *, polite: bool) -> None:
    """End a process: politely first, if it is worth it, then by force."""
    signals = [(signal.SIGTERM, STOP_SECONDS)] if polite else []
    for number, seconds in (*signals, (signal.SIGKILL, KILL_SECONDS)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not _alive(pid):
                return
            time.sleep(0.1)


def _alive(pid: int) -> bool:
    # A zombie is over: only its parent has not looked yet.
    return _read_process(pid, "stat").rpartition(")")[2].split()[:1] not in ([], ["Z"])


def _pidfile(settings: Settings) -> Path:
    return settings.engine / "docker.pid"


def _exec_root(settings: Settings) -> Path:
    return settings.engine / "exec"
