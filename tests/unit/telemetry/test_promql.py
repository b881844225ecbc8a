"""Values of resources stand for themselves in PromQL, whatever they hold."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from kanarya.telemetry import profile, promql

_WRITTEN = {"\\\\": "\\", '\\"': '"', "\\n": "\n", "\\ufffd": "\ufffd"}


def unquoted(text: str) -> str:
    """Read what stands between double quotes in PromQL, by its own rules: a bare quote or newline ends the string."""
    assert re.fullmatch(r'(?:[^"\\\n\ufffd]|\\["\\n]|\\ufffd)*', text), text
    return re.sub(r'\\(?:["\\n]|ufffd)', lambda found: _WRITTEN[found[0]], text)


nasty = st.text(st.sampled_from("\\\"\n.+*?()|[]{}^$ab-,= '`#/é\ufffd")) | st.text()


@given(nasty)
def test_an_escaped_value_reads_as_itself(value: str) -> None:
    assert unquoted(promql.escaped(value)) == value


@given(nasty, nasty)
def test_a_pattern_matches_its_value_and_no_other(value: str, other: str) -> None:
    pattern = re.compile(unquoted(promql.escaped(value, regex=True)))
    assert pattern.fullmatch(value)
    assert (pattern.fullmatch(other) is not None) == (other == value)


@given(st.sets(nasty, min_size=1, max_size=4), nasty)
def test_one_of_matches_exactly_the_set(values: set[str], other: str) -> None:
    matcher = promql.one_of("pod", values)
    pattern = re.compile(unquoted(matcher.removeprefix('pod=~"').removesuffix('"')))
    assert all(pattern.fullmatch(value) for value in values)
    assert (pattern.fullmatch(other) is not None) == (other in values)


@given(st.sets(nasty, min_size=1, max_size=4), nasty)
def test_starting_with_matches_prefixes(values: set[str], other: str) -> None:
    matcher = promql.starting_with("pod", values)
    pattern = re.compile(unquoted(matcher.removeprefix('pod=~"').removesuffix('"')), re.DOTALL)
    assert (pattern.fullmatch(other) is not None) == any(other.startswith(value) for value in values)


def test_a_namespace_cannot_leave_its_quotes() -> None:
    query = profile.traffic_query([80], ['x"} or vector(1) #'], ["fraud-router-"], 20)
    assert 'namespace=~"x\\"\\\\} or vector\\\\(1\\\\) #"' in query


def test_the_query_asks_for_both_spellings_of_an_edge() -> None:
    query = profile.traffic_query([80, 1000], ["shop"], ["fraud-router-"], 20)
    assert query == (
        '{__name__=~"kanarya_comparisons_total|kanarya_mirror_breaker_open|kanarya_request_duration_seconds|'
        "kanarya_request_duration_seconds_bucket|"
        'process_start_time_seconds",le=~"\\\\+Inf|0\\\\.08|1|1\\\\.0|",outcome!="cancelled",namespace=~"shop",'
        'pod=~"(?:fraud-router-).*"}[20s]'
    )


def test_the_drift_query_names_only_pods_of_candidates() -> None:
    query = profile.drift_query(["shop"], ["fraud-new-"], 30)
    assert query == (
        '{__name__=~"ml_feature_bin_total|ml_feature_reference_bin|ml_model_offline_report_info|process_start_time_seconds",namespace=~"shop",'
        'pod=~"(?:fraud-new-).*"}[30s]'
    )
