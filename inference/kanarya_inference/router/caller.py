"""The client of one live request, and whether it is still there."""

from __future__ import annotations

import asyncio

from kanarya_inference.deadline import Deadline
from kanarya_inference.serving import Receive

CHECK_AFTER_SECONDS = 0.05
"""Most answers are back before it is worth a task to listen for the client."""


class Caller:
    """Listens for the client's departure while attempts run, and ends the one under way when it comes.

    `reading`: somebody else still reads the request's body, and will `listen` when it is whole, or say that the client did `leave`.
    """

    def __init__(self, receive: Receive, *, reading: bool = False) -> None:
        self.gone = False
        self._receive = receive
        self._deadline: asyncio.Timeout | Deadline | None = None
        self._listening: asyncio.Task[None] | None = None
        self._closed = False
        self._timer = None if reading else asyncio.get_running_loop().call_later(CHECK_AFTER_SECONDS, self.listen)

    def may_end(self, deadline: asyncio.Timeout | Deadline | None) -> None:
        """Name the deadline that the client's departure brings forward; None when no attempt runs."""
        self._deadline = deadline
        if deadline is not None and self.gone:
            deadline.reschedule(asyncio.get_running_loop().time())

    def until(self, when: float | None) -> None:
        """Move the deadline of the attempt under way, in the loop's time; a client that is gone has ended it."""
        if self._deadline is not None and not self.gone and not self._deadline.expired():
            self._deadline.reschedule(when)

    def listen(self) -> None:
        """Listen from here on, unless there is nobody any more who wants to know."""
        if not self._closed and self._listening is None:
            self._listening = asyncio.create_task(self._until_gone())

    def leave(self) -> None:
        """End the attempt under way: the client has gone."""
        self.until(asyncio.get_running_loop().time())
        self.gone = True

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._listening is not None:
            self._listening.cancel()

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.leave()
