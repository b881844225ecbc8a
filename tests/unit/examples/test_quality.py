"""The examples of F1 and Brier as metrics of a rollout and as an alert: what they name exists, and the operator's own code takes them."""

from __future__ import annotations

import re
from typing import Any

import promql_parser
import yaml

from examples.lab import ROOT
from kanarya.api.rollout import Analysis, CustomMetric
from kanarya.controller.metrics import Metrics
from kanarya.telemetry.queries import Values, problems, value_query
from kanarya_inference.server.counts import Counts
from kanarya_inference.server.metrics import ServerMetrics
from kanarya_inference.server.outcomes import Outcomes

FOLDER = ROOT / "examples/quality"
VALUES = Values("shop", "fraud", "abc12", ("fraud-abc12-",))


def metrics() -> tuple[CustomMetric, ...]:
    document = yaml.safe_load((FOLDER / "metrics.yaml").read_text())
    return Analysis.model_validate(document["rollout"]["spec"]["analysis"]).metrics


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["spec"]["groups"]
    return list(group["rules"])


def selectors(query: str) -> list[Any]:
    found: list[Any] = []

    def keep(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.transform(promql_parser.parse(query), None, keep)
    return found


def test_the_queries_are_taken_and_confined() -> None:
    assert [(metric.name, metric.slo, metric.abort) for metric in metrics()] == [("f1-drop", 0.05, 0.10), ("brier-rise", 0.05, 0.10)]
    assert problems({metric.name: {"query": metric.query or ""} for metric in metrics()}, VALUES) == []
    for metric in metrics():
        query = value_query(metric.query or "", VALUES)
        assert query.reach == 0, "a value with a range waits after each change of weight"
        matchers = [{one.name: one.value for one in node.matchers.matchers} for node in selectors(query.text)]
        assert {one["namespace"] for one in matchers} == {"shop"}
        assert {one["pod"] for one in matchers} == {"(?:fraud-abc12-[a-z0-9]+)", "(?:fraud)-stable-.+"}


def test_the_queries_read_what_the_server_exposes() -> None:
    outcomes = Outcomes(ids=10, seconds=10, window=10)
    outcomes.know("v1", 0.5)
    exposed = {family.name for family in ServerMetrics(Counts(), outcomes, None)._of_outcomes()}
    read = {name for metric in metrics() for name in re.findall(r"ml_\w+", metric.query or "")}
    assert read == {"ml_rolling_f1", "ml_rolling_brier", "ml_rolling_outcomes"}
    assert read <= exposed


def test_the_alert_reads_what_the_operator_exposes_of_these_metrics() -> None:
    (rule,) = rules()
    (node,) = selectors(rule["expr"])
    assert node.name in {family.name for family in Metrics().registry.collect()}
    (matcher,) = node.matchers.matchers
    assert set(matcher.value.split("|")) == {metric.name for metric in metrics()}
    assert float(rule["expr"].rpartition(">")[2]) == {metric.slo for metric in metrics()}.pop()
