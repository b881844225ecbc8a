"""Queries that rollouts bring: what is refused, and that nothing gets out of the namespace."""

from __future__ import annotations

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kanarya.telemetry.queries import QueryProblem, Values, problems, selector, value_query

VALUES = Values("shop", "fraud", "abc12", ("fraud-abc12-",))


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("up", '({__name__="up",namespace="shop"})[1s:1s]'),
        ('max(x{pod=~"{{pods}}"})', '(max({__name__="x",pod=~"(?:fraud-abc12-[a-z0-9]+)",namespace="shop"}))[1s:1s]'),
        ("x{a='{{ rollout }}',b=\"{{revision}}-{{namespace}}\"}", '({__name__="x",a="fraud",b="abc12-shop",namespace="shop"})[1s:1s]'),
        ('x{namespace="{{namespace}}"}', '({__name__="x",namespace="shop"})[1s:1s]'),
        ('x{namespace="shop"} - y', '({__name__="x",namespace="shop"} - {__name__="y",namespace="shop"})[1s:1s]'),
        ('x{a="q\\"u\\\\o\\n"}', '({__name__="x",a="q\\"u\\\\o\\n",namespace="shop"})[1s:1s]'),
    ],
)
def test_a_query_is_filled_in_and_confined(template: str, text: str) -> None:
    def parts(query: str) -> str:
        return str(promql_parser.parse(query).prettify())

    assert parts(value_query(template, VALUES).text) == parts(text)


@pytest.mark.parametrize(
    ("template", "reach"),
    [
        ("x", 0),
        ("rate(x[5m])", 300),
        ("rate(x[5m]) / rate(y[10m])", 600),
        ("max_over_time(rate(x[5m])[10m:1m])", 900),
        ("topk(scalar(max_over_time(a[2m])), sum by (b) (-rate(x[1m])))", 120),
    ],
)
def test_how_far_back_a_query_looks(template: str, reach: float) -> None:
    assert value_query(template, VALUES).reach == reach


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("x{", "not PromQL"),
        ('x{a="{{nope}}"}', "no variable {{nope}}"),
        ("x_{{rollout}}", "the name of a metric"),
        ('x{{{rollout}}="a"}', "name"),
        ('label_replace(x,"a","{{rollout}}","b","c")', "values of label matchers only"),
        ('count_values("{{rollout}}", x)', "values of label matchers only"),
        ('x{pod="{{pods}}"}', "is a pattern"),
        ('x{a="kanaryaVariable0Z"}', "must not hold the word"),
        ('{a="b"}', "needs the name of its metric"),
        ('{__name__=~"x.+"}', "needs the name of its metric"),
        ('{"x y"}', "letters, digits"),
        ('x{"a b"="c"}', "name of a label"),
        ('x{namespace="other"}', "own namespace only"),
        ('x{namespace=~"shop|other"}', "own namespace only"),
        ('x{namespace!="shop"}', "own namespace only"),
        ('x / y{namespace="other"}', "own namespace only"),
        ('x{a="b" or namespace="other"}', "joined by or"),
        ("x offset 5m", "offset or @"),
        ("rate(x[5m] @ 0)", "offset or @"),
        ("max_over_time(x[5m:1m] offset 1d)", "offset or @"),
        ("rate(x[2h])", "back further"),
        ("max_over_time(rate(x[40m])[40m:1m])", "back further"),
        ("max_over_time(x[10m:])", "step of at least 1 s"),
        ("max_over_time(x[10m:1s])", "at most 360 steps"),
        ("max_over_time(max_over_time(x[1m:10s])[1m:10s])", "must not hold another"),
        ("info(x)", "function info"),
        ("vector(0)", "reads no metric"),
        ("1", "reads no metric"),
        ("scalar(x)", "instant vector"),
        ("x[5m]", "instant vector"),
        ("(" * 30 + "x" + ")" * 30, "nested"),
        ("-" * 30 + "x", "nested"),
        ("x" + "+x" * 400, "more than 100 parts"),
    ],
)
def test_queries_that_are_refused(template: str, sentence: str) -> None:
    with pytest.raises(QueryProblem, match=sentence):
        value_query(template, VALUES)


def test_counters_are_plain_selectors() -> None:
    assert selector('x_total{pod=~"{{pods}}"}', VALUES) == '{__name__="x_total",namespace="shop",pod=~"(?:fraud-abc12-[a-z0-9]+)"}'
    for wrong in ("rate(x[5m])", "x[5m]", "sum(x)", "(x)", "x + y"):
        with pytest.raises(QueryProblem, match="plain selector"):
            selector(wrong, VALUES)


def test_without_pods_nothing_is_matched() -> None:
    assert '"(?:no pods)"' in selector('x{pod=~"{{pods}}"}', Values("shop", "fraud", "abc12"))


def test_problems_name_metric_and_field() -> None:
    (found,) = problems({"gpu": {"query": "up"}, "low": {"bad": "x offset 1m", "total": "y"}}, VALUES)
    assert found.startswith("low, bad: it must not use offset")


@given(st.text(max_size=30), st.text(max_size=30), st.sampled_from(["=", "!=", "=~", "!~"]))
def test_whatever_stands_in_a_string_stays_in_it(value: str, namespace: str, sign: str) -> None:
    """Values of the cluster and strings of templates cannot close their quotes: every selector is confined in what is sent."""
    literal = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    values = Values(namespace, 'fr"} or other{a="', "abc12")
    try:
        text = value_query(f'sum(x{{a{sign}"{literal}",b="{{{{rollout}}}}"}}) / y', values).text
    except QueryProblem:
        return
    selectors = []
    promql_parser.walk(
        promql_parser.parse(text), lambda node: selectors.append(node) if isinstance(node, promql_parser.VectorSelector) else None
    )
    assert len(selectors) == 2
    for one in selectors:
        assert [matcher.value for matcher in one.matchers.matchers if matcher.name == "namespace"] == [namespace]
