"""Where the live view goes: redrawn in place on a terminal, lines on anything else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from examples.demo.text import Look, brief, clock, frame

FULL_SECONDS = 10.0
"""Without a terminal the whole view is written this often."""


class Screen(Protocol):
    """Takes one look after another."""

    def show(self, look: Look) -> None:
        """Show a look."""


class Redrawn:
    """The view on a terminal; ages go on counting between two looks."""

    def __init__(self, title: str) -> None:
        self._title, self._began = title, time.monotonic()
        self._look: Look | None = None

    def show(self, look: Look) -> None:
        """Show a look from the next redraw on."""
        self._look = look

    def __rich__(self) -> Panel:
        """Give what rich draws."""
        text = "looking …" if self._look is None else frame(self._look, time.time())
        return Panel(Text(text), title=f"{self._title}   {clock(time.monotonic() - self._began).strip()}", title_align="left")


class Lines:
    """One line for each change, and now and then the whole view."""

    def __init__(self, say: Callable[[str], None], write: Callable[[str], None], now: Callable[[], float] = time.monotonic) -> None:
        self._say, self._write, self._now = say, write, now
        self._last, self._full_at = "", now() + FULL_SECONDS

    def show(self, look: Look) -> None:
        """Write what is new."""
        line, key = brief(look)
        if key != self._last:
            self._say(line)
            self._last = key
        if self._now() >= self._full_at:
            self._full_at = self._now() + FULL_SECONDS
            self._write("\n".join(f"          | {part}" for part in frame(look, time.time()).splitlines()))


@contextmanager
def screen(title: str, say: Callable[[str], None], write: Callable[[str], None]) -> Iterator[Screen]:
    """Give the screen that suits standard output."""
    console = Console()
    if not console.is_terminal:
        say(title)
        yield Lines(say, write)
        return
    view = Redrawn(title)
    with Live(view, console=console, refresh_per_second=4):
        yield view
