from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from kanarya.controller.turns import Turns


class Line:
    """People who take turns; each holds its turn until told to go on."""

    def __init__(self, count: int) -> None:
        self.turns = Turns(count)
        self.came: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._done: dict[str, asyncio.Event] = {}

    async def join(self, name: str, patience: float = 0.0) -> None:
        self._done[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name, patience))
        await asyncio.sleep(0)

    async def _hold(self, name: str, patience: float) -> None:
        async with self.turns.take(patience):
            self.came.append(name)
            await self._done[name].wait()

    async def go_on(self, *names: str) -> None:
        for name in names:
            self._done[name].set()
            await self.tasks[name]
            await asyncio.sleep(0)


async def joined(line: Line, names: Sequence[tuple[str, float]]) -> Line:
    for name, patience in names:
        await line.join(name, patience)
    return line


async def test_no_more_than_the_count_hold_a_turn() -> None:
    line = await joined(Line(2), [("a", 0), ("b", 0), ("c", 0)])
    assert line.came == ["a", "b"]
    await line.go_on("b")
    assert line.came == ["a", "b", "c"]
    await line.go_on("a", "c")
    await line.join("d")
    await line.join("e")
    assert line.came == ["a", "b", "c", "d", "e"]
    await line.go_on("d", "e")


async def test_the_impatient_go_first_and_equals_in_their_order() -> None:
    line = await joined(Line(1), [("a", 0), ("calm", 5), ("b", 0), ("calm too", 5), ("c", 0)])
    await line.go_on("a", "b", "c", "calm", "calm too")
    assert line.came == ["a", "b", "c", "calm", "calm too"]


async def test_patience_ends() -> None:
    line = await joined(Line(1), [("a", 0), ("calm", 0.02)])
    await asyncio.sleep(0.03)
    await line.join("b")
    await line.go_on("a", "calm", "b")
    assert line.came == ["a", "calm", "b"]


async def test_whoever_gives_up_waiting_takes_no_turn_from_others() -> None:
    line = await joined(Line(1), [("a", 0), ("gone", 0), ("b", 0)])
    line.tasks["gone"].cancel()
    await asyncio.sleep(0)
    await line.go_on("a", "b")
    assert line.came == ["a", "b"]


async def test_a_turn_that_comes_to_someone_who_gives_up_is_passed_on() -> None:
    line = await joined(Line(1), [("a", 0), ("gone", 0), ("b", 0)])
    line._done["a"].set()
    await asyncio.sleep(0)  # a has ended and the turn is given, but not yet taken
    line.tasks["gone"].cancel()
    await asyncio.gather(line.tasks["gone"], return_exceptions=True)
    await line.go_on("b")
    assert "b" in line.came
    await line.join("c")
    assert line.came[-1] == "c"
    await line.go_on("c")


async def test_a_failure_gives_the_turn_back() -> None:
    turns = Turns(1)

    async def fail() -> None:
        async with turns.take(0):
            raise RuntimeError

    async with asyncio.timeout(1):
        for _ in range(3):
            with pytest.raises(RuntimeError):
                await fail()


async def test_a_turn_that_hangs_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kanarya.controller.turns.STUCK_SECONDS", 0.02)
    line = await joined(Line(1), [("hangs", 0), ("a", 0), ("b", 0)])
    await asyncio.sleep(0.03)
    assert line.came == ["hangs", "a"]
    await line.go_on("hangs")  # its turn was given away already: nobody else comes for it
    assert line.came == ["hangs", "a"]
    await line.go_on("a")
    assert line.came == ["hangs", "a", "b"]
    await line.go_on("b")
    await line.join("c")
    assert line.came[-1] == "c"
    await line.go_on("c")
