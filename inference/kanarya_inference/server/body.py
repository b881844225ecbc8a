"""Reading a request's body within bounds of size and time."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

MAX_BODY_BYTES = 1 << 20
MAX_DISCARDED_BYTES = 4 << 20
BODY_SECONDS = 10.0


class BodyError(Exception):
    """The body did not come whole.

    Parameters
    ----------
    status
        HTTP status of the answer; None when nobody waits for one.
    close
        the rest of the body is still on its way, so the connection cannot be used again.
    """

    def __init__(self, status: int | None, message: str, *, close: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.close = close


async def read_body(receive: Receive, seconds: float = BODY_SECONDS) -> bytes:
    """Return the body. Raises `BodyError`: too large (413), too slow (408), client gone (None).

    A body that is there already, as almost every one is, costs no timer: the first message is asked for by hand, and only if it
    has to be waited for does the clock run. What is too large by less than 4 MiB is read to its end and thrown away: an answer in
    the middle of a body makes many clients see a reset connection instead of the 413.
    """
    first = receive()
    if isinstance(first, Coroutine):
        try:
            waits_for = first.send(None)
        except StopIteration as done:
            message: Message = done.value
            body: bytes = message.get("body", b"")
            if message["type"] == "http.request" and not message.get("more_body", False) and len(body) <= MAX_BODY_BYTES:
                return body
            first = _known(message)
        else:
            first = _resumed(first, waits_for)
    return await _read_in_time(first, receive, seconds)


async def _read_in_time(first: Awaitable[Message], receive: Receive, seconds: float) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            message = await first
            while True:
                if message["type"] == "http.disconnect":
                    raise BodyError(None, "the client went away")
                chunk = message.get("body", b"")
                size += len(chunk)
                more = message.get("more_body", False)
                if size <= MAX_BODY_BYTES:
                    chunks.append(chunk)
                if not more or size > MAX_BODY_BYTES + MAX_DISCARDED_BYTES:
                    break
                message = await receive()
    except TimeoutError:
        raise BodyError(408, f"the body did not arrive within {seconds:g} seconds", close=True) from None
    if size > MAX_BODY_BYTES:
        raise BodyError(413, f"the body has more than {MAX_BODY_BYTES} bytes: send one snapshot", close=more)
    return b"".join(chunks)


async def _known(message: Message) -> Message:
    return message


@types.coroutine
def _resumed(coroutine: Coroutine[Any, Any, Message], waits_for: Any) -> Generator[Any, Any, Message]:
    """Go on with a coroutine that was begun by hand and waits for `waits_for`."""
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:  # noqa: BLE001 -- a cancellation is the coroutine's to handle
                waits_for = coroutine.throw(error)
            else:
                waits_for = coroutine.send(sent)
    except StopIteration as done:
        message: Message = done.value
        return message
