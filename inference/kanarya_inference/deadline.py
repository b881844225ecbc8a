"""How long others may take, told apart from how long this process did not run."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

PIECES = 4


class Deadline:
    """Ends what runs inside it with `TimeoutError` when `seconds` are over.

    They are counted in pieces, each from when the event loop noticed the end of the last. After a stall the loop runs all timers that
    are due before anything that takes several turns, such as a connection the pod has long accepted: with a single timer, a process
    that got no core for so long would blame every pod it waits for. So a stall costs a piece, however long it was.
    """

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)
        self._piece = seconds / PIECES
        self._left = PIECES
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._next_piece()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()
        await self._timeout.__aexit__(kind, error, trace)

    def reschedule(self, when: float | None) -> None:
        """Move the end to one moment, in the loop's time; None waits without limit."""
        self._stop()
        self._timeout.reschedule(when)

    def expired(self) -> bool:
        """Tell whether the time is over."""
        return self._timeout.expired()

    def _next_piece(self) -> None:
        if self._left == 0:
            self._timeout.reschedule(self._loop.time())
            return
        self._left -= 1
        self._timer = self._loop.call_later(self._piece, self._next_piece)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
