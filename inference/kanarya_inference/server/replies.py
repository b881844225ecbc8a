"""Answers, and the exception that is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from kanarya_inference.server.counts import Status
from kanarya_inference.serving import UNPROCESSED_HEADER

Header = tuple[bytes, bytes]
JSON = (b"content-type", b"application/json")
encode = msgspec.json.Encoder().encode


class Reply(msgspec.Struct):
    """A whole answer; its length is added when it is sent."""

    status: int
    body: bytes
    headers: Sequence[Header] = (JSON,)


class Refused(Exception):  # noqa: N818 -- reads as what happened
    """The request is answered with an error; the message is for whoever sent it.

    Parameters
    ----------
    counted
        the `status` under which a prediction request is counted.
    """

    def __init__(self, status: int, message: str, *, headers: Sequence[Header] = (), counted: Status = "invalid") -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.counted: Status = counted


def not_ready(problem: str) -> Refused:
    """Return the refusal of a server without a model: nobody has begun to work on the request."""
    return Refused(503, f"not ready: {problem}", headers=[(UNPROCESSED_HEADER, b"not-ready")], counted="error")


def document(content: Any, headers: Sequence[Header] = (), status: int = 200) -> Reply:
    """Answer with a JSON document."""
    return Reply(status, encode(content), (JSON, *headers))


def error(status: int, message: str, headers: Sequence[Header] = ()) -> Reply:
    """Answer with `{"error": message}`."""
    return Reply(status, encode({"error": message}), (JSON, *headers))
