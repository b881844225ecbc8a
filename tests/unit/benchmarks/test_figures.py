from __future__ import annotations

import pytest

from benchmarks.figures import Spread, shares, table


def test_a_spread_is_smallest_middle_and_largest() -> None:
    spread = Spread.of([3.0, 1.0, 2.0, 10.0])
    assert (spread.least, spread.middle, spread.most, spread.count) == (1.0, 2.5, 10.0, 4)
    assert str(spread) == "1.00 / 2.50 / 10.00"
    assert spread.as_json() == {"min": 1.0, "median": 2.5, "max": 10.0, "n": 4}


def test_a_spread_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        Spread.of([])


def test_shares_are_of_all_runs_together() -> None:
    assert shares([{"scrape": 4.0, "tick": 1.0}, {"scrape": 2.0, "tick": 3.0}]) == {"scrape": 0.6, "tick": 0.4}
    assert shares([{"scrape": 0.0}]) == {"scrape": 0.0}


def test_a_table_is_markdown() -> None:
    assert table(("a", "b"), [(1, "x")]) == "| a | b |\n| --- | --- |\n| 1 | x |"
