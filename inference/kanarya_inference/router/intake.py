"""Taking a client's request in within limits of size, time and memory: whole, or with a body that is sent on while it arrives."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from time import monotonic
from typing import Self

from kanarya_inference.router.headers import request_headers
from kanarya_inference.router.model import Request
from kanarya_inference.router.uploads import BodyTooLarge, ClientGone, Upload
from kanarya_inference.router.windows import Clock
from kanarya_inference.serving import Receive, Scope, Send, answer

BODY_LIMIT = 10 * 2**20
COPIED_LIMIT = 10 * 2**20
"""A body up to this is held whole when it is to be copied."""
REPEATABLE_LIMIT = 2**20
"""A body up to this is held whole in any case: until one of it was sent, another pod can be tried."""
HELD_LIMIT = 64 * 2**20
"""Of all bodies together that live requests hold: many slow uploads at once must not cost the pod its memory."""
STREAM_SECONDS = 300.0
"""Longest time of a body, or an answer, that is passed on while it arrives."""


class Overloaded(Exception):  # noqa: N818
    """The requests under way hold all the memory there is for bodies."""


class Intake:
    """Reads requests, and refuses those that cannot be taken.

    Parameters
    ----------
    seconds
        longest time for a body that is held, and between two pieces of one that is not.
    body_limit, copied_limit, held_limit
        bytes: of a body, of a body that is held to be copied, and of everything held at a time.
    stream_seconds
        longest time for a body that is not held.
    """

    def __init__(
        self,
        *,
        seconds: float,
        body_limit: int = BODY_LIMIT,
        copied_limit: int = COPIED_LIMIT,
        held_limit: int = HELD_LIMIT,
        stream_seconds: float = STREAM_SECONDS,
        clock: Clock = monotonic,
    ) -> None:
        self._seconds = seconds
        self._body_limit = body_limit
        self.copied_limit = min(copied_limit, body_limit)
        self._held_limit = max(held_limit, self.copied_limit)
        self._stream_seconds = stream_seconds
        self._clock = clock
        self._held = 0

    @contextlib.asynccontextmanager
    async def request(self, scope: Scope, receive: Receive, send: Send, *, hold: int | None = None) -> AsyncIterator[Request | None]:
        """Give the request, or None when it was answered with why not, or the client has gone. It is held until the exit.

        Its body is whole, unless it is longer than `hold` bytes, or there is no memory left to hold it: then it is an `upload`. With
        `hold` None it is always whole, and refused when it is longer than what is held to be copied.
        """
        with Held(self) as held:
            yield await self._read(scope, receive, send, held, hold)

    def holding(self) -> Held:
        """Account for more bytes that are held for a request, until the exit."""
        return Held(self)

    async def _read(self, scope: Scope, receive: Receive, send: Send, held: Held, hold: int | None) -> Request | None:
        target = _target(scope)
        if target is None:
            await refuse(send, 400, "the request's target is not a path")
            return None
        limit = self.copied_limit if hold is None else self._body_limit
        length = _declared(scope)
        try:
            async with asyncio.timeout(self._seconds):
                body, whole, fits = await _read_body(receive, held, limit, hold, length)
        except BodyTooLarge as problem:
            await refuse(send, 413, str(problem))
        except Overloaded:
            await refuse(send, 503, "the requests under way are too large: try again", (b"retry-after", b"1"))
        except TimeoutError:
            await refuse(send, 408, "the request's body did not arrive in time", (b"connection", b"close"))
        except ClientGone:
            pass
        else:
            upload = None if fits else self._upload(receive, body, limit, held, whole=whole)
            return _request(scope, target, body, upload, length, passes=hold is not None)
        return None

    def _upload(self, receive: Receive, first: bytes, limit: int, held: Held, *, whole: bool) -> Upload:
        until = asyncio.get_running_loop().time() + self._stream_seconds
        return Upload(
            receive, first, whole=whole, limit=limit, seconds=self._seconds, until=until, clock=self._clock, sent_first=held.release
        )

    def hold(self, count: int) -> None:
        """Account for so many bytes, which may be negative; raises `Overloaded`."""
        if count > 0 and self._held + count > self._held_limit:
            raise Overloaded
        self._held += count


class Held:
    """What one request holds, until its exit."""

    __slots__ = ("_bytes", "_intake")

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._bytes = 0

    def __enter__(self) -> Self:
        """Hold nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hold nothing any more."""
        self.release()

    def add(self, count: int) -> None:
        """Hold so many bytes more. Raises `Overloaded`."""
        self._intake.hold(count)
        self._bytes += count

    def fits(self, count: int) -> bool:
        """Hold so many bytes more if there is memory for them."""
        try:
            self.add(count)
        except Overloaded:
            return False
        return True

    def release(self) -> None:
        """Hold nothing any more."""
        self._intake.hold(-self._bytes)
        self._bytes = 0


async def refuse(send: Send, status: int, problem: str, *headers: tuple[bytes, bytes]) -> None:
    """Answer with a sentence."""
    await answer(send, status, json.dumps({"error": problem}).encode(), headers=headers)


async def _read_body(receive: Receive, held: Held, limit: int, hold: int | None, length: int | None) -> tuple[bytes, bool, bool]:
    """Give the body, or what has arrived of it when it cannot be held; whether it is whole; and whether it can be held.

    Nothing is read of a body whose declared `length` says that it cannot.
    """
    if length is not None and length > limit:
        raise BodyTooLarge(f"the body is longer than {limit} bytes")
    if hold is not None and length is not None and length > hold:
        return b"", False, False
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        whole, size = not message.get("more_body"), len(body) + len(chunk)
        if size > limit:
            raise BodyTooLarge(f"the body is longer than {limit} bytes")
        fits = hold is None or size <= hold
        try:
            held.add(len(chunk))
        except Overloaded:
            if hold is None:
                raise
            fits = False
        if whole or not fits:
            return bytes(body + chunk) if body else chunk, whole, fits
        body += chunk


def _request(scope: Scope, target: str, body: bytes, upload: Upload | None, length: int | None, *, passes: bool) -> Request:
    headers = request_headers(scope)
    if upload is not None:
        body = b""
        if length is not None:
            headers.append(("content-length", str(length)))
    # To a client of HTTP/1.0 the end of the connection is the end of an answer without a length, broken off or not.
    return Request(scope["method"], target, headers, body, upload, passes and scope.get("http_version") != "1.0")


def _declared(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None


def _target(scope: Scope) -> str | None:
    try:
        path = scope["raw_path"].decode("ascii")
        query = scope["query_string"].decode("ascii")
    except UnicodeDecodeError:
        return None
    if not path.startswith("/"):
        return None
    return f"{path}?{query}" if query else path
