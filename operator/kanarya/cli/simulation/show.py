"""Tables on the terminal, and progress beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

WIDTH = 140
"""Columns of a table that goes to a file."""


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Give a table as text, below its title."""
    drawn = Table(box=None, pad_edge=False)
    for heading in headings:
        drawn.add_column(heading, overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    out = StringIO()
    Console(file=out, width=WIDTH, no_color=True, markup=False, emoji=False).print(drawn)
    return f"{title}\n" + "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far it is, on standard error and only on a terminal; gives what to call with each bit that is done."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)
