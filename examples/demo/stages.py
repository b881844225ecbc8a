"""Stages of the demo: numbered, timed, each with its progress on the terminal."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Timer

from examples import lab
from examples.demo.text import clock


class StageFailed(Exception):  # noqa: N818 -- reads as what happened
    """A stage could not be done; the message is a sentence for the person at the terminal."""


@dataclass
class Stages:
    """Says what is being done, how far the demo is, and how long each stage took.

    Attributes
    ----------
    total
        Number of stages, for the counter.
    write
        Takes one line of text.
    """

    total: int
    write: Callable[[str], None] = lambda line: print(line, flush=True)
    now: Callable[[], float] = time.monotonic
    durations: list[tuple[str, float]] = field(default_factory=list)
    began: float = field(init=False)

    def __post_init__(self) -> None:
        """Take the time."""
        self.began = self.now()

    def say(self, text: str) -> None:
        """Write a line with the time since the demo began."""
        self.write(f"[{clock(self.now() - self.began)}] {text}")

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Number and time a stage."""
        number = f"{len(self.durations) + 1:2d}/{self.total}"
        self.say(f"{number} {title}")
        began = self.now()
        yield
        seconds = self.now() - began
        self.durations.append((title, seconds))
        self.say(f"{number} done in {seconds:.1f} s")

    def cluster(self, command: str, seconds: float) -> None:
        """Run a command of `python -m tests.cluster`, its lines indented under the stage."""
        process = subprocess.Popen(  # noqa: S603 -- our own module
            [sys.executable, "-m", "tests.cluster", command], cwd=lab.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        late = Timer(seconds, process.terminate)
        late.daemon = True
        late.start()
        last = ""
        try:
            for line in process.stdout or ():
                last = line.rstrip()
                self.write(f"          | {last}")
            code = process.wait(timeout=30)
        finally:
            over = not late.is_alive()
            late.cancel()
            if process.poll() is None:
                process.kill()
                process.wait(timeout=30)
        if over:
            raise StageFailed(f"`python -m tests.cluster {command}` did not end within {seconds:.0f} s; its last line was: {last}")
        if code:
            raise StageFailed(f"`python -m tests.cluster {command}` ended with {code}: {last}")
