"""Copies of requests, off the live path."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from random import Random

from kanarya_inference.router.model import ERRORS, Attempt, Request
from kanarya_inference.router.pairs import Pairs, count
from kanarya_inference.router.plan import Plan, Track
from kanarya_inference.router.upstream import Upstream
from kanarya_inference.router.windows import Clock

IN_FLIGHT_LIMIT = 64
QUEUE_LIMIT = 256
HELD_BYTES_LIMIT = 64 * 2**20
"""Of request and answer bodies kept for mirroring: large requests drop copies before they cost the pod its memory."""

MIRROR_HEADER = ("x-kanarya-mirror", "true")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Copy:
    """A request for one track, to be compared with the other's live answer; or for both, when there is no live answer."""

    plan: Plan
    targets: tuple[Track, ...]
    request: Request
    live: Attempt | None

    @property
    def size(self) -> int:
        answer = None if self.live is None or self.live.answer is None else self.live.answer.body
        return len(self.request.body) + len(answer or b"")


class Mirror:
    """Sends copies with bounded concurrency, queue and memory; what does not fit is dropped and counted, never awaited."""

    def __init__(self, upstream: Upstream, pairs: Pairs, random: Random, clock: Clock) -> None:
        self._upstream = upstream
        self._pairs = pairs
        self._random = random
        self._clock = clock
        self._waiting: deque[_Copy] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._held_bytes = 0

    def offer(self, plan: Plan, live_track: Track, request: Request, live: Attempt, *, fell_back: bool) -> None:
        """Take a request that was chosen and whose live answer is out, and return at once.

        A request that fell back is compared no more: stable has answered it live, and the candidate has failed it. One whose body
        was too long to be held is not there any more.
        """
        target = plan.other(live_track)
        if plan.candidate.revision is None or not target.expected(self._clock):
            return
        if fell_back:
            count(plan, "not_compared")
        elif request.upload is not None:
            count(plan, "dropped")
        else:
            self._take(_Copy(plan, (target,), request, live))

    def offer_both(self, plan: Plan, request: Request) -> bool:
        """Take a copy that a gateway has made, for both tracks; False when there is nothing to compare it with."""
        if plan.candidate.revision is None or request.method != "POST" or not plan.candidate.expected(self._clock):
            return False
        if request.upload is not None:
            count(plan, "dropped")
        else:
            self._take(_Copy(plan, (plan.stable, plan.candidate), request, None))
        return True

    def chooses(self, plan: Plan | None, method: str) -> bool:
        """Draw whether to copy. Only POST carries predictions; everything else (health, metadata) is nobody's evidence."""
        if plan is None or plan.candidate.revision is None or method != "POST":
            return False
        percent = plan.settings.mirror_percent
        return percent > 0 and (percent >= 100 or self._random.random() * 100 < percent)

    async def copy(self, plan: Plan, target: Track, request: Request) -> Attempt:
        """Send one copy, waiting as long as a copy may take; counts nothing."""
        marked = Request(request.method, request.target, [*request.headers, MIRROR_HEADER], request.body)
        return await self._upstream.attempt(marked, target.pool, seconds=plan.mirror_seconds)

    async def close(self) -> None:
        """Give up copies that wait or are under way; they are not counted."""
        self._waiting.clear()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _take(self, copy: _Copy) -> None:
        full = len(self._running) >= IN_FLIGHT_LIMIT and len(self._waiting) >= QUEUE_LIMIT
        if full or self._held_bytes + copy.size > HELD_BYTES_LIMIT:
            count(copy.plan, "dropped")
        else:
            self._held_bytes += copy.size
            self._waiting.append(copy)
            self._start()

    def _start(self) -> None:
        while self._waiting and len(self._running) < IN_FLIGHT_LIMIT:
            copy = self._waiting.popleft()
            permits = _permits(copy.targets)
            if permits is None:
                self._held_bytes -= copy.size
                count(copy.plan, "dropped")
                continue
            task = asyncio.create_task(self._send(copy, permits))
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a mirrored copy failed inside the router", exc_info=error)
        self._start()

    async def _send(self, copy: _Copy, permits: tuple[int, ...]) -> None:
        plan = copy.plan
        try:
            if copy.live is not None:
                attempt = await self._sent(copy, copy.targets[0], permits[0])
                stable, candidate = (copy.live, attempt) if copy.targets[0] is plan.candidate else (attempt, copy.live)
            else:
                sent = (self._sent(copy, target, permit) for target, permit in zip(copy.targets, permits, strict=True))
                stable, candidate = await asyncio.gather(*sent)
            self._pairs.count(plan, copy.request, stable, candidate)
        finally:
            for target, permit in zip(copy.targets, permits, strict=True):
                target.breaker.release(permit)
            self._held_bytes -= copy.size

    async def _sent(self, copy: _Copy, target: Track, permit: int) -> Attempt:
        attempt = await self.copy(copy.plan, target, copy.request)
        target.breaker.record(permit, failed=attempt.outcome in ERRORS)
        target.observe("mirror", attempt)
        return attempt


def _permits(targets: tuple[Track, ...]) -> tuple[int, ...] | None:
    """Ask every target's breaker for leave; None when one refuses."""
    permits: list[int] = []
    for target in targets:
        permit = target.breaker.acquire()
        if permit is None:
            for granted, given in zip(targets, permits, strict=False):
                granted.breaker.release(given)
            return None
        permits.append(permit)
    return tuple(permits)
