"""Running other programs: bounded in time, quiet on success, and with the end of their output on failure."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.cluster.settings import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

STARTED = time.monotonic()
TAIL_LINES = 25


def say(text: str) -> None:
    """Print one line of progress, with the time since the start."""
    print(f"[{time.monotonic() - STARTED:6.1f} s] {text}", file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce a step, and say how long it took once it is over."""
    say(f"{text} …")
    began = time.monotonic()
    yield
    say(f"{text}: {time.monotonic() - began:.1f} s")


def tail(log: Path, began: int = 0) -> str:
    """Return the last lines of a log, none from before a position in it."""
    if not log.is_file():
        return ""
    written = log.read_bytes()[began:].decode(errors="replace")
    return "\n".join(written.splitlines()[-TAIL_LINES:])


def environment_with(extra: Mapping[str, str] | None) -> dict[str, str]:
    """Return this process's environment with some variables set."""
    return {**os.environ, **(extra or {})}


def logged(
    args: Sequence[str | Path],
    log: Path,
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run a program with its output in a log; when it fails, show the end of the log and give up."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [str(arg) for arg in args]
    with log.open("a") as out:
        out.write(f"\n$ {shlex.join(command)}\n")
        out.flush()
        began = out.tell()
        try:
            code = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=timeout, env=environment_with(env), cwd=cwd, check=False
            ).returncode
        except FileNotFoundError:
            raise Unavailable(f"{command[0]} is not installed, and the tool needs it.") from None
        except subprocess.TimeoutExpired:
            code = None
    if code == 0:
        return
    print(tail(log, began), file=sys.stderr)
    ended = f"ended with {code}" if code is not None else f"did not end within {timeout:.0f} s"
    raise Unavailable(f"{' '.join(command[:2])} {ended}; the whole output is in {log}.")


def piped(source: Sequence[str], sink: Sequence[str], log: Path, env: Mapping[str, str], *, timeout: float = 300) -> None:
    """Stream one program's output into another, and give up unless both succeed."""
    log.parent.mkdir(parents=True, exist_ok=True)
    variables = environment_with(env)
    with log.open("a") as out:
        out.write(f"\n$ {shlex.join(source)} | {shlex.join(sink)}\n")
        out.flush()
        began = out.tell()
        writer = subprocess.Popen(source, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=out, env=variables)
        assert writer.stdout is not None
        try:
            code = subprocess.run(sink, stdin=writer.stdout, stdout=out, stderr=out, env=variables, timeout=timeout, check=False).returncode
        except subprocess.TimeoutExpired:
            code = None
        # Or the writer would wait for ever for a reader that has stopped.
        writer.stdout.close()
        try:
            written = writer.wait(timeout=30)
        except subprocess.TimeoutExpired:
            writer.kill()
            written = None
    if code != 0 or written != 0:
        print(tail(log, began), file=sys.stderr)
        raise Unavailable(f"{sink[0]} {sink[1]} could not take the output of {source[0]} ({written}, {code}); see {log}.")


def output(
    args: Sequence[str | Path],
    *,
    timeout: float = 30,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
) -> str | None:
    """Return what a program prints, or None if it is missing, fails or takes too long."""
    try:
        done = subprocess.run(
            [str(arg) for arg in args],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment_with(env),
            cwd=cwd,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def wait_until(holds: Callable[[], bool], *, timeout: float, what: str, every: float = 0.3) -> None:
    """Wait until something holds; give up, saying what was awaited, when it takes too long."""
    end = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > end:
            raise Unavailable(f"{what} within {timeout:.0f} s.")
        time.sleep(every)
