"""uvicorn's HTTP/1.1 connection, with limits that uvicorn does not have: on the size of a request's head and the time it takes."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Literal, Protocol, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_LIMIT = 64 * 2**10
"""Bytes of a request line and its headers. Servers behind us take 8 to 64 KiB."""
HEADER_COUNT = 200
HEAD_SECONDS = 10.0
"""Longest time from a connection's begin, or a head's first byte, to its last: a client that sends a byte now and then would keep a
connection for ever."""

_UPGRADE_HEADERS = frozenset({b"upgrade", b"http2-settings"})
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class _HeadTooLargeError(Exception):
    """Ends parsing; the connection is closing by then."""


class _WholeWrites:
    """A transport for answers whose head waits for the body.

    uvloop makes a system call of every write, and each wakes the client up: one for head and body together costs half.
    """

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1"):
            self._head = data
            self._loop.call_soon(self._flush)  # a body may be long in coming
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._head = b""
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


class Leaving(Protocol):
    """Says whether the server is on its way out."""

    @property
    def draining(self) -> bool:
        """True from then on."""


class GuardedProtocol(HttpToolsProtocol):
    """A connection whose client can be slow, endless or silent without costing more than a timer.

    While `drain` says that the server is leaving, every answer asks the client to give up the connection.
    """

    drain: ClassVar[Leaving | None] = None
    _place: Literal["between", "head", "body"] = "between"
    _began = False
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._answers = cast("asyncio.Transport", _WholeWrites(transport, self.loop))
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and see whether a head has become too long or is not complete yet."""
        if self.transport.is_closing():
            return  # what comes after a refusal is not for us to read
        before, self._began = self._place, False
        self._head_bytes += len(data)
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
            return
        if self._place == "head" and self._head_bytes > HEAD_LIMIT:
            self._refuse(_TOO_LARGE)
        elif self._place == "head" or (before == "between" and not self._began):
            self._arm()  # a line break before a head would else keep the connection for ever

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # The parser takes the rest for another protocol's. Java's HttpClient offers HTTP/2 so with its first request.
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise httptools.HttpParserError("CONNECT is for proxies")
        lines = [b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                tokens = (token.strip() for token in value.split(b","))
                value = b", ".join(token for token in tokens if token.lower() not in _UPGRADE_HEADERS)  # noqa: PLW2901
            if name not in _UPGRADE_HEADERS:
                lines.append(b"%s: %s" % (name, value))
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_message_begin(self) -> None:
        """Note that a head has begun."""
        self._place, self._began = "head", True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Pass a head on that is not too large."""
        if self.parser.should_upgrade():
            return  # it comes again
        self._place = "body"
        self._disarm()
        # The bytes counted may be of several pipelined requests: only when there are many is it worth to look.
        if self._head_bytes > HEAD_LIMIT or len(self.headers) > HEADER_COUNT:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > HEAD_LIMIT or len(self.headers) > HEADER_COUNT:
                self._refuse(_TOO_LARGE)
                raise _HeadTooLargeError
        self._head_bytes = 0
        super().on_headers_complete()
        self.cycle.transport = self._answers
        if self.drain is not None and self.drain.draining:
            self.leave()

    def leave(self) -> None:
        """Close the connection after the answer under way, and say so if it has not begun."""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Wait for the next request, without a time limit of ours: an idle connection is closed by uvicorn's."""
        if self.parser.should_upgrade():
            return
        self._place, self._head_bytes = "between", 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, unless the connection was refused already."""
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, and one whose client does not read its answer."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _arm(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._arm()  # an earlier request of this connection is being answered
        elif self._place == "head":
            self._refuse(_TOO_SLOW)
        else:
            # Nothing was asked: a client about to ask would take what we say for the answer.
            self.transport.close()

    def _refuse(self, answer: bytes) -> None:
        cycle: Any = self.cycle
        if not self.transport.is_closing():
            # In the middle of another request's answer there is nothing that can be said.
            if cycle is None or cycle.response_complete:
                self.transport.write(answer)
            self.transport.close()


def cut(receive: Any, *, stuck: bool = False) -> None:
    """Close the connection of the request that `receive` belongs to, in the middle of its answer, so that no client takes it for whole.

    What was sent before still arrives, unless the client is `stuck` and does not read. ASGI has no message for it: an application
    that just returns has uvicorn do the same, and write an error into the log.
    """
    cycle = getattr(receive, "__self__", None)
    if isinstance(cycle, RequestResponseCycle) and not cycle.response_complete:
        cycle.disconnected = True
        if stuck:
            cycle.transport.abort()
        else:
            cycle.transport.close()
