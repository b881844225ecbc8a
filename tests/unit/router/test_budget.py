from __future__ import annotations

from kanarya_inference.router.budget import RetryBudget
from kanarya_inference.router.windows import SlidingCounts


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_tenth_of_many_requests() -> None:
    clock = Clock()
    budget = RetryBudget(clock)
    for number in range(1000):
        clock.now = 1000 + number / 200
        budget.request()
    assert sum(budget.spend() for _ in range(300)) == 100


def test_a_few_a_second_always() -> None:
    clock = Clock()
    budget = RetryBudget(clock)
    assert sum(budget.spend() for _ in range(100)) == 30
    clock.now += 10
    assert sum(budget.spend() for _ in range(100)) == 30


def test_window_slides_and_jumps() -> None:
    clock = Clock()
    counts = SlidingCounts(10, clock)
    for _ in range(12):
        counts.add(marked=True)
        clock.now += 1
    assert counts.totals() == (9, 9)  # the current second is empty yet
    clock.now += 5
    assert counts.totals() == (4, 4)
    clock.now += 1000
    assert counts.totals() == (0, 0)
    counts.add(marked=False)
    counts.mark()
    assert counts.totals() == (1, 1)
    counts.clear()
    assert counts.totals() == (0, 0)
