"""Passing an answer on to the client while it arrives."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import Literal

from kanarya_inference.router.answers import KEPT_ANSWER, BrokenAnswer, Rest
from kanarya_inference.router.caller import Caller
from kanarya_inference.router.intake import Held
from kanarya_inference.router.model import Attempt, Outcome
from kanarya_inference.router.upstream import BROKEN_ANSWER
from kanarya_inference.router.windows import Clock
from kanarya_inference.serving import Message, Send


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: without a piece of the answer, or the client taking one; and of the whole."""

    silence: float
    whole: float


@dataclass(frozen=True, slots=True)
class Passed:
    """How it ended. `complete` when the client has the whole answer."""

    attempt: Attempt
    complete: bool
    stuck: bool = False
    """The client did not take what there is: more cannot be said to it."""
    silent_for: float = 0.0
    """Seconds since the pod's last piece, when the end came while the pod was waited for."""


class Passage:
    """One answer on its way. Its pieces are kept for the comparison as long as `kept` has room for them; None keeps nothing."""

    def __init__(self, rest: Rest, send: Send, caller: Caller, limits: Limits, *, kept: Held | None, clock: Clock) -> None:
        self.rest = rest
        self.caller = caller
        self._send = send
        self._limits = limits
        self._held = kept
        self._clock = clock
        self._pieces: list[bytes] | None = None if kept is None else []
        self._size = 0
        self._waits_for: Literal["client", "pod"] = "client"
        self._since = self._began = clock()
        self._clients_seconds = 0.0
        self._ends = asyncio.get_running_loop().time() + limits.whole

    async def run(self, attempt: Attempt, head: Message) -> Passed:
        """Send head and body of the attempt's answer. Never raises for what the pod, the client or the network does."""
        try:
            async with asyncio.timeout(None) as deadline:
                self.caller.may_end(deadline)
                await self._run(head)
        except TimeoutError:
            return self._cut_short(attempt)
        except BrokenAnswer:
            return Passed(self._ended(attempt, "unreachable", BROKEN_ANSWER), complete=False)
        finally:
            self.caller.may_end(None)
            self.rest.close()
            if self._held is not None:
                self._held.release()
        return Passed(self._ended(attempt, attempt.outcome), complete=True)

    async def _run(self, head: Message) -> None:
        self._wait_for("client")
        await self._send(head)
        last = False
        while not last:
            self._wait_for("pod")
            piece, last = await self.rest.next()
            self._keep(piece)
            self._wait_for("client")
            await self._send({"type": "http.response.body", "body": piece, "more_body": not last})
        self._wait_for("pod")

    def _wait_for(self, whom: Literal["client", "pod"]) -> None:
        now = self._clock()
        if self._waits_for == "client":
            self._clients_seconds += now - self._since
        self._waits_for, self._since = whom, now
        self.caller.until(min(asyncio.get_running_loop().time() + self._limits.silence, self._ends))

    def _keep(self, piece: bytes) -> None:
        if self._pieces is None or self._held is None:
            return
        self._size += len(piece)
        if self._size <= KEPT_ANSWER and self._held.fits(len(piece)):
            self._pieces.append(piece)
        else:
            self._pieces = None
            self._held.release()

    def _cut_short(self, attempt: Attempt) -> Passed:
        if self.caller.gone:
            silent_for = self._clock() - self._since if self._waits_for == "pod" else 0.0
            return Passed(self._ended(attempt, "cancelled", "the client went away"), complete=False, silent_for=silent_for)
        if self._waits_for == "client":
            return Passed(self._ended(attempt, "cancelled", "the client does not take its answer"), complete=False, stuck=True)
        return Passed(self._ended(attempt, "timeout", "the answer did not go on in time"), complete=False)

    def _ended(self, attempt: Attempt, outcome: Outcome, problem: str = "") -> Attempt:
        """Tell how the attempt ended: its time is until the pod's last piece, less what the client took."""
        seconds = attempt.seconds + self._clock() - self._began - self._clients_seconds
        answer = attempt.answer
        if answer is not None:
            body = None if self._pieces is None or outcome != attempt.outcome else b"".join(self._pieces)
            answer = dataclasses.replace(answer, body=body, rest=None)
        return dataclasses.replace(attempt, outcome=outcome, seconds=seconds, answer=answer, problem=problem)
