"""Counting what is slower than a threshold where the histogram has no edge: by hand, and for every histogram there can be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from kanarya.decision.counts import Attempts, Missing
from kanarya.telemetry.counting import UNKNOWN_START, Span
from kanarya.telemetry.latency import Counted, Histogram, count_histograms
from kanarya.telemetry.look import Findings, Look
from kanarya.telemetry.native import NativeHistogram
from kanarya.telemetry.source import Series

SPAN = Span(100.0, 102.0, 120.0)
TIMES = (101.0, 106.0, 111.0)


def look() -> Look:
    return Look(SPAN, 121.0, 5.0, 5.0, Findings())


def classic(durations: Sequence[float], edges: Sequence[float], *, scale: float = 1.0) -> Histogram:
    """A histogram in which nothing was counted at the first scrape, everything by the last."""
    histogram = Histogram(scale)
    for edge in (*edges, math.inf):
        whole = sum(duration <= edge for duration in durations)
        label = "+Inf" if edge == math.inf else repr(edge / scale)
        histogram.add_bucket(label, [(TIMES[0], 0.0), (TIMES[1], float(whole // 2)), (TIMES[2], float(whole))], UNKNOWN_START)
    return histogram


def native(*samples: NativeHistogram) -> Histogram:
    histogram = Histogram()
    rows = tuple(zip(TIMES, samples, strict=False))
    histogram.add_native(Series({}, tuple((at, one.count) for at, one in rows), rows), UNKNOWN_START)
    return histogram


def exponential(durations: Sequence[float], schema: int) -> NativeHistogram:
    """Buckets between the powers of 2 ** (2 ** -schema), those that hold something."""
    base = 2.0 ** (2.0**-schema)
    rows: dict[int, int] = {}
    for duration in durations:
        index = math.ceil(round(math.log(duration, base), 9))
        rows[index] = rows.get(index, 0) + 1
    return NativeHistogram(len(durations), tuple((base ** (i - 1), base**i, float(n)) for i, n in sorted(rows.items())))


def counted(histogram: Histogram, thresholds: tuple[int, ...] = (80, 120), *more: Histogram) -> Counted[int]:
    return count_histograms(dict(enumerate((histogram, *more))), thresholds, look(), "The series")


DURATIONS = (0.01, 0.06, 0.09, 0.11, 0.2, 0.3, 7.0)


def test_edges_at_the_thresholds_count_exactly() -> None:
    found = counted(classic(DURATIONS, (0.05, 0.08, 0.12, 1.0)))
    assert found.pairs == {80: (0.08, 0.08), 120: (0.12, 0.12)}
    assert found.attempts[0] == Attempts(7, 0, {"80": 5, "120": 3})


def test_the_next_edge_above_counts_against_and_the_next_below_counts_for() -> None:
    found = counted(classic(DURATIONS, (0.05, 0.1, 0.25, 1.0)))
    assert found.pairs == {80: (0.05, 0.1), 120: (0.1, 0.25)}
    assert found.attempts[0] == Attempts(7, 0, {"80": 4, "120": 2}, {"80": 6, "120": 4})


def test_a_histogram_in_milliseconds() -> None:
    found = counted(classic(DURATIONS, (0.05, 0.1, 0.25, 1.0), scale=0.001))
    assert found.attempts[0] == Attempts(7, 0, {"80": 4, "120": 2}, {"80": 6, "120": 4})


def test_thresholds_outside_the_edges_have_none() -> None:
    found = counted(classic(DURATIONS, (0.1, 0.25)), (80, 300))
    assert found.pairs == {80: (None, 0.1), 300: (0.25, None)}
    assert found.attempts[0].known_slower(300) == 0
    assert found.attempts[0].possibly_slower(80) == 7


def test_pods_with_other_edges_are_counted_where_all_have_one() -> None:
    found = counted(classic(DURATIONS, (0.05, 0.08, 0.12, 0.5)), (80, 120), classic(DURATIONS, (0.05, 0.1, 0.5)))
    assert found.pairs == {80: (0.05, 0.5), 120: (0.05, 0.5)}
    assert found.attempts[0] == found.attempts[1] == Attempts(7, 0, {"80": 1, "120": 1}, {"80": 6, "120": 6})


def test_a_pod_without_a_sample_in_the_span_has_no_say_in_the_edges() -> None:
    idle = Histogram()
    idle.add_bucket("+Inf", [(50.0, 3.0)], UNKNOWN_START)
    assert counted(classic(DURATIONS, (0.08, 0.12)), (80, 120), idle).pairs == {80: (0.08, 0.08), 120: (0.12, 0.12)}


def test_custom_buckets_that_hold_nothing_are_not_in_a_native_sample() -> None:
    empty = NativeHistogram(0.0, ())
    full = NativeHistogram(6.0, ((-math.inf, 0.05, 1.0), (0.05, 0.1, 2.0), (0.25, 1.0, 2.0), (1.0, math.inf, 1.0)))
    found = counted(native(empty, empty, full))
    assert found.pairs == {80: (0.05, 0.1), 120: (0.12, 0.12)}
    assert found.attempts[0] == Attempts(6, 0, {"80": 3, "120": 3}, {"80": 5})


def test_a_native_sample_beyond_all_bounds_of_its_own() -> None:
    found = counted(native(NativeHistogram(0.0, ()), NativeHistogram(2.0, ((-math.inf, 0.1, 1.0), (0.1, math.inf, 1.0)))))
    assert found.pairs == {80: (None, 0.1), 120: (0.1, None)}


def test_a_native_histogram_that_becomes_coarser_has_not_begun_anew() -> None:
    before = [exponential(DURATIONS, 3), exponential(DURATIONS, 3), exponential([*DURATIONS, 0.5, 0.09], 0)]
    found = counted(native(*before))
    assert found.attempts[0].requests == 2
    assert found.pairs == {80: (0.0625, 0.125), 120: (0.0625, 0.125)}
    assert (found.attempts[0].known_slower(120), found.attempts[0].possibly_slower(120)) == (1, 2)


def test_where_prometheus_keeps_both_forms_one_is_counted() -> None:
    both = classic(DURATIONS, (0.08, 0.12))
    rows = ((101.0, NativeHistogram(0.0, ())), (106.0, exponential(DURATIONS, 3)))
    both.add_native(Series({}, ((101.0, 0.0), (106.0, 7.0)), rows), UNKNOWN_START)
    assert counted(both).attempts[0].requests == 7


def test_what_is_wrong_with_native_samples_is_reported() -> None:
    seen = look()
    odd = native(NativeHistogram(1.0, ()), NativeHistogram(math.nan, ()))
    count_histograms({0: odd}, (80, 120), seen, "The series")
    assert dict(seen.findings.missing) == dict.fromkeys(("errors", "latency"), Missing.NOT_A_NUMBER)


durations = st.lists(st.floats(0.0005, 20.0), max_size=60)
bounds = st.lists(st.floats(0.001, 10.0), min_size=1, max_size=12, unique=True).map(sorted)
limits = st.tuples(st.integers(1, 9000), st.integers(1, 9000)).filter(lambda pair: pair[0] < pair[1])


def check_bounds(found: Counted[int], durations: Sequence[float], thresholds: tuple[int, ...]) -> None:
    attempts = found.attempts[0]
    assert attempts.requests == len(durations)
    for threshold in thresholds:
        truth = sum(duration > threshold / 1000 * (1 + 1e-8) for duration in durations)
        loose = sum(duration > threshold / 1000 * (1 - 1e-8) for duration in durations)
        assert attempts.known_slower(threshold) <= loose
        assert truth <= attempts.possibly_slower(threshold)


@given(durations, bounds, limits)
def test_the_truth_lies_between_the_two_counts(durations: list[float], edges: list[float], thresholds: tuple[int, int]) -> None:
    check_bounds(counted(classic(durations, edges), thresholds), durations, thresholds)


@given(durations, st.integers(-2, 6), limits)
def test_the_truth_lies_between_the_two_counts_of_a_native_histogram(
    durations: list[float], schema: int, thresholds: tuple[int, int]
) -> None:
    empty = NativeHistogram(0.0, ())
    check_bounds(counted(native(empty, empty, exponential(durations, schema)), thresholds), durations, thresholds)


@given(durations, bounds, limits)
def test_custom_buckets_count_as_the_classic_ones(durations: list[float], edges: list[float], thresholds: tuple[int, int]) -> None:
    pairs = itertools.pairwise([-math.inf, *edges, math.inf])
    rows = tuple((left, right, float(sum(left < one <= right for one in durations))) for left, right in pairs)
    sample = NativeHistogram(len(durations), tuple(row for row in rows if row[2]))
    check_bounds(counted(native(NativeHistogram(0.0, ()), sample), thresholds), durations, thresholds)


def test_adding_exact_and_bounded_counts() -> None:
    exact, bounded = Attempts(10, 1, {"80": 4, "120": 2}), Attempts(5, 0, {"80": 1, "120": 0}, {"80": 3}, timed=4)
    both = exact + bounded
    assert both == Attempts(15, 1, {"80": 5, "120": 2}, {"80": 7}, timed=14)
    assert both.possibly_slower(120) == 2
