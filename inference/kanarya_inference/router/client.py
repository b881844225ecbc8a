"""The HTTP client's sessions: connections to pods that add nothing of their own to a request."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from kanarya_inference.deadline import Deadline

CONNECT_SECONDS = 1.25
"""Longer than the first second of TCP, after which it repeats a request to connect that was lost."""
IDLE_SECONDS = 4.0
"""Idle connections are given up before the usual servers (5 s) close them, so that few requests meet a closing one."""
READ_BUFFER = 64 * 2**10
"""The client stops reading from a pod when twice as much waits to be taken."""

on_new_connection: ContextVar[bool] = ContextVar("on_new_connection", default=False)
"""Whether the request under way made a connection of its own."""


def session(*, keep_alive: bool) -> aiohttp.ClientSession:
    """Make a session that adds nothing of its own to a request and waits without limit: the attempt has its own deadline."""
    connector = (
        _Connector(limit=0, keepalive_timeout=IDLE_SECONDS, happy_eyeballs_delay=None)
        if keep_alive
        else _Connector(limit=0, force_close=True, happy_eyeballs_delay=None)
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        request_class=_PlainRequest,
        read_bufsize=READ_BUFFER,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
    )


@lru_cache(maxsize=4096)
def url(host: str, port: int, target: str) -> URL:
    """Write the URL of a raw path and query on a pod."""
    return URL(f"http://{f'[{host}]' if ':' in host else host}:{port}{target}", encoded=True)


class _Connector(aiohttp.TCPConnector):
    """Says whether a request made a connection of its own. A trace says it too, at the cost of six signals for each request.

    The time for it is a deadline of ours: the client's own blames the pod for what this process has not come to.
    """

    async def _create_connection(self, *args: Any) -> Any:
        on_new_connection.set(True)
        async with Deadline(CONNECT_SECONDS):
            return await super()._create_connection(*args)


class _PlainRequest(aiohttp.ClientRequest):
    """A request with the client's headers alone. The client's own way to leave its headers out sorts and copies them each time."""

    _NONE_ADDED = CIMultiDict[None]([("Content-Type", None)])

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:  # noqa: ARG002 -- the base's signature
        self._skip_auto_headers = self._NONE_ADDED
