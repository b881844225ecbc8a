"""The client of one live request, and whether it is still there."""

from __future__ import annotations

import asyncio

from kanarya_inference.serving import Receive

CHECK_AFTER_SECONDS = 0.05
"""Most answers are back before it is worth a task to listen for the client."""


class Caller:
    """Listens for the client's departure while attempts run, and ends the one under way when it comes."""

    def __init__(self, receive: Receive) -> None:
        self.gone = False
        self._receive = receive
        self._deadline: asyncio.Timeout | None = None
        self._listening: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(CHECK_AFTER_SECONDS, self._listen)

    def may_end(self, deadline: asyncio.Timeout | None) -> None:
        """Name the deadline that the client's departure brings forward; None when no attempt runs."""
        self._deadline = deadline

    def close(self) -> None:
        """Stop listening."""
        self._timer.cancel()
        if self._listening is not None:
            self._listening.cancel()

    def _listen(self) -> None:
        self._listening = asyncio.create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time())
