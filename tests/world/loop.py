"""Virtual time: an event loop whose clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class Stalled(Exception):  # noqa: N818 -- reads as what happened
    """Nothing is scheduled any more, and the main task waits: it would wait for ever."""


class _Jump(selectors.BaseSelector):
    """Selects nothing, at once; the time it should have waited has passed."""

    def __init__(self) -> None:
        self.now = 0.0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, 0, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stalled("nothing is left that could happen")
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, which begins at 0. No sockets, no threads, no signals."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a virtual loop of its own; whatever still runs in the end is cancelled.

    An error in a callback or in a forgotten task is raised here: it is a fault of the world itself.
    """
    loop = VirtualLoop()
    faults: list[BaseException] = []
    loop.set_exception_handler(lambda _, context: faults.append(context.get("exception") or RuntimeError(context["message"])))
    try:
        result = loop.run_until_complete(main)
        if faults:
            raise faults[0]
        return result
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()
