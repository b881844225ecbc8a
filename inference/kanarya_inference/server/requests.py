"""A request to one of the paths that are not predictions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from kanarya_inference.server.body import Receive, read_body
from kanarya_inference.server.replies import Refused, Reply
from kanarya_inference.serving import Scope

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """A request and, for paths with a version in them, that version."""

    scope: Scope
    receive: Receive
    version: str | None = None

    async def body(self) -> bytes:
        """Return the body. Raises `BodyError`."""
        return await read_body(self.receive)

    @property
    def client(self) -> str:
        """Who asks, for the audit."""
        client = self.scope.get("client")
        return str(client[0]) if client else "unknown"

    def must_control(self, allowed: bool) -> None:
        """Raise `Refused` (403) unless the server lets clients change its models."""
        if not allowed:
            raise Refused(403, "models are changed only when the server is started with --model-control")


Handler = Callable[[Request], Awaitable[Reply]]


def decode(body: bytes, kind: type[T]) -> T:
    """Decode a body. Raises `Refused`: 400 when it is not JSON, 422 when it is another document than was meant."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise Refused(422, f"the body is not what this path takes: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(400, "the body is not JSON") from None
