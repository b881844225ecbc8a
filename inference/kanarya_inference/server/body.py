"""Reading a request's body within bounds of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

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

    What is too large by less than 4 MiB is read to its end and thrown away: an answer in the middle of a body makes many
    clients see a reset connection instead of the 413.
    """
    chunks: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(seconds):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise BodyError(None, "the client went away")
                chunk = message.get("body", b"")
                size += len(chunk)
                more = message.get("more_body", False)
                if size <= MAX_BODY_BYTES:
                    chunks.append(chunk)
                elif more and size > MAX_BODY_BYTES + MAX_DISCARDED_BYTES:
                    break
    except TimeoutError:
        raise BodyError(408, f"the body did not arrive within {seconds:g} seconds", close=True) from None
    if size > MAX_BODY_BYTES:
        raise BodyError(413, f"the body has more than {MAX_BODY_BYTES} bytes: send one snapshot", close=more)
    return b"".join(chunks)
