"""A request's body that is sent on while it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from kanarya_inference.router.caller import Caller
from kanarya_inference.router.windows import Clock
from kanarya_inference.serving import Receive

PIECE = 64 * 2**10


class BodyTooLarge(Exception):  # noqa: N818 -- these name what happened
    """The request's body is above the limit."""


class BodyLate(Exception):  # noqa: N818
    """The client did not go on with its body in time."""


class ClientGone(Exception):  # noqa: N818
    """The client left before its request was complete."""


class Upload:
    """What has arrived of a body, then the rest as it comes, once: a body of which a part was sent cannot be sent again.

    Ends with one of the exceptions above, which `problem` keeps, when the client does not send what it should. `waited` are the
    seconds in which it was the client that kept everybody waiting.

    Parameters
    ----------
    first, whole
        what has arrived, and whether that is all of it.
    limit
        bytes of the whole body.
    seconds, until
        longest time between two pieces, and the loop's time at which all of it must be there.
    sent_first
        called when what had arrived is sent, and not held any more.
    """

    def __init__(
        self,
        receive: Receive,
        first: bytes,
        *,
        whole: bool = False,
        limit: int,
        seconds: float,
        until: float,
        clock: Clock,
        sent_first: Callable[[], None] = lambda: None,
    ) -> None:
        self.begun = False
        self.whole = whole
        self.problem: BodyTooLarge | BodyLate | ClientGone | None = None
        self.waited = 0.0
        self.caller: Caller | None = None
        self._receive = receive
        self._first = first
        self._sent = 0
        self._room = limit - len(first)
        self._limit = limit
        self._seconds = seconds
        self._until = until
        self._clock = clock
        self._sent_first = sent_first

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Begin."""
        return self

    async def __anext__(self) -> bytes:
        """Give the next piece, never an empty one."""
        self.begun = True
        if self._first:
            piece = self._first[self._sent : self._sent + PIECE]
            self._sent += len(piece)
            if self._sent == len(self._first):
                self._first = b""
                self._sent_first()
            self._pod_may_take(self._seconds)
            return piece
        piece = b""
        while not piece and not self.whole:
            self._pod_may_take(None)
            piece = await self._next()
        self._pod_may_take(self._seconds)
        if not piece:
            raise StopAsyncIteration
        return piece

    async def _next(self) -> bytes:
        began = self._clock()
        try:
            async with asyncio.timeout_at(min(asyncio.get_running_loop().time() + self._seconds, self._until)):
                message = await self._receive()
        except TimeoutError:
            self.problem = BodyLate("the request's body did not arrive in time")
            raise self.problem from None
        finally:
            self.waited += self._clock() - began
        if message["type"] == "http.disconnect":
            if self.caller is not None:
                self.caller.leave()
            self.problem = ClientGone("the client went away")
            raise self.problem
        piece: bytes = message.get("body", b"")
        self._room -= len(piece)
        if self._room < 0:
            self.problem = BodyTooLarge(f"the body is longer than {self._limit} bytes")
            raise self.problem
        if not message.get("more_body"):
            self.whole = True
            if self.caller is not None:
                self.caller.listen()
        return piece

    def _pod_may_take(self, seconds: float | None) -> None:
        """Say how long the pod may take from here on; without limit while the client is waited for, whose limit is another."""
        if self.caller is not None:
            now = asyncio.get_running_loop().time()
            self.caller.until(None if seconds is None else max(now, min(now + seconds, self._until)))
