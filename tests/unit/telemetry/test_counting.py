"""Counting by hand: small series whose increments anyone can check."""

from __future__ import annotations

import math

import pytest

from kanarya.telemetry import counting
from kanarya.telemetry.counting import UNKNOWN_START, Joined, Point, Span, Starts

NAN = math.nan


def grown(samples: list[tuple[float, float]], span: Span, started: float | None = 0.0) -> float:
    return sum(counting.increments([Point(at, (value,), started) for at, value in samples], span))


def test_increments_lie_after_the_watermark() -> None:
    samples = [(101.0, 5.0), (106.0, 7.0), (111.0, 12.0), (116.0, 20.0)]
    assert grown(samples, Span(100, 108, 114)) == 5


def test_samples_up_to_since_are_no_base() -> None:
    # 4 of the 7 happened before the span or in its first interval: nobody can tell.
    assert grown([(95.0, 3.0), (100.0, 5.0), (105.0, 10.0)], Span(100, 100, 110)) == 0
    assert grown([(95.0, 3.0), (100.0, 5.0), (105.0, 10.0), (110.0, 11.0)], Span(100, 100, 110)) == 1


def test_a_process_that_began_in_the_span_counts_from_zero() -> None:
    assert grown([(105.0, 4.0), (110.0, 6.0)], Span(100, 100, 110), started=101.0) == 6


def test_a_process_that_began_before_the_watermark_counts_from_zero_only_if_no_look_can_have_seen_it() -> None:
    samples = [(105.0, 4.0), (110.0, 6.0)]
    assert grown(samples, Span(100, 103, 110, known_from=90.0), started=101.0) == 6
    assert grown(samples, Span(100, 103, 110, known_from=105.0), started=101.0) == 2
    assert grown(samples, Span(100, 103, 110, known_from=90.0), started=99.0) == 2


def test_a_start_later_than_the_sample_proves_nothing() -> None:
    assert grown([(105.0, 4.0), (110.0, 6.0)], Span(100, 100, 110), started=500.0) == 2


def test_an_unknown_start_proves_nothing() -> None:
    assert grown([(105.0, 4.0), (110.0, 6.0)], Span(100, 100, 110), started=None) == 2


def test_a_value_that_falls_counts_from_zero() -> None:
    assert grown([(101.0, 50.0), (106.0, 3.0), (111.0, 4.0)], Span(100, 102, 115)) == 4


def test_a_restart_that_the_value_hides_is_seen_by_the_process() -> None:
    points = [Point(101.0, (3.0,), 10.0), Point(106.0, (5.0,), 103.0)]
    assert counting.increments(points, Span(100, 102, 110)) == (5,)
    nearly = [Point(101.0, (3.0,), 10.0), Point(106.0, (5.0,), 10.01)]
    assert counting.increments(nearly, Span(100, 102, 110)) == (2,)


def test_counters_of_one_scrape_restart_together() -> None:
    # The first fell, the second did not: 12 - 10 would be wrong.
    points = [Point(101.0, (100.0, 10.0)), Point(106.0, (50.0, 12.0))]
    assert counting.increments(points, Span(100, 102, 110)) == (50, 12)


def test_a_gap_is_bridged_by_the_last_sample_before_it() -> None:
    assert grown([(101.0, 10.0), (170.0, 500.0)], Span(100, 160, 175)) == 490


def test_a_deleted_pod_counts_up_to_its_last_sample() -> None:
    samples = [(101.0, 10.0), (106.0, 14.0)]
    assert grown(samples, Span(100, 103, 110)) == 4
    assert grown(samples, Span(100, 110, 115)) == 0


def test_nothing_to_count() -> None:
    assert counting.increments([], Span(100, 100, 110)) == ()
    assert counting.increments([Point(99.0, (5.0,))], Span(100, 100, 110)) == ()


def test_series_that_follow_each_other_are_one() -> None:
    joined = counting.join(
        [([(111.0, 9.0), (116.0, 11.0)], UNKNOWN_START), ([(101.0, 2.0), (106.0, 5.0)], Starts([(101.0, 7.0)]))], Span(100, 102, 120), 121
    )
    assert joined == Joined(((101.0, 2.0, 7.0), (106.0, 5.0, 7.0), (111.0, 9.0, None), (116.0, 11.0, None)))


def test_series_over_the_same_time_are_reported_and_counted_once() -> None:
    one, two = [(101.0, 2.0), (106.0, 5.0)], [(103.0, 3.0), (108.0, 6.0)]
    joined = counting.join([(one, UNKNOWN_START), (two, UNKNOWN_START)], Span(100, 102, 120), 121)
    assert joined.duplicate
    assert counting.increments([Point(at, (value,), started) for at, value, started in joined.samples], Span(100, 102, 120)) == (4,)


def test_duplicates_from_before_the_span_are_past() -> None:
    joined = counting.join(
        [([(91.0, 2.0), (96.0, 2.0)], UNKNOWN_START), ([(93.0, 2.0), (101.0, 3.0)], UNKNOWN_START)], Span(100, 100, 120), 121
    )
    assert not joined.duplicate


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf, -1.0])
def test_a_sample_that_is_no_count_is_left_out(value: float) -> None:
    joined = counting.join([([(101.0, 2.0), (106.0, value), (111.0, 8.0)], UNKNOWN_START)], Span(100, 102, 120), 121)
    assert joined.refused == {106.0}
    assert counting.increments([Point(at, (value,), started) for at, value, started in joined.samples], Span(100, 102, 120)) == (6,)


def test_a_sample_from_the_future_is_refused_and_one_nearby_only_waits() -> None:
    joined = counting.join([([(101.0, 2.0), (140.0, 3.0), (152.0, 9.0)], UNKNOWN_START)], Span(100, 102, 118), 120)
    assert joined.refused == {152.0}
    assert [at for at, _, _ in joined.samples] == [101.0]


def test_slower_is_attempts_without_the_bucket() -> None:
    buckets = {
        math.inf: Joined(((101.0, 10.0, None), (106.0, 20.0, None))),
        0.08: Joined(((101.0, 8.0, None), (106.0, 15.0, None))),
    }
    assert counting.attempts(buckets, [0.08], Span(100, 102, 110)) == ((10, 3), frozenset())


def test_a_histogram_that_restarts_while_slower_rises() -> None:
    # The bucket fell from 8 to 5, though attempts and slower ones rose.
    buckets = {
        math.inf: Joined(((101.0, 10.0, None), (106.0, 20.0, None))),
        0.08: Joined(((101.0, 8.0, None), (106.0, 5.0, None))),
    }
    assert counting.attempts(buckets, [0.08], Span(100, 102, 110)) == ((20, 15), frozenset())


def test_an_edge_that_is_not_there_counts_nothing() -> None:
    buckets = {math.inf: Joined(((101.0, 10.0, None), (106.0, 20.0, None))), 0.08: Joined(((106.0, 15.0, None),))}
    assert counting.attempts(buckets, [0.08, 0.12], Span(100, 102, 110)) == ((10, 0, 0), frozenset({0.08, 0.12}))


def test_a_bucket_above_the_whole_is_no_edge() -> None:
    buckets = {math.inf: Joined(((101.0, 10.0, None),)), 0.08: Joined(((101.0, 11.0, None),))}
    assert counting.attempts(buckets, [0.08], Span(100, 102, 110))[1] == {0.08}


def test_a_scrape_with_a_refused_bucket_is_left_out_whole() -> None:
    span = Span(100, 102, 120)
    buckets = {
        math.inf: Joined(((101.0, 10.0, None), (106.0, 20.0, None), (111.0, 30.0, None))),
        0.08: Joined(((101.0, 8.0, None), (111.0, 25.0, None)), refused=frozenset({106.0})),
    }
    assert counting.attempts(buckets, [0.08], span) == ((20, 3), frozenset())


def test_no_attempts() -> None:
    assert counting.attempts({}, [0.08], Span(100, 100, 110)) == ((0, 0), frozenset())


SPAN = Span(100.0, 200.0, 210.0, known_from=180.0)


@pytest.mark.parametrize(
    ("times", "started", "span", "lost"),
    [
        ([150.0, 205.0], 0.0, SPAN, False),  # a base further back
        ([205.0], 0.0, SPAN, True),
        ([205.0], None, SPAN, True),
        ([205.0], 900.0, SPAN, True),  # a clock that cannot be right
        ([205.0], 195.0, SPAN, False),  # young process
        ([205.0], 202.0, SPAN, False),
        ([205.0], 150.0, SPAN, True),  # may have been counted: what was before 180 is not known
        ([205.0], 150.0, Span(100.0, 200.0, 210.0, known_from=140.0), False),  # found late, never seen before
        ([195.0], 0.0, SPAN, False),  # nothing new: gone, or not scraped yet
        ([205.0], 0.0, Span(190.0, 200.0, 210.0), False),  # young span
    ],
)
def test_gap(times: list[float], started: float | None, span: Span, lost: bool) -> None:
    assert counting.gap(times, started, span, horizon=20.0) is lost


def test_starts_are_those_of_the_newest_scrape_so_far() -> None:
    starts = Starts([(100.0, 5.0), (105.0, NAN), (110.0, 108.0)])
    assert [starts.at(at) for at in (99.0, 100.0, 106.0, 110.0)] == [None, 5.0, 5.0, 108.0]


@pytest.mark.parametrize(
    ("told", "believed"),
    [
        ([(101.0, 90.0), (106.0, 103.0)], 103.0),  # a restart: the scrape before knew the process before
        ([(106.0, 103.0)], None),  # scraped at 101, before it began
        ([(101.0, 103.0), (106.0, 103.0)], None),
        ([(101.0, 103.0), (106.0, 103.2)], None),  # the same process, rounded
        ([(101.0, 90.0)], 90.0),
        ([], None),
    ],
)
def test_a_process_that_was_scraped_before_it_began_is_not_believed(told: list[tuple[float, float]], believed: float | None) -> None:
    samples = [(96.0, 0.0), (101.0, 600.0), (106.0, 740.0)]
    assert Starts(told).believed(samples[1:], 106.0) == believed
    joined = counting.join([(samples[1:], Starts(told))], Span(102, 102, 110, known_from=96.0), 112)
    assert joined.samples == ((106.0, 740.0, believed),)


def test_newest_leaves_the_future_out() -> None:
    assert counting.newest([[(90.0, 1.0)], [(95.0, 1.0)], [(200.0, 1.0)], []], 100.0) == 95.0
    assert counting.newest([], 100.0) is None
