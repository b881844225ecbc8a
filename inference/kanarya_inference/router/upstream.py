"""One attempt on one track: the HTTP client towards the pods."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from contextvars import ContextVar
from functools import lru_cache
from io import BytesIO
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from kanarya_inference.router.caller import Caller
from kanarya_inference.router.endpoints import Endpoint, Pool
from kanarya_inference.router.model import Answer, Attempt, Request
from kanarya_inference.router.windows import Clock
from kanarya_inference.serving import UNPROCESSED_HEADER

CONNECT_SECONDS = 1.0
IDLE_SECONDS = 4.0
"""Idle connections are given up before the usual servers (5 s) close them, so that few requests meet a closing one."""
ANSWER_LIMIT = 10 * 2**20
CHUNK = 64 * 2**10
LARGE_BODY = 2**20

_CONTROL_CHARACTER = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class _Unreachable(Exception):  # noqa: N818 -- these name what happened
    """No whole answer came because there was no connection, or it broke."""


class _Unprocessed(_Unreachable):
    """Nobody has begun to work on the request: no connection was made, or the pod says so."""


class _Stale(_Unreachable):
    """A kept-alive connection had been closed by the pod before our request reached it: nobody's fault."""


class _Unsendable(Exception):  # noqa: N818
    """The request cannot be put on the wire as it is: the client's fault."""


class _Unusable(Exception):  # noqa: N818
    """The pod answered something that cannot be passed on."""


class Upstream:
    """The connections to the pods of both tracks. Open it inside a running loop, close it at the end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept = _session(keep_alive=True)
        self._fresh = _session(keep_alive=False)

    async def close(self) -> None:
        """Close every connection."""
        await self._kept.close()
        await self._fresh.close()

    async def attempt(
        self, request: Request, pool: Pool, *, seconds: float, caller: Caller | None = None, avoid: Endpoint | None = None
    ) -> Attempt:
        """Send the request to one endpoint of the pool and wait for the whole answer, `seconds` at most.

        A request that met a kept-alive connection the pod had just closed is sent once more on a new one, and only that counts.
        Never raises for what the pod or the network does; when `caller` goes away the attempt ends as `cancelled`.
        """
        started = self._clock()
        endpoint = pool.pick(avoid)
        if endpoint is None:
            return Attempt("unreachable", 0.0, problem="no ready endpoint", sent=False)
        try:
            async with asyncio.timeout(seconds) as deadline:
                if caller is not None:
                    caller.may_end(deadline)
                try:
                    answer = await self._exchange(self._kept, endpoint, request)
                except _Stale:
                    endpoint = pool.pick(endpoint) or endpoint
                    answer = await self._exchange(self._fresh, endpoint, request)
        except TimeoutError:
            gone = caller is not None and caller.gone
            outcome, problem = ("cancelled", "the client went away") if gone else ("timeout", "no answer in time")
            return Attempt(outcome, self._clock() - started, endpoint=endpoint, problem=problem)  # type: ignore[arg-type]
        except _Unreachable as error:
            pool.rest(endpoint)
            sent = not isinstance(error, _Unprocessed)
            return Attempt("unreachable", self._clock() - started, endpoint=endpoint, problem=str(error), sent=sent)
        except _Unsendable as error:
            return Attempt("client_error", self._clock() - started, endpoint=endpoint, problem=str(error))
        except _Unusable as error:
            return Attempt("server_error", self._clock() - started, endpoint=endpoint, problem=str(error))
        finally:
            if caller is not None:
                caller.may_end(None)
        return Attempt(answer.outcome, self._clock() - started, answer, endpoint)

    async def _exchange(self, session: aiohttp.ClientSession, endpoint: Endpoint, request: Request) -> Answer:
        _on_new_connection.set(False)
        answered = False
        endpoint.outstanding += 1
        try:
            async with session.request(
                request.method,
                _url(endpoint.host, endpoint.port, request.target),
                headers=request.headers,
                data=_payload(request.body),
                allow_redirects=False,
            ) as response:
                answered = True
                _check(response)
                body = await _whole(response)
                if response.status == 503 and UNPROCESSED_HEADER.decode() in response.headers:
                    raise _Unprocessed("the pod is not ready")
                return Answer(response.status, response.raw_headers, body)
        except aiohttp.ClientConnectorError as error:
            raise _Unprocessed("connection refused") from error
        except aiohttp.ConnectionTimeoutError as error:
            raise _Unprocessed("no connection in time") from error
        except aiohttp.ClientPayloadError as error:
            raise _Unreachable("connection broke in the middle of the answer") from error
        except aiohttp.ClientConnectionError as error:
            if not _on_new_connection.get() and not answered and not _has_begun(error):
                raise _Stale("connection closed before the request") from error
            raise _Unreachable("connection reset") from error
        except ValueError as error:  # invalid URLs and headers; never the answer's
            raise _Unsendable("the request is not valid HTTP") from error
        except aiohttp.ClientError as error:
            raise _Unusable("the answer is not HTTP") from error
        finally:
            endpoint.outstanding -= 1


def _payload(body: bytes) -> bytes | BytesIO | None:
    """Bytes as they are, but large ones as a file: the client then writes them piece by piece."""
    if len(body) > LARGE_BODY:
        return BytesIO(body)
    return body or None


def _check(response: aiohttp.ClientResponse) -> None:
    """Refuse a head that the client's parser lets through and that no server may pass on."""
    if not 200 <= response.status < 600:
        response.close()
        raise _Unusable(f"{response.status} is no status of an answer")
    if _CONTROL_CHARACTER.search(b"".join([value for _, value in response.raw_headers])):
        raise _Unusable("a header has a control character in it")


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    length = response.content_length
    if length is not None and length <= ANSWER_LIMIT:
        return await response.read()
    body = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK):
        body += chunk
        if len(body) > ANSWER_LIMIT:
            response.close()
            raise _Unusable(f"the answer is longer than {ANSWER_LIMIT} bytes")
    return bytes(body)


def _session(*, keep_alive: bool) -> aiohttp.ClientSession:
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
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
    )


def _has_begun(error: Exception) -> bool:
    """Tell whether some of the answer's head had arrived when the connection broke."""
    return isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str | None)


@lru_cache(maxsize=4096)
def _url(host: str, port: int, target: str) -> URL:
    return URL(f"http://{f'[{host}]' if ':' in host else host}:{port}{target}", encoded=True)


_on_new_connection: ContextVar[bool] = ContextVar("_on_new_connection", default=False)


class _Connector(aiohttp.TCPConnector):
    """Says whether a request made a connection of its own. A trace says it too, at the cost of six signals for each request."""

    async def _create_connection(self, *args: Any) -> Any:
        _on_new_connection.set(True)
        return await super()._create_connection(*args)


class _PlainRequest(aiohttp.ClientRequest):
    """A request with the client's headers alone. The client's own way to leave its headers out sorts and copies them each time."""

    _NONE_ADDED = CIMultiDict[None]([("Content-Type", None)])

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:  # noqa: ARG002 -- the base's signature
        self._skip_auto_headers = self._NONE_ADDED
