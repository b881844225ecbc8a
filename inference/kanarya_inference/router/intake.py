"""Taking a client's request in, whole, within limits of size, time and memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from kanarya_inference.router.headers import request_headers
from kanarya_inference.router.model import Request
from kanarya_inference.serving import Receive, Scope, Send, answer

BODY_LIMIT = 10 * 2**20
HELD_LIMIT = 64 * 2**20
"""Of all bodies together that live requests hold: many slow uploads at once must not cost the pod its memory."""


class BodyTooLarge(Exception):  # noqa: N818
    """The request's body is above the limit."""


class ClientGone(Exception):  # noqa: N818
    """The client left before its request was complete."""


class Overloaded(Exception):  # noqa: N818
    """The requests under way hold all the memory there is for bodies."""


class Intake:
    """Reads requests, and refuses those that cannot be taken."""

    def __init__(self, *, seconds: float, body_limit: int = BODY_LIMIT, held_limit: int = HELD_LIMIT) -> None:
        self._seconds = seconds
        self._body_limit = body_limit
        self._held_limit = max(held_limit, body_limit)
        self._held = 0

    @contextlib.asynccontextmanager
    async def request(self, scope: Scope, receive: Receive, send: Send) -> AsyncIterator[Request | None]:
        """Give the whole request, or None when it was answered with why not, or the client has gone. It is held until the exit."""
        held = _Held(self)
        try:
            yield await self._read(scope, receive, send, held)
        finally:
            held.release()

    async def _read(self, scope: Scope, receive: Receive, send: Send, held: _Held) -> Request | None:
        target = _target(scope)
        if target is None:
            await refuse(send, 400, "the request's target is not a path")
            return None
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._body(scope, receive, held)
        except BodyTooLarge:
            await refuse(send, 413, f"the body is longer than {self._body_limit} bytes")
        except Overloaded:
            await refuse(send, 503, "the requests under way are too large: try again", (b"retry-after", b"1"))
        except TimeoutError:
            await refuse(send, 408, "the request's body did not arrive in time", (b"connection", b"close"))
        except ClientGone:
            pass
        else:
            return Request(scope["method"], target, request_headers(scope), body)
        return None

    async def _body(self, scope: Scope, receive: Receive, held: _Held) -> bytes:
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > self._body_limit:
                raise BodyTooLarge
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            if len(body) + len(chunk) > self._body_limit:
                raise BodyTooLarge
            held.add(len(chunk))
            if not message.get("more_body"):
                return bytes(body + chunk) if body else chunk
            body += chunk

    def hold(self, count: int) -> None:
        """Account for so many bytes, which may be negative; raises `Overloaded`."""
        if count > 0 and self._held + count > self._held_limit:
            raise Overloaded
        self._held += count


class _Held:
    """What one request holds."""

    __slots__ = ("_bytes", "_intake")

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._bytes = 0

    def add(self, count: int) -> None:
        self._intake.hold(count)
        self._bytes += count

    def release(self) -> None:
        self._intake.hold(-self._bytes)


async def refuse(send: Send, status: int, problem: str, *headers: tuple[bytes, bytes]) -> None:
    """Answer with a sentence."""
    await answer(send, status, json.dumps({"error": problem}).encode(), headers=headers)


def _target(scope: Scope) -> str | None:
    try:
        path = scope["raw_path"].decode("ascii")
        query = scope["query_string"].decode("ascii")
    except UnicodeDecodeError:
        return None
    if not path.startswith("/"):
        return None
    return f"{path}?{query}" if query else path
