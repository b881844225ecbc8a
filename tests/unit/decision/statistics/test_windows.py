"""The ring of windows: weights, thinning, and being nothing but numbers."""

from __future__ import annotations

import json
from itertools import pairwise
from math import exp, inf, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from kanarya.decision.statistics.windows import APART, CAPACITY, Ring, Tally, log_mean, spans

INCREMENTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), max_size=300)


def looked(increments: list[tuple[float, float]]) -> tuple[Tally, Ring]:
    now, ring = Tally(), Ring()
    for bad, total in increments:
        now = Tally(now.bad + min(bad, total), now.total + total)
        ring = ring.looked(now)
    return now, ring


def starts(ring: Ring) -> dict[int, float]:
    return {0: 0.0} | {mark.number: mark.total for mark in ring.marks}


@settings(deadline=None)
@given(INCREMENTS)
def test_windows_are_few_ordered_and_apart(increments: list[tuple[float, float]]) -> None:
    _, ring = looked(increments)
    numbers, totals = [mark.number for mark in ring.marks], [mark.total for mark in ring.marks]
    assert len(numbers) <= CAPACITY
    assert numbers == sorted(set(numbers))
    assert numbers[-1:] == ([ring.opened] if ring.opened else [])
    assert all(later - earlier >= APART for earlier, later in pairwise([0.0, *totals]))


def test_which_windows_stay_depends_on_the_looks_alone_and_no_age_is_left_without_one() -> None:
    quiet, noisy = Ring(), Ring()
    for look in range(1, 2001):
        quiet, noisy = quiet.looked(Tally(0, 10.0 * look)), noisy.looked(Tally(float(look), 20.0 * look))
        numbers = [0, *(mark.number for mark in quiet.marks)]
        assert numbers == [0, *(mark.number for mark in noisy.marks)]
        # a fault that has lasted for `age` looks has a window that is no more than two thirds older
        assert all(younger - older <= 1 + 0.67 * (look + 1 - younger) for older, younger in pairwise(numbers))


@settings(deadline=None)
@given(INCREMENTS)
def test_weights_are_at_most_one_together(increments: list[tuple[float, float]]) -> None:
    now, ring = looked(increments)
    found = spans(now, ring, fewest=0, above=-1)
    assert {span.number for span in found} == {number for number, total in starts(ring).items() if total < now.total}
    assert sum(span.weight for span in found) <= 1
    assert all(span.weight == (0.5 / (span.number * (span.number + 1)) if span.number else 0.5) for span in found)


@settings(deadline=None)
@given(INCREMENTS, st.integers(0, 4), st.sampled_from([0.0, 0.1, 0.5]))
def test_spans_without_evidence_are_left_out(increments: list[tuple[float, float]], fewest: int, above: float) -> None:
    now, ring = looked(increments)
    wanted = [
        span for span in spans(now, ring, fewest=0, above=-1) if span.counts.bad >= fewest and span.counts.bad > above * span.counts.total
    ]
    assert spans(now, ring, fewest=fewest, above=above) == wanted


@settings(deadline=None)
@given(INCREMENTS)
def test_a_ring_survives_json_as_it_is(increments: list[tuple[float, float]]) -> None:
    _, ring = looked(increments)
    adapter = TypeAdapter(Ring)
    data = adapter.dump_python(ring, mode="json")
    assert adapter.validate_python(json.loads(json.dumps(data))) == ring
    assert all(len(mark) == 5 for mark in data["marks"])


def test_requests_of_a_look_are_those_of_looks_that_had_some() -> None:
    ring = Ring().looked(Tally(0, 2)).looked(Tally(0, 2)).looked(Tally(0, 6)).looked(Tally(0, 6))
    assert (ring.looks, ring.opened) == (2, 1)
    assert ring.per_look(Tally(0, 6)) == 3
    assert ring.per_look(Tally(0, 12)) == 4
    assert Ring().per_look(Tally()) == 0


def test_counts_of_a_span_never_have_more_bad_events_than_requests() -> None:
    assert Tally(5, 100, 3, 50).since(Tally(2, 99, 0, 49)) == Tally(1, 1, 1, 1)
    assert Tally(5, 100).since(Tally(6, 101)) == Tally(0, 0)
    assert Tally(6, 90, 3, 30).divided(3) == Tally(2, 30, 1, 10)


def test_means_of_logarithms() -> None:
    assert log_mean([]) == -inf
    assert log_mean([(0.5, -inf)]) == -inf
    assert log_mean([(0.5, 0.0), (0.25, log(4))]) == pytest.approx(log(1.5))
    assert log_mean([(0.5, 2000.0), (0.5, -inf)]) == pytest.approx(2000 + log(0.5))
    assert exp(log_mean([(0.5, -800.0), (0.5, -800.0)]) + 800) == pytest.approx(1)
