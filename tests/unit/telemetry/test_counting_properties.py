"""Counting holds for every history: what a look counts does not depend on when the looks before it were."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kanarya.telemetry import counting
from kanarya.telemetry.counting import Point, Span

SINCE, END = 100.0, 200.0


@st.composite
def histories(draw: st.DrawFn) -> list[Point]:
    """One counter through scrapes, misses and restarts; also its process may begin late."""
    times = sorted(draw(st.sets(st.integers(80, 210), min_size=1, max_size=25)))
    started, value = float(draw(st.integers(50, times[0]))), float(draw(st.integers(0, 50)))
    points = []
    for before, at in pairwise([times[0], *times]):
        if draw(st.integers(0, 5)) == 0 and at - before >= 2:
            started, value = float(draw(st.integers(before + 1, at))), 0.0
        value += draw(st.integers(0, 20))
        points.append(Point(float(at), (value,), started))
    return points


looks = st.lists(st.integers(int(SINCE), int(END)), max_size=12).map(lambda times: sorted({SINCE, *map(float, times), END}))


def one_look(points: list[Point], since: float = SINCE, until: float = END) -> float:
    return sum(counting.increments(points, Span(since, since, until, known_from=0.0)))


@given(histories(), looks)
def test_looks_at_any_times_add_up_to_one_look(points: list[Point], times: list[float]) -> None:
    total = sum(sum(counting.increments(points, Span(SINCE, watermark, until, known_from=0.0))) for watermark, until in pairwise(times))
    assert total == one_look(points)


@given(histories(), looks)
def test_looks_never_see_what_is_scraped_after_them(points: list[Point], times: list[float]) -> None:
    total = 0.0
    for watermark, until in pairwise(times):
        visible = [point for point in points if point.at <= until]
        total += sum(counting.increments(visible, Span(SINCE, watermark, until, known_from=0.0)))
    assert total == one_look(points)


@given(histories(), looks)
def test_no_look_is_negative(points: list[Point], times: list[float]) -> None:
    for watermark, until in pairwise(times):
        assert all(value >= 0 for value in counting.increments(points, Span(SINCE, watermark, until)))


@given(histories(), st.floats(0, 1000))
def test_samples_up_to_since_change_nothing(points: list[Point], value: float) -> None:
    changed = [Point(point.at, (value,), point.started) if point.at <= SINCE else point for point in points]
    assert one_look(changed) == one_look(points)
    assert one_look([point for point in points if point.at > SINCE]) == one_look(points)


@given(histories())
def test_the_truth_is_an_upper_bound(points: list[Point]) -> None:
    """Never more than all that the processes of the span did after `since` could be, whatever was missed."""
    truth = 0.0
    for before, point in pairwise([None, *points]):
        if point is not None and SINCE < point.at <= END:
            restarted = before is None or before.started != point.started
            truth += point.values[0] if restarted else point.values[0] - (before.values[0] if before else 0.0)
    assert 0 <= one_look(points) <= truth


@given(histories(), st.integers(1, 4))
def test_every_scrape_of_a_lasting_process_is_counted_exactly(points: list[Point], cut: int) -> None:
    lasting = [Point(point.at, (float(index * cut),), 0.0) for index, point in enumerate(points)]
    inside = [point.values[0] for point in lasting if SINCE < point.at <= END]
    assert one_look(lasting) == (inside[-1] - inside[0] if inside else 0)


@given(histories(), looks, st.integers(0, 5))
def test_a_series_in_two_parts_counts_like_one(points: list[Point], times: list[float], cut: int) -> None:
    span = Span(SINCE, times[len(times) // 2], END, known_from=0.0)
    samples = [(point.at, point.values[0]) for point in points]
    whole = counting.join([(samples, counting.UNKNOWN_START)], span, END)
    parts = counting.join([(samples[cut:], counting.UNKNOWN_START), (samples[:cut], counting.UNKNOWN_START)], span, END)
    assert parts == whole
