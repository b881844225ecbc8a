"""`python -m tests.cluster COMMAND`."""

from __future__ import annotations

import argparse
import fcntl
import shlex
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.cluster import engine, images, kind, prometheus
from tests.cluster.run import say
from tests.cluster.settings import Settings, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


def main(arguments: list[str]) -> int:
    """Run one command; say in one sentence why if it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in (
        ("up", "make the cluster running and Ready, or reuse it"),
        ("down", "delete the cluster and stop the engine; caches stay"),
        ("build", "build the project's images, and the ones they need"),
        ("load", "load those images into the cluster"),
        ("prometheus", "install Prometheus into the cluster"),
        ("env", "print export lines for a shell"),
    ):
        commands.add_parser(name, help=help_text)
    command = parser.parse_args(arguments).command
    try:
        settings = Settings.read()
        if command == "env":
            for name, value in sorted(kind.environment(settings).items()):
                print(f"export {name}={shlex.quote(value)}")
            return 0
        with only_one(settings):
            run(command, settings)
    except Unavailable as missing:
        print(missing, file=sys.stderr)
        return 1
    return 0


@contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Wait until no other call of this tool works on the same cache."""
    settings.cache.mkdir(parents=True, exist_ok=True)
    with (settings.cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another call of this tool to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command: str, settings: Settings) -> None:
    """Run one command."""
    match command:
        case "up":
            up(settings)
        case "down":
            down(settings)
        case "build" | "load" if settings.given_kubeconfig:
            say(f"nothing to {command}: images of a given cluster are the business of whoever gave it")
        case "build":
            images.build(settings)
        case "load":
            images.load(settings)
        case "prometheus":
            prometheus.install(settings)


def up(settings: Settings) -> None:
    """Make a cluster, or check the one that was given."""
    if settings.given_kubeconfig:
        kind.check_given(settings)
    else:
        kind.up(settings)


def down(settings: Settings) -> None:
    """Delete what `up` made."""
    if settings.given_kubeconfig:
        raise Unavailable("The cluster of KANARYA_KUBECONFIG was not made by this tool, so it is not deleted.")
    kind.delete(settings)
    engine.stop(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
