"""Queries that a rollout brings itself: parsed, filled in, and confined to the rollout's namespace. Pure.

Nothing of a template is put together as text. It is parsed, what may not be in it is refused, every selector is written anew with
`namespace="..."` among its matchers, and the result is parsed once more to see that it is so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import promql_parser
from promql_parser import MatchOp

from kanarya.telemetry import promql

VARIABLES = ("namespace", "rollout", "revision", "pods")
"""What a template may name. `pods` is a pattern for `=~`: the names of the candidate's pods."""

MOST_NODES = 100
MOST_NESTED = 20
LONGEST_SECONDS = 3600
"""How far back a query may look, all its ranges together."""
LONGEST_SUBQUERY_STEPS = 360

_PLACE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_MARK = "kanaryaVariable"
"""Stands in a template for a variable while it is parsed: letters are themselves in every string and pattern."""
_SIGNS = ((MatchOp.Equal, "="), (MatchOp.NotEqual, "!="), (MatchOp.Re, "=~"), (MatchOp.NotRe, "!~"))


class QueryProblem(ValueError):  # noqa: N818 -- reads as the condition it becomes
    """A query cannot be used; the message says what to change, and holds nothing but the query's own words."""


@dataclass(frozen=True)
class Values:
    """What the variables of a template stand for. `pod_prefixes` are what the names of the candidate's pods begin with."""

    namespace: str
    rollout: str
    revision: str
    pod_prefixes: tuple[str, ...] = ()

    def text(self, variable: str, *, regex: bool) -> str:
        """Give a variable's value, or the pattern that matches just it; not yet escaped for a string of PromQL."""
        if variable == "pods":  # without any, a pattern that no pod's name matches
            return "|".join(f"{promql.pattern(prefix)}[a-z0-9]+" for prefix in sorted(self.pod_prefixes)) or "no pods"
        value = str(getattr(self, variable))
        return promql.pattern(value) if regex else value


@dataclass(frozen=True)
class Query:
    """A query ready to be sent, and how many seconds it looks back (its ranges, not the look-back of instant selectors)."""

    text: str
    reach: float


@lru_cache(maxsize=8192)
def value_query(template: str, values: Values) -> Query:
    """Give the query of a metric that is a value, as a subquery of one step: its answer then is raw samples as any other's.

    Raises
    ------
    QueryProblem
        When the template is none that may be sent.
    """
    tree = _parsed(template)
    nodes = list(_nodes(tree))
    if not any(isinstance(node, promql_parser.VectorSelector) for node in nodes):
        raise QueryProblem("it reads no metric: a number that never changes judges nothing")
    text = _written(tree, values)
    try:
        whole = f"({text})[1s:1s]"
        promql_parser.parse(whole)
    except ValueError as error:
        raise QueryProblem("it must give an instant vector: no range, no string, no scalar") from error
    return Query(whole, _reach(tree))


@lru_cache(maxsize=8192)
def selector(template: str, values: Values) -> str:
    """Give the selector of a counter, which ends where a range may follow; raises `QueryProblem`."""
    tree = _parsed(template)
    if not isinstance(tree, promql_parser.VectorSelector):
        raise QueryProblem(
            'it must be a plain selector of counters, such as requests_total{pod=~"{{pods}}"}: what they grew by is counted here'
        )
    return _written(tree, values)


def _parsed(template: str) -> Any:
    """Parse a template with marks in place of its variables, and refuse what may not be in it."""
    if _MARK.lower() in template.lower():
        raise QueryProblem(f"it must not hold the word {_MARK}")
    unknown = [name for name in _PLACE.findall(template) if name not in VARIABLES]
    if unknown:
        known = ", ".join(f"{{{{{name}}}}}" for name in VARIABLES)
        raise QueryProblem(f"there is no variable {{{{{unknown[0]}}}}}; there are {known}")
    text = _PLACE.sub(lambda found: f"{_MARK}{VARIABLES.index(found[1])}Z", template)
    if _nested(text) > MOST_NESTED:
        raise QueryProblem(f"its brackets are nested more than {MOST_NESTED} deep")
    try:
        tree = promql_parser.parse(text)
    except ValueError as error:
        raise QueryProblem(f"it is not PromQL: {_plain(str(error))}") from error
    for count, node in enumerate(_nodes(tree), start=1):
        if count > MOST_NODES:
            raise QueryProblem(f"it has more than {MOST_NODES} parts")
        _check(node)
    if _reach(tree) > LONGEST_SECONDS:
        raise QueryProblem(f"it looks back further than {LONGEST_SECONDS} s: shorten its ranges")
    return tree


def _nested(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    # A sign before a sign nests as well.
    return max(deepest, *(len(signs.replace(" ", "")) for signs in re.findall(r"[-+][-+\s]*", text)), 0)


def _plain(sentence: str) -> str:
    return re.sub(rf"{_MARK}(\d)Z", lambda found: f"{{{{{VARIABLES[int(found[1])]}}}}}", " ".join(sentence.split()))[:200]


def _nodes(node: Any) -> Iterator[Any]:
    """Give a tree's nodes, one after the other: whoever has seen enough stops."""
    left = [node]
    while left:
        one = left.pop()
        yield one
        match one:
            case promql_parser.MatrixSelector():
                left.append(one.vector_selector)
            case promql_parser.BinaryExpr():
                left += [one.rhs, one.lhs]
            case promql_parser.Call():
                left += one.args
            case promql_parser.AggregateExpr():
                left += [one.expr] if one.param is None else [one.expr, one.param]
            case promql_parser.SubqueryExpr() | promql_parser.ParenExpr() | promql_parser.UnaryExpr():
                left.append(one.expr)


def _check(node: Any) -> None:
    match node:
        case promql_parser.VectorSelector():
            _check_selector(node)
        case promql_parser.SubqueryExpr():
            _check_time(node)
            step = 0.0 if node.step is None else node.step.total_seconds()
            if step < 1 or _range(node) / step > LONGEST_SUBQUERY_STEPS:
                raise QueryProblem(f"a subquery needs a step of at least 1 s, and at most {LONGEST_SUBQUERY_STEPS} steps")
            if any(isinstance(inner, promql_parser.SubqueryExpr) for inner in _nodes(node.expr)):
                raise QueryProblem("a subquery must not hold another")
        case promql_parser.Call():
            if node.func.name == "info":
                raise QueryProblem("the function info reads metrics that it does not name: use label matching")
            texts = [arg for arg in node.args if isinstance(arg, promql_parser.StringLiteral)]
            if any(_MARK in text.val for text in texts):
                raise QueryProblem("variables stand in the values of label matchers only")
        case promql_parser.AggregateExpr():
            if isinstance(node.param, promql_parser.StringLiteral) and _MARK in node.param.val:
                raise QueryProblem("variables stand in the values of label matchers only")


def _check_time(node: Any) -> None:
    if node.offset is not None or node.at is not None:
        raise QueryProblem("it must not use offset or @: a verdict rests on the present")


def _check_selector(node: Any) -> None:
    _check_time(node)
    if node.matchers.or_matchers:
        raise QueryProblem("matchers must not be joined by or")
    names = [node.name] if node.name else []
    names += [one.value for one in node.matchers.matchers if one.name == "__name__" and one.op == MatchOp.Equal]
    if not names:
        raise QueryProblem("every selector needs the name of its metric")
    if not all(_METRIC.fullmatch(name) for name in names) or _MARK in "".join(names):
        raise QueryProblem("the name of a metric must be letters, digits, _ and :")
    for one in node.matchers.matchers:
        if not _LABEL.fullmatch(one.name) or _MARK in one.name:
            raise QueryProblem("the name of a label must be letters, digits and _")
        if f"{_MARK}{VARIABLES.index('pods')}Z" in one.value and one.op not in (MatchOp.Re, MatchOp.NotRe):
            raise QueryProblem("{{pods}} is a pattern: write pod=~ before it")


def _range(node: Any) -> float:
    return float(node.range.total_seconds())


def _reach(node: Any) -> float:
    """Give how many seconds a tree looks back."""
    match node:
        case promql_parser.MatrixSelector():
            return _range(node)
        case promql_parser.SubqueryExpr():
            return _range(node) + _reach(node.expr)
        case promql_parser.BinaryExpr():
            return max(_reach(node.lhs), _reach(node.rhs))
        case promql_parser.Call():
            return max((_reach(arg) for arg in node.args), default=0.0)
        case promql_parser.AggregateExpr():
            return max(_reach(node.expr), 0.0 if node.param is None else _reach(node.param))
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            return _reach(node.expr)
    return 0.0


def _written(tree: Any, values: Values) -> str:
    """Write a tree with the values of its variables, every selector confined, and see that it is."""

    def anew(node: Any) -> Any:
        return promql_parser.parse(_selector_text(node, values)) if isinstance(node, promql_parser.VectorSelector) else None

    # Long queries are broken into lines; in a string a line's end is written as \n.
    text = re.sub(r"\s*\n\s*", " ", promql_parser.transform(tree, None, anew).prettify()).strip()
    for node in _nodes(promql_parser.parse(text)):
        if isinstance(node, promql_parser.VectorSelector):
            ours = [(one.op, one.value) for one in node.matchers.matchers if one.name == "namespace"]
            if ours != [(MatchOp.Equal, values.namespace)] or node.matchers.or_matchers:
                raise QueryProblem("it could not be confined to the namespace")
    return text


def _selector_text(node: Any, values: Values) -> str:
    written = [] if not node.name else [_matcher("__name__", "=", str(node.name))]
    for one in node.matchers.matchers:
        sign = next(sign for known, sign in _SIGNS if known == one.op)
        regex = "~" in sign
        value = _filled(one.value, values, regex=regex)
        if one.name != "namespace":
            written.append(_matcher(one.name, sign, value))
        elif (sign, value) != ("=", values.namespace):
            raise QueryProblem("it may read the rollout's own namespace only: leave the matcher on namespace out")
    return "{" + ",".join([*written, _matcher("namespace", "=", values.namespace)]) + "}"


def _matcher(label: str, sign: str, value: str) -> str:
    return f'{label}{sign}"{promql.escaped(value)}"'


def _filled(text: str, values: Values, *, regex: bool) -> str:
    found = {f"{_MARK}{index}Z": values.text(name, regex=regex) for index, name in enumerate(VARIABLES)}
    return re.sub(rf"{_MARK}\dZ", lambda mark: f"(?:{found[mark[0]]})" if regex else found[mark[0]], text)


def problems(metrics: Mapping[str, Mapping[str, str]], values: Values) -> list[str]:
    """Say what is wrong with each template: `metrics` gives by metric the templates by field (`query`, `bad`, `total`)."""
    found = []
    for metric, templates in metrics.items():
        for name, template in templates.items():
            try:
                (value_query if name == "query" else selector)(template, values)
            except QueryProblem as problem:
                found.append(f"{metric}, {name}: {problem}")
    return found
