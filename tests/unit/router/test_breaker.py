from __future__ import annotations

import pytest

from kanarya_inference.router.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def send(breaker: Breaker, *, failed: bool) -> bool:
    permit = breaker.acquire()
    if permit is None:
        return False
    breaker.record(permit, failed=failed)
    return True


def test_five_failures_in_a_row_open_it(breaker: Breaker) -> None:
    for _ in range(4):
        send(breaker, failed=True)
    send(breaker, failed=False)
    for _ in range(4):
        send(breaker, failed=True)
    assert not breaker.suspended
    send(breaker, failed=True)
    assert breaker.suspended
    assert not send(breaker, failed=False)


def test_more_than_two_percent_of_fifty_open_it(breaker: Breaker) -> None:
    for number in range(49):
        send(breaker, failed=number in (10, 20))  # 2 of 49, yet too few to say
    assert not breaker.suspended
    for _ in range(51):
        send(breaker, failed=False)
    assert not breaker.suspended  # 2 of 100
    send(breaker, failed=True)
    assert breaker.suspended  # 3 of 101


def test_old_failures_are_forgotten(breaker: Breaker, clock: Clock) -> None:
    for _ in range(2):
        send(breaker, failed=True)
        send(breaker, failed=False)
    clock.now += 10
    for _ in range(60):
        send(breaker, failed=False)
    send(breaker, failed=True)  # 1 of 61; with the old ones it would be 3 of 65
    assert not breaker.suspended


def test_half_open_lets_one_probe_through(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        send(breaker, failed=True)
    clock.now += 9.9
    assert breaker.acquire() is None
    clock.now += 0.1
    probe = breaker.acquire()
    assert probe is not None
    assert breaker.acquire() is None
    assert breaker.suspended
    breaker.record(probe, failed=False)
    assert not breaker.suspended
    assert send(breaker, failed=False)


def test_failed_probe_opens_it_again(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        send(breaker, failed=True)
    clock.now += 10
    assert send(breaker, failed=True)
    clock.now += 9.9
    assert breaker.acquire() is None
    clock.now += 0.1
    assert send(breaker, failed=False)
    assert not breaker.suspended


def test_probe_given_back_unused_does_not_block(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        send(breaker, failed=True)
    clock.now += 10
    probe = breaker.acquire()
    assert probe is not None
    breaker.release(probe)
    assert breaker.acquire() is not None


def test_late_results_say_nothing_about_now(breaker: Breaker, clock: Clock) -> None:
    late = [breaker.acquire() for _ in range(3)]
    for _ in range(5):
        send(breaker, failed=True)
    clock.now += 10
    probe = breaker.acquire()
    for permit in late:
        assert permit is not None
        breaker.record(permit, failed=False)
        breaker.release(permit)
    assert breaker.suspended
    assert breaker.acquire() is None  # the probe is still out
    assert probe is not None
