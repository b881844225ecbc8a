"""Who may use the API server next, when many rollouts want to at once: docs/decisions/0013.

A write that lowers a weight takes no turn. All else does, so that such a write meets no more than a few calls of others.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

STUCK_SECONDS = 1.0
"""After this a turn is another's, though its holder has not finished."""


class Turns:
    """Lets `count` through at a time; of those who wait, the one whose patience ends first goes first.

    Nobody waits for ever: whoever came with much patience is not overtaken any more once it is used up.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    @asynccontextmanager
    async def take(self, patience: float) -> AsyncIterator[None]:
        """Wait for a turn and hold it for a block. `patience`: seconds in which others may come later and still go first."""
        await self._wait(patience)
        passed_on = False

        def give_up() -> None:
            nonlocal passed_on
            passed_on = True
            self._pass_on()

        # Whoever waits for an API server that does not answer uses nothing that others could need.
        timer = asyncio.get_running_loop().call_later(STUCK_SECONDS, give_up)
        try:
            yield
        finally:
            timer.cancel()
            if not passed_on:
                self._pass_on()

    async def _wait(self, patience: float) -> None:
        if self._free:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (loop.time() + patience, next(self._numbers), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it had come, and nobody is there to use it
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
