"""One attempt on one track: a request sent to one of its pods."""

from __future__ import annotations

from io import BytesIO

import aiohttp

from kanarya_inference.deadline import Deadline
from kanarya_inference.router import client
from kanarya_inference.router.answers import Rest, UnusableAnswer, check, is_short, read_long
from kanarya_inference.router.caller import Caller
from kanarya_inference.router.endpoints import Endpoint, Pool
from kanarya_inference.router.model import Answer, Attempt, Request
from kanarya_inference.router.uploads import Upload
from kanarya_inference.router.windows import Clock
from kanarya_inference.serving import UNPROCESSED_HEADER

LARGE_BODY = 2**20
BROKEN_ANSWER = "connection broke in the middle of the answer"


class _Unreachable(Exception):  # noqa: N818 -- these name what happened
    """No whole answer came because there was no connection, or it broke."""


class _Unprocessed(_Unreachable):
    """Nobody has begun to work on the request: no connection was made, or the pod says so."""


class _Stale(_Unreachable):
    """A kept-alive connection had been closed by the pod before our request reached it: nobody's fault."""


class _Unsendable(Exception):  # noqa: N818
    """The request cannot be put on the wire as it is: the client's fault."""


class Upstream:
    """The connections to the pods of both tracks. Open it inside a running loop, close it at the end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept = client.session(keep_alive=True)
        self._fresh = client.session(keep_alive=False)

    async def close(self) -> None:
        """Close every connection."""
        await self._kept.close()
        await self._fresh.close()

    async def attempt(
        self, request: Request, pool: Pool, *, seconds: float, caller: Caller | None = None, avoid: Endpoint | None = None
    ) -> Attempt:
        """Send the request to one endpoint of the pool and wait for the answer, `seconds` at most.

        The answer is whole, or, where the request allows it, has a `rest` that is still to come. For a body that is sent while it
        arrives, `seconds` are those without a piece of it being taken, and the time that the client took for it is left out.

        A request that met a kept-alive connection the pod had just closed is sent once more on a new one, and only that counts.
        Never raises for what the pod or the network does; when `caller` goes away the attempt ends as `cancelled`.
        """
        started = self._clock()
        endpoint = pool.pick(avoid)
        if endpoint is None:
            return Attempt("unreachable", 0.0, problem="no ready endpoint", sent=False)
        try:
            async with Deadline(seconds) as deadline:
                if caller is not None:
                    caller.may_end(deadline)
                try:
                    # What is sent while it arrives cannot be sent again: it never goes where it might meet a closing connection.
                    answer = await self._exchange(self._kept if request.upload is None else self._fresh, endpoint, request)
                except _Stale:
                    endpoint = pool.pick(endpoint) or endpoint
                    answer = await self._exchange(self._fresh, endpoint, request)
        except (TimeoutError, _Unreachable, _Unsendable, UnusableAnswer) as error:
            failed = _failed(error, self._seconds(started, request), endpoint, request.upload, caller)
            if failed.outcome == "unreachable":
                pool.rest(endpoint)
            return failed
        finally:
            if caller is not None:
                caller.may_end(None)
        return Attempt(answer.outcome, self._seconds(started, request), answer, endpoint)

    def _seconds(self, started: float, request: Request) -> float:
        return self._clock() - started - (0.0 if request.upload is None else request.upload.waited)

    async def _exchange(self, session: aiohttp.ClientSession, endpoint: Endpoint, request: Request) -> Answer:
        client.on_new_connection.set(False)
        answered, rest = False, None
        endpoint.outstanding += 1
        try:
            response = await session.request(
                request.method,
                client.url(endpoint.host, endpoint.port, request.target),
                headers=request.headers,
                data=_payload(request),
                allow_redirects=False,
            )
            answered = True
            try:
                check(response)
                unprocessed = response.status == 503 and UNPROCESSED_HEADER.decode() in response.headers
                short = is_short(response)
                if request.passes and not short and not unprocessed:
                    rest = Rest(response, endpoint)
                    return Answer(response.status, response.raw_headers, None, rest)
                body = await response.read() if short else await read_long(response)
                if unprocessed:
                    raise _Unprocessed("the pod is not ready")
                return Answer(response.status, response.raw_headers, body)
            finally:
                if rest is None:
                    response.release()
                    await response.wait_for_close()
        except aiohttp.ClientConnectorError as error:
            raise _Unprocessed("connection refused") from error
        except aiohttp.ConnectionTimeoutError as error:
            raise _Unprocessed("no connection in time") from error
        except aiohttp.ClientPayloadError as error:
            raise _Unreachable(BROKEN_ANSWER) from error
        except aiohttp.ClientConnectionError as error:
            if not client.on_new_connection.get() and not answered and not _has_begun(error):
                raise _Stale("connection closed before the request") from error
            raise _Unreachable("connection reset") from error
        except ValueError as error:  # invalid URLs and headers; never the answer's
            raise _Unsendable("the request is not valid HTTP") from error
        except aiohttp.ClientError as error:
            raise UnusableAnswer("the answer is not HTTP") from error
        finally:
            endpoint.outstanding -= 1


def _failed(error: Exception, seconds: float, endpoint: Endpoint, upload: Upload | None, caller: Caller | None) -> Attempt:
    if upload is not None and upload.problem is not None:  # whatever followed from it
        return Attempt("cancelled", seconds, endpoint=endpoint, problem=str(upload.problem))
    if isinstance(error, TimeoutError):
        gone = caller is not None and caller.gone
        if gone:
            return Attempt("cancelled", seconds, endpoint=endpoint, problem="the client went away")
        return Attempt("timeout", seconds, endpoint=endpoint, problem="no answer in time")
    if isinstance(error, _Unreachable):
        return Attempt("unreachable", seconds, endpoint=endpoint, problem=str(error), sent=not isinstance(error, _Unprocessed))
    return Attempt("client_error" if isinstance(error, _Unsendable) else "server_error", seconds, endpoint=endpoint, problem=str(error))


def _payload(request: Request) -> bytes | BytesIO | Upload | None:
    """Bytes as they are, but large ones as a file: the client then writes them piece by piece."""
    if request.upload is not None:
        return request.upload
    if len(request.body) > LARGE_BODY:
        return BytesIO(request.body)
    return request.body or None


def _has_begun(error: Exception) -> bool:
    """Tell whether some of the answer's head had arrived when the connection broke."""
    return isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str | None)
