"""Copies of live requests for the other track, off the live path."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from random import Random

from kanarya_inference.router.compare import Compared, compare
from kanarya_inference.router.model import ERRORS, Attempt, Comparison, Request
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
    plan: Plan
    target: Track
    request: Request
    live: Attempt

    @property
    def size(self) -> int:
        return len(self.request.body) + (len(self.live.answer.body) if self.live.answer else 0)


class Mirror:
    """Sends copies with bounded concurrency, queue and memory; what does not fit is dropped and counted, never awaited."""

    def __init__(self, upstream: Upstream, random: Random, clock: Clock) -> None:
        self._upstream = upstream
        self._random = random
        self._clock = clock
        self._waiting: deque[_Copy] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._held_bytes = 0

    def offer(self, plan: Plan, live_track: Track, request: Request, live: Attempt, *, fell_back: bool) -> None:
        """Take a request whose live answer is out, and return at once.

        A request that fell back is compared no more: stable has answered it live, and the candidate has failed it.
        """
        if not self._chosen(plan, request):
            return
        target = plan.other(live_track)
        if not target.expected(self._clock):
            return
        if fell_back:
            _count(plan, "not_compared")
            return
        copy = _Copy(plan, target, request, live)
        full = len(self._running) >= IN_FLIGHT_LIMIT and len(self._waiting) >= QUEUE_LIMIT
        if full or self._held_bytes + copy.size > HELD_BYTES_LIMIT:
            _count(plan, "dropped")
        else:
            self._held_bytes += copy.size
            self._waiting.append(copy)
            self._start()

    async def close(self) -> None:
        """Give up copies that wait or are under way; they are not counted."""
        self._waiting.clear()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _chosen(self, plan: Plan, request: Request) -> bool:
        """Only POST carries predictions; everything else (health, metadata) is nobody's evidence."""
        if plan.candidate.revision is None or request.method != "POST":
            return False
        percent = plan.settings.mirror_percent
        return percent > 0 and (percent >= 100 or self._random.random() * 100 < percent)

    def _start(self) -> None:
        while self._waiting and len(self._running) < IN_FLIGHT_LIMIT:
            copy = self._waiting.popleft()
            permit = copy.target.breaker.acquire()
            if permit is None:
                self._held_bytes -= copy.size
                _count(copy.plan, "dropped")
                continue
            task = asyncio.create_task(self._send(copy, permit))
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a mirrored copy failed inside the router", exc_info=error)
        self._start()

    async def _send(self, copy: _Copy, permit: int) -> None:
        target, settings = copy.target, copy.plan.settings
        try:
            request = Request(copy.request.method, copy.request.target, [*copy.request.headers, MIRROR_HEADER], copy.request.body)
            attempt = await self._upstream.attempt(request, target.pool, seconds=copy.plan.mirror_seconds)
            target.breaker.record(permit, failed=attempt.outcome in ERRORS)
            target.observe("mirror", attempt)
            stable, candidate = (attempt, copy.live) if target is copy.plan.stable else (copy.live, attempt)
            compared = compare(stable, candidate, settings.match_rule)
            _count(copy.plan, compared.verdict(self._random) if isinstance(compared, Compared) else compared)
        finally:
            target.breaker.release(permit)
            self._held_bytes -= copy.size


def _count(plan: Plan, comparison: Comparison) -> None:
    if plan.candidate.series is not None:
        plan.candidate.series.comparisons[comparison].inc()
