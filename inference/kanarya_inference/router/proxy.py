"""The live path: one ASGI app that splits requests by weight and passes answers on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from random import Random

from kanarya_inference.http_protocol import cut
from kanarya_inference.router.answers import KEPT_ANSWER
from kanarya_inference.router.budget import RetryBudget
from kanarya_inference.router.caller import Caller
from kanarya_inference.router.endpoints import Endpoint
from kanarya_inference.router.headers import TRACK_HEADER, answer_headers
from kanarya_inference.router.intake import REPEATABLE_LIMIT, STREAM_SECONDS, Intake, refuse
from kanarya_inference.router.mirror import Mirror
from kanarya_inference.router.model import FALLBACK_OUTCOMES, Attempt, Request
from kanarya_inference.router.passing import Limits, Passage
from kanarya_inference.router.plan import Plan, Track
from kanarya_inference.router.uploads import BodyLate, BodyTooLarge, Upload
from kanarya_inference.router.upstream import Upstream
from kanarya_inference.router.windows import Clock
from kanarya_inference.serving import Message, Receive, Scope, Send

STATUS_WITHOUT_ANSWER = {"client_error": 400, "unreachable": 503, "timeout": 504, "server_error": 502}
TOO_LONG_TO_HOLD = f"the answer is longer than {KEPT_ANSWER} bytes, and HTTP/1.0 cannot take it in parts"


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
        stream_seconds: float = STREAM_SECONDS,
    ) -> None:
        self._plan = plan
        self._upstream = upstream
        self._mirror = mirror
        self._intake = intake
        self.random = random
        self._clock = clock
        self._request_seconds = request_seconds
        self._limits = Limits(silence=request_seconds, whole=stream_seconds)
        self._budget = RetryBudget(clock)
        self._passing: set[Caller] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; after the answer is out, hand a copy to the mirror."""
        if scope["type"] != "http":
            return
        copied = self._mirror.chooses(self._plan(), scope["method"])
        hold = self._intake.copied_limit if copied else REPEATABLE_LIMIT
        async with self._intake.request(scope, receive, send, hold=hold) as request:
            if request is not None:
                await self._serve(request, receive, send, copied=copied)

    def end_streams(self) -> None:
        """Break off every request whose body, or answer, is passed on while it arrives."""
        for caller in self._passing:
            caller.leave()

    async def _serve(self, request: Request, receive: Receive, send: Send, *, copied: bool) -> None:
        plan = self._plan()  # not that of the request's begin: its body may have been long in coming
        if plan is None:
            return await refuse(send, 503, "the router has no route yet")
        caller = Caller(receive, reading=request.upload is not None)
        if request.upload is not None:
            request.upload.caller = caller
            self._passing.add(caller)
        try:
            served = await self.answer(plan, plan.choose(self.random, request), request, caller)
            rest = served.attempt.rest
            if rest is not None:
                kept = self._intake.holding() if copied else None
                passage = Passage(rest, send, caller, self._limits, kept=kept, clock=self._clock)
                served = await self._stream(plan, request, served, passage, receive)
        finally:
            caller.close()
            self._passing.discard(caller)
        if served.attempt.outcome == "cancelled" or caller.gone:
            return None if request.upload is None or rest is not None else await _refuse_upload(request.upload, caller, receive, send)
        if rest is None:
            await _pass_on(send, request.method, served)
        if copied:
            self._mirror.offer(plan, served.first_track(plan), request, served.first or served.attempt, fell_back=served.first is not None)
        return None

    async def _stream(self, plan: Plan, request: Request, served: Served, passage: Passage, receive: Receive) -> Served:
        """Pass an answer on while it arrives, and count the attempt as it ended."""
        attempt, track = served.attempt, served.track
        self._passing.add(passage.caller)
        passed = await passage.run(attempt, _head(attempt, request.method, track.name))
        if not passed.complete:
            cut(receive, stuck=passed.stuck)
        attempt = passed.attempt
        if request.upload is not None and request.upload.problem is not None:  # whatever followed from it
            attempt = dataclasses.replace(attempt, outcome="cancelled", problem=str(request.upload.problem))
        elif attempt.outcome == "unreachable":
            track.pool.rest(passage.rest.endpoint)
        self._observe(plan, track, attempt, silent_for=passed.silent_for)
        return dataclasses.replace(served, attempt=attempt)

    async def answer(self, plan: Plan, track: Track, request: Request, caller: Caller | None, *, counted: bool = True) -> Served:
        """Find an answer to a live request that was drawn for `track`, and count every attempt unless `counted` is False."""
        if counted:
            self._budget.request()
        attempt = await self._attempt(plan, track, request, caller, counted=counted)
        if track is plan.stable:
            return Served(track, await self._again_on_stable(plan, request, caller, attempt, counted=counted))
        falls_back = attempt.outcome in FALLBACK_OUTCOMES[plan.settings.fallback] and request.repeatable and not _gone(caller)
        # What was never sent is no second try: stable, sized for all traffic, gets a request that nobody else works on.
        if not falls_back or (attempt.sent and not self._budget.spend()):
            return Served(track, attempt)
        if attempt.rest is not None:
            attempt.rest.close()
            track.observe("live", attempt)
        if track.series is not None and counted:
            track.series.fallbacks[attempt.outcome].inc()
        rescue = await self._attempt(plan, plan.stable, request, caller, counted=counted)
        return Served(plan.stable, await self._again_on_stable(plan, request, caller, rescue, counted=counted), first=attempt)

    async def _again_on_stable(self, plan: Plan, request: Request, caller: Caller | None, attempt: Attempt, *, counted: bool) -> Attempt:
        """Try another ready pod of stable once when the first could not be reached: pods come and go while a version is promoted."""
        if attempt.outcome != "unreachable" or attempt.endpoint is None or not request.repeatable or _gone(caller):
            return attempt
        if plan.stable.pool.pick(attempt.endpoint) is None:
            return attempt
        return await self._attempt(plan, plan.stable, request, caller, avoid=attempt.endpoint, counted=counted)

    async def _attempt(
        self, plan: Plan, track: Track, request: Request, caller: Caller | None, *, avoid: Endpoint | None = None, counted: bool
    ) -> Attempt:
        attempt = await self._upstream.attempt(request, track.pool, seconds=self._request_seconds, caller=caller, avoid=avoid)
        if counted and attempt.rest is None:
            late = request.upload is None or request.upload.whole
            self._observe(plan, track, attempt, silent_for=attempt.seconds if late else 0.0)
        return attempt

    def _observe(self, plan: Plan, track: Track, attempt: Attempt, *, silent_for: float) -> None:
        """Count a live attempt; `silent_for` are the seconds that a client which left had waited for the pod."""
        if attempt.outcome == "cancelled" and silent_for >= plan.mirror_seconds:
            # Otherwise a hung candidate would stay without a fault as long as its clients are impatient.
            attempt = dataclasses.replace(attempt, outcome="timeout")
        track.observe("live", attempt)


def _gone(caller: Caller | None) -> bool:
    return caller is not None and caller.gone


def _head(attempt: Attempt, method: str, track: str) -> Message:
    if attempt.answer is None:
        raise ValueError("there is no answer to pass on")
    return {"type": "http.response.start", "status": attempt.answer.status, "headers": answer_headers(attempt.answer, method, track)}


async def _pass_on(send: Send, method: str, served: Served) -> None:
    track, reply = served.track.name, served.attempt.answer
    if reply is None:
        status = STATUS_WITHOUT_ANSWER[served.attempt.outcome]
        return await refuse(send, status, f"{track}: {served.attempt.problem}", (TRACK_HEADER, track.encode()))
    if reply.body is None:
        return await refuse(send, 502, f"{track}: {TOO_LONG_TO_HOLD}", (TRACK_HEADER, track.encode()))
    await send(_head(served.attempt, method, track))
    await send({"type": "http.response.body", "body": reply.body})
    return None


async def _refuse_upload(upload: Upload, caller: Caller, receive: Receive, send: Send) -> None:
    """Say why a body was not taken, where there is somebody to hear it."""
    if isinstance(upload.problem, BodyTooLarge) and not caller.gone:
        await refuse(send, 413, str(upload.problem))
    elif isinstance(upload.problem, BodyLate) and not caller.gone:
        await refuse(send, 408, str(upload.problem), (b"connection", b"close"))
    else:
        cut(receive)
