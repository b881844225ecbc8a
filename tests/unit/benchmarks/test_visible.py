from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.visible import Rule, visible_at

ERRORS = Rule(limit=0.02, alpha=0.001)
TIMES = (0.0, 5.0, 10.0, 15.0)
LOOKS = [(at + 2.1, at) for at in TIMES]
"""A look after every scrape."""


def series(
    values: Sequence[float], *, pod: str = "a", exposure: str = "live", outcome: str = "success", le: str = "+Inf"
) -> dict[str, Any]:
    labels = {"pod": pod, "exposure": exposure, "outcome": outcome, "le": le}
    return {"metric": labels, "values": [[at, str(value)] for at, value in zip(TIMES, values, strict=True)]}


def test_the_first_scrape_that_proves_it_counts() -> None:
    good, bad = series([0, 200, 400, 500]), series([0, 0, 9, 60], outcome="server_error")
    assert visible_at([good, bad], 0.0, ERRORS, LOOKS) == 15.0
    assert visible_at([good, series([0, 0, 40, 60], outcome="timeout")], 0.0, ERRORS, LOOKS) == 10.0
    assert visible_at([good, series([0, 0, 40, 60], outcome="client_error")], 0.0, ERRORS, LOOKS) is None


def test_what_comes_in_bursts_proves_less() -> None:
    found = [series([0, 200, 400, 500]), series([0, 0, 20, 60], outcome="server_error")]
    assert visible_at(found, 0.0, ERRORS, LOOKS) == 10.0
    assert visible_at(found, 0.0, replace(ERRORS, effect=4.0), LOOKS) == 15.0


def test_a_late_fault_is_not_hidden_by_the_good_answers_before_it() -> None:
    """Over the whole step it is 12 of 5,000."""
    good = series([0, 4900, 4950, 5000])
    assert visible_at([good, series([0, 0, 0, 12], outcome="server_error")], -1.0, ERRORS, LOOKS) == 15.0


def test_windows_begin_where_the_operator_looked() -> None:
    """Of two routers, scraped one after the other, it sees both at once: the window that would hold only the bad one is not there."""
    good = series([0, 100, 200, 300])
    other = {"metric": series([0] * 4, pod="b", outcome="server_error")["metric"], "values": [[2.0, "0"], [7.0, "0"], [12.0, "7"]]}
    assert visible_at([good, other], -1.0, replace(ERRORS, alpha=0.00001), [(10.5, 10.0)]) == 12.0
    assert visible_at([good, other], -1.0, replace(ERRORS, alpha=0.00001), [(9.0, 6.9)]) is None


def test_counting_goes_on_from_the_first_scrape_after_the_step_began() -> None:
    """Errors of an earlier run are in the counter, and must not make this one look bad."""
    good, old = series([1000, 1000, 1200, 1400]), series([900, 950, 950, 950], outcome="server_error")
    assert visible_at([good, old], 1.0, ERRORS, LOOKS) is None
    assert visible_at([good, series([900, 950, 950, 990], outcome="server_error")], 1.0, ERRORS, LOOKS) == 15.0


def test_two_bad_attempts_prove_nothing() -> None:
    assert visible_at([series([0, 1, 2, 3]), series([0, 2, 2, 2], outcome="server_error")], -1.0, ERRORS, LOOKS) is None


def test_live_requests_alone_are_enough() -> None:
    live = [series([0, 90, 100, 100]), series([0, 0, 0, 10], outcome="server_error")]
    mirrored = series([0, 1000, 2000, 3000], exposure="mirror")
    assert visible_at([*live, mirrored], -1.0, ERRORS, LOOKS) == 15.0


def test_routers_are_added_up_though_they_are_scraped_at_other_times() -> None:
    other = {"metric": series([0] * 4, pod="b", outcome="server_error")["metric"], "values": [[1.0, "0"], [6.0, "12"], [11.0, "12"]]}
    assert visible_at([series([0, 60, 120, 180]), other], -1.0, ERRORS, LOOKS) == 6.0


@pytest.mark.parametrize(("within", "at"), [([0, 100, 180, 280], 10.0), ([0, 100, 196, 294], None), ([0, 100, 196, 270], 15.0)])
def test_slow_attempts_are_all_less_those_within_the_limit(within: Sequence[float], at: float | None) -> None:
    whole = series([0, 100, 200, 300])
    edges = [series(within, le="0.5"), series([0, 0, 0, 0], le="0.25")]
    assert visible_at([whole, *edges], -1.0, Rule(0.02, 0.001, slower_than=0.5), LOOKS) == at


def test_cancelled_attempts_do_not_count() -> None:
    found = [series([0, 80, 80, 80]), series([0, 20, 20, 20], outcome="server_error")]
    assert visible_at([*found, series([0, 1000, 1000, 1000], outcome="cancelled")], -1.0, ERRORS, LOOKS) == 5.0
    assert visible_at([*found, series([0, 1000, 1000, 1000])], -1.0, ERRORS, LOOKS) is None
