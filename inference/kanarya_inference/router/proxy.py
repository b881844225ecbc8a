"""The live path: one ASGI app that splits requests by weight and passes answers on."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable
from random import Random

from kanarya_inference.router.budget import RetryBudget
from kanarya_inference.router.caller import Caller
from kanarya_inference.router.endpoints import Endpoint
from kanarya_inference.router.headers import TRACK_HEADER, answer_headers, request_headers
from kanarya_inference.router.mirror import Mirror
from kanarya_inference.router.model import FALLBACK_OUTCOMES, Attempt, Request
from kanarya_inference.router.plan import Plan, Track
from kanarya_inference.router.upstream import Upstream
from kanarya_inference.router.windows import Clock
from kanarya_inference.serving import Receive, Scope, Send, answer

BODY_LIMIT = 10 * 2**20

_STATUS_WITHOUT_ANSWER = {"client_error": 400, "unreachable": 503, "timeout": 504, "server_error": 502}


class BodyTooLarge(Exception):  # noqa: N818
    """The request's body is above the limit."""


class ClientGone(Exception):  # noqa: N818
    """The client left before its request was complete."""


class Proxy:
    """Answers live requests. `plan` gives what is in force at the moment, None before anything is."""

    def __init__(
        self, plan: Callable[[], Plan | None], upstream: Upstream, mirror: Mirror, *, random: Random, clock: Clock, request_seconds: float
    ) -> None:
        self._plan = plan
        self._upstream = upstream
        self._mirror = mirror
        self._random = random
        self._request_seconds = request_seconds
        self._budget = RetryBudget(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; after the answer is out, hand a copy to the mirror."""
        if scope["type"] != "http":
            return None
        try:
            async with asyncio.timeout(self._request_seconds):
                body = await read_body(scope, receive)
        except BodyTooLarge:
            return await _refuse(send, 413, f"the body is longer than {BODY_LIMIT} bytes")
        except TimeoutError:
            return await _refuse(send, 408, "the request's body did not arrive in time")
        except ClientGone:
            return None
        target = _target(scope)
        plan = self._plan()
        if target is None:
            return await _refuse(send, 400, "the request's target is not a path")
        if plan is None:
            return await _refuse(send, 503, "the router has no route yet")
        request = Request(scope["method"], target, request_headers(scope), body)
        caller = Caller(receive)
        try:
            track, attempt, first = await self._answer(plan, request, caller)
        finally:
            caller.close()
        if attempt.outcome == "cancelled" or caller.gone:
            return None
        await _pass_on(send, request.method, track, attempt)
        live_track = track if first is None else plan.candidate
        self._mirror.offer(plan, live_track, request, first or attempt, fell_back=first is not None)
        return None

    async def _answer(self, plan: Plan, request: Request, caller: Caller) -> tuple[Track, Attempt, Attempt | None]:
        """Find an answer: the track that gave it, the attempt, and the candidate's failed attempt when stable answered for it."""
        self._budget.request()
        track = plan.choose(self._random)
        attempt = await self._attempt(plan, track, request, caller)
        if track is plan.stable:
            return track, await self._again_on_stable(plan, request, caller, attempt), None
        falls_back = attempt.outcome in FALLBACK_OUTCOMES[plan.settings.fallback] and not caller.gone
        # What was never sent is no second try: stable, sized for all traffic, gets a request that nobody else works on.
        if not falls_back or (attempt.sent and not self._budget.spend()):
            return track, attempt, None
        if track.series is not None:
            track.series.fallbacks[attempt.outcome].inc()
        rescue = await self._attempt(plan, plan.stable, request, caller)
        return plan.stable, await self._again_on_stable(plan, request, caller, rescue), attempt

    async def _again_on_stable(self, plan: Plan, request: Request, caller: Caller, attempt: Attempt) -> Attempt:
        """Try another ready pod of stable once when the first could not be reached: pods come and go while a version is promoted."""
        if attempt.outcome != "unreachable" or attempt.endpoint is None or caller.gone:
            return attempt
        if plan.stable.pool.pick(attempt.endpoint) is None:
            return attempt
        return await self._attempt(plan, plan.stable, request, caller, avoid=attempt.endpoint)

    async def _attempt(self, plan: Plan, track: Track, request: Request, caller: Caller, avoid: Endpoint | None = None) -> Attempt:
        attempt = await self._upstream.attempt(request, track.pool, seconds=self._request_seconds, caller=caller, avoid=avoid)
        if attempt.outcome == "cancelled" and attempt.seconds >= plan.mirror_seconds:
            # Otherwise a hung candidate would stay without a fault as long as its clients are impatient.
            track.observe("live", dataclasses.replace(attempt, outcome="timeout"))
        else:
            track.observe("live", attempt)
        return attempt


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """Read the whole body of a request.

    Raises
    ------
    BodyTooLarge
        It is, or says it is, above `BODY_LIMIT` bytes.
    ClientGone
        The client left first.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > BODY_LIMIT:
            raise BodyTooLarge
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        if not message.get("more_body") and not body:
            return bytes(_limited(chunk))
        body += chunk
        _limited(body)
        if not message.get("more_body"):
            return bytes(body)


def _limited(body: bytes | bytearray) -> bytes | bytearray:
    if len(body) > BODY_LIMIT:
        raise BodyTooLarge
    return body


def _target(scope: Scope) -> str | None:
    try:
        path = scope["raw_path"].decode("ascii")
        query = scope["query_string"].decode("ascii")
    except UnicodeDecodeError:
        return None
    if not path.startswith("/"):
        return None
    return f"{path}?{query}" if query else path


async def _pass_on(send: Send, method: str, track: Track, attempt: Attempt) -> None:
    reply = attempt.answer
    if reply is None:
        status = _STATUS_WITHOUT_ANSWER[attempt.outcome]
        return await _refuse(send, status, f"{track.name}: {attempt.problem}", (TRACK_HEADER, track.name.encode()))
    headers = answer_headers(reply, method, track.name)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
    return None


async def _refuse(send: Send, status: int, problem: str, *headers: tuple[bytes, bytes]) -> None:
    await answer(send, status, json.dumps({"error": problem}).encode(), headers=headers)
