"""The live path: one ASGI app that splits requests by weight and passes answers on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from random import Random

from kanarya_inference.router.budget import RetryBudget
from kanarya_inference.router.caller import Caller
from kanarya_inference.router.endpoints import Endpoint
from kanarya_inference.router.headers import TRACK_HEADER, answer_headers
from kanarya_inference.router.intake import Intake, refuse
from kanarya_inference.router.mirror import Mirror
from kanarya_inference.router.model import FALLBACK_OUTCOMES, Attempt, Request
from kanarya_inference.router.plan import Plan, Track
from kanarya_inference.router.upstream import Upstream
from kanarya_inference.router.windows import Clock
from kanarya_inference.serving import Receive, Scope, Send

STATUS_WITHOUT_ANSWER = {"client_error": 400, "unreachable": 503, "timeout": 504, "server_error": 502}


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """How a live request was answered: by which track, and the candidate's failed attempt when stable answered for it."""

    track: Track
    attempt: Attempt
    first: Attempt | None = None

    def first_track(self, plan: Plan) -> Track:
        """Return the track that was drawn."""
        return self.track if self.first is None else plan.candidate


class Proxy:
    """Answers live requests. `plan` gives what is in force at the moment, None before anything is."""

    def __init__(
        self,
        plan: Callable[[], Plan | None],
        upstream: Upstream,
        mirror: Mirror,
        intake: Intake,
        *,
        random: Random,
        clock: Clock,
        request_seconds: float,
    ) -> None:
        self._plan = plan
        self._upstream = upstream
        self._mirror = mirror
        self._intake = intake
        self.random = random
        self._request_seconds = request_seconds
        self._budget = RetryBudget(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; after the answer is out, hand a copy to the mirror."""
        if scope["type"] != "http":
            return
        async with self._intake.request(scope, receive, send) as request:
            if request is not None:
                await self._serve(request, receive, send)

    async def _serve(self, request: Request, receive: Receive, send: Send) -> None:
        plan = self._plan()
        if plan is None:
            return await refuse(send, 503, "the router has no route yet")
        caller = Caller(receive)
        try:
            served = await self.answer(plan, plan.choose(self.random, request), request, caller)
        finally:
            caller.close()
        if served.attempt.outcome == "cancelled" or caller.gone:
            return None
        await _pass_on(send, request.method, served)
        self._mirror.offer(plan, served.first_track(plan), request, served.first or served.attempt, fell_back=served.first is not None)
        return None

    async def answer(self, plan: Plan, track: Track, request: Request, caller: Caller | None, *, counted: bool = True) -> Served:
        """Find an answer to a live request that was drawn for `track`, and count every attempt unless `counted` is False."""
        if counted:
            self._budget.request()
        attempt = await self._attempt(plan, track, request, caller, counted=counted)
        if track is plan.stable:
            return Served(track, await self._again_on_stable(plan, request, caller, attempt, counted=counted))
        falls_back = attempt.outcome in FALLBACK_OUTCOMES[plan.settings.fallback] and not _gone(caller)
        # What was never sent is no second try: stable, sized for all traffic, gets a request that nobody else works on.
        if not falls_back or (attempt.sent and not self._budget.spend()):
            return Served(track, attempt)
        if track.series is not None and counted:
            track.series.fallbacks[attempt.outcome].inc()
        rescue = await self._attempt(plan, plan.stable, request, caller, counted=counted)
        return Served(plan.stable, await self._again_on_stable(plan, request, caller, rescue, counted=counted), first=attempt)

    async def _again_on_stable(self, plan: Plan, request: Request, caller: Caller | None, attempt: Attempt, *, counted: bool) -> Attempt:
        """Try another ready pod of stable once when the first could not be reached: pods come and go while a version is promoted."""
        if attempt.outcome != "unreachable" or attempt.endpoint is None or _gone(caller):
            return attempt
        if plan.stable.pool.pick(attempt.endpoint) is None:
            return attempt
        return await self._attempt(plan, plan.stable, request, caller, avoid=attempt.endpoint, counted=counted)

    async def _attempt(
        self, plan: Plan, track: Track, request: Request, caller: Caller | None, *, avoid: Endpoint | None = None, counted: bool
    ) -> Attempt:
        attempt = await self._upstream.attempt(request, track.pool, seconds=self._request_seconds, caller=caller, avoid=avoid)
        if not counted:
            return attempt
        if attempt.outcome == "cancelled" and attempt.seconds >= plan.mirror_seconds:
            # Otherwise a hung candidate would stay without a fault as long as its clients are impatient.
            track.observe("live", dataclasses.replace(attempt, outcome="timeout"))
        else:
            track.observe("live", attempt)
        return attempt


def _gone(caller: Caller | None) -> bool:
    return caller is not None and caller.gone


async def _pass_on(send: Send, method: str, served: Served) -> None:
    track, reply = served.track.name, served.attempt.answer
    if reply is None:
        status = STATUS_WITHOUT_ANSWER[served.attempt.outcome]
        return await refuse(send, status, f"{track}: {served.attempt.problem}", (TRACK_HEADER, track.encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": answer_headers(reply, method, track)})
    await send({"type": "http.response.body", "body": reply.body})
    return None
