from __future__ import annotations

import asyncio
from random import Random

import pytest

from kanarya.controller import queue as queues
from kanarya.controller.queue import Key, Queue

KEY: Key = ("shop", "fraud")


class Recorder:
    """A handler that notes its calls and how many ran at once."""

    def __init__(self, *answers: float | None | Exception) -> None:
        self.answers = list(answers)
        self.calls: list[Key] = []
        self.running = self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, key: Key) -> float | None:
        self.calls.append(key)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


async def eventually(holds: object, seconds: float = 2.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # type: ignore[operator]
            await asyncio.sleep(0.005)


async def test_many_wake_ups_make_one_pass_and_one_more() -> None:
    handler = Recorder()
    queue = Queue(handler, Random(1))
    handler.gate.clear()
    queue.add(KEY)
    await eventually(lambda: handler.calls)
    for _ in range(10):
        queue.add(KEY)
    handler.gate.set()
    await eventually(lambda: len(queue) == 0)
    assert len(handler.calls) == 2
    assert handler.most == 1


async def test_one_slow_rollout_holds_no_other_up() -> None:
    handler = Recorder()
    handler.gate.clear()
    queue = Queue(handler, Random(1))
    for index in range(50):
        queue.add(("shop", str(index)))
    await eventually(lambda: handler.running == 50)
    await queue.close()
    assert handler.running == 0


async def test_a_failed_pass_is_tried_again_and_reported() -> None:
    failures: list[str] = []
    handler = Recorder(RuntimeError("first"), None)
    queue = Queue(handler, Random(1), lambda key, error: failures.append(f"{key[1]}: {error}"))
    queue.add(KEY)
    await eventually(lambda: len(handler.calls) == 2)
    assert failures == ["fraud: first"]
    await eventually(lambda: len(queue) == 0)


@pytest.mark.parametrize("urgent", [True, False])
async def test_an_urgent_key_is_tried_again_soon_however_often_it_failed(monkeypatch: pytest.MonkeyPatch, urgent: bool) -> None:
    monkeypatch.setattr(queues, "FIRST_RETRY", 0.002)
    monkeypatch.setattr(queues, "URGENT_RETRY", 0.004)
    handler = Recorder(*[RuntimeError("away")] * 40)
    queue = Queue(handler, Random(1), urgent=lambda key: urgent and key == KEY)
    queue.add(KEY)
    await asyncio.sleep(0.5)
    assert (len(handler.calls) > 20) is urgent
    await queue.close()


async def test_the_answer_makes_the_next_pass_due_and_a_wake_up_brings_it_forward() -> None:
    handler = Recorder(0.02, 30.0, None)
    queue = Queue(handler, Random(1))
    queue.add(KEY)
    await eventually(lambda: len(handler.calls) == 2)
    await asyncio.sleep(0.05)
    assert len(handler.calls) == 2
    queue.add(KEY)
    await eventually(lambda: len(handler.calls) == 3)


async def test_a_later_wake_up_does_not_postpone() -> None:
    handler = Recorder()
    queue = Queue(handler, Random(1))
    queue.add(KEY, 0.05)
    queue.add(KEY, 30)
    assert queue.overdue() == 0
    await eventually(lambda: handler.calls)


@pytest.mark.parametrize("count", [1, 5])
async def test_a_closed_queue_takes_nothing(count: int) -> None:
    handler = Recorder()
    queue = Queue(handler, Random(1))
    await queue.close()
    for _ in range(count):
        queue.add(KEY)
    assert len(queue) == 0
