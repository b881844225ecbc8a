"""The work queue: one worker per rollout, no limit shared between rollouts.

A rollback must never wait behind other rollouts, so there is no pool of workers to wait for: each key that has work has a task of its
own. Within one key work is serial, and any number of wake-ups during a pass makes exactly one more pass.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

Key = tuple[str, str]
"""Namespace and name of a rollout."""
Handler = Callable[[Key], Awaitable[float | None]]
"""Does one pass; returns the seconds until the next one is due, None when only a change makes one due."""

log = logging.getLogger(__name__)
FIRST_RETRY, LONGEST_RETRY = 0.5, 8.0
"""Between two tries: a rollout without a run may be given a weight by somebody else while it cannot be read."""
URGENT_RETRY = 3.0
"""Longest time between two tries for a rollout with a run: once the API server is back, a weight may have to go down."""


@dataclass
class _Slot:
    due: float
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    failures: int = 0


class Queue:
    """Runs a handler for keys; see the module's text.

    Parameters
    ----------
    handler
        Called with one key at a time per key. An exception is logged and makes a retry with growing, jittered delay.
    random
        Source of jitter.
    on_error
        Told of each failed pass.
    urgent
        Tells whether a key is retried every few seconds however often it failed; by default none is.
    """

    def __init__(
        self,
        handler: Handler,
        random: Random,
        on_error: Callable[[Key, Exception], None] | None = None,
        *,
        urgent: Callable[[Key], bool] = lambda _: False,
    ) -> None:
        self._handler = handler
        self._random = random
        self._on_error = on_error
        self._urgent = urgent
        self._slots: dict[Key, _Slot] = {}
        self._closed = False

    def __len__(self) -> int:
        """Count the keys that have work now or later."""
        return len(self._slots)

    def overdue(self) -> int:
        """Count the keys whose pass should have begun by now."""
        now = asyncio.get_running_loop().time()
        return sum(slot.due <= now for slot in self._slots.values())

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Make a pass over `key` due after `delay` seconds, or earlier if one already is."""
        if self._closed:
            return
        due = asyncio.get_running_loop().time() + delay
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = _Slot(due)
            slot.task = asyncio.create_task(self._work(key, slot), name=f"rollout {key[0]}/{key[1]}")
        elif due < slot.due:
            slot.due = due
            slot.wake.set()

    async def close(self) -> None:
        """Stop all work; passes under way are cancelled."""
        self._closed = True
        tasks = [slot.task for slot in self._slots.values() if slot.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._slots.clear()

    async def _work(self, key: Key, slot: _Slot) -> None:
        loop = asyncio.get_running_loop()
        while True:
            slot.wake.clear()
            wait = slot.due - loop.time()
            if wait > 0:
                try:
                    async with asyncio.timeout(wait):
                        await slot.wake.wait()
                except TimeoutError:
                    pass
                else:
                    continue
            slot.due = float("inf")  # a wake-up from here on makes another pass
            again = await self._pass(key, slot)
            if again is not None:
                slot.due = min(slot.due, loop.time() + again)
            if slot.due == float("inf"):
                del self._slots[key]
                return

    async def _pass(self, key: Key, slot: _Slot) -> float | None:
        try:
            again = await self._handler(key)
        except Exception as error:  # noqa: BLE001 -- whatever happened, the rollout must be looked at again
            slot.failures += 1
            longest = URGENT_RETRY if self._urgent(key) else LONGEST_RETRY
            delay: float = min(FIRST_RETRY * 2 ** min(slot.failures - 1, 10), longest) * self._random.uniform(0.8, 1.2)
            if self._on_error is not None:
                self._on_error(key, error)
            log.warning("pass over %s/%s failed, next try in %.1f s: %s", *key, delay, error or type(error).__name__)
            return delay
        slot.failures = 0
        return again
