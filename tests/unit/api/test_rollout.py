"""What is wrong with a spec is said in sentences that name the field."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kanarya.api import rollout
from kanarya.api.rollout import InvalidSpec, parse_spec

SMALLEST: dict[str, Any] = {"targetRef": {"name": "fraud"}, "serviceRef": {"name": "fraud"}}


def refusal(**changes: Any) -> str:
    with pytest.raises(InvalidSpec) as caught:
        parse_spec({**SMALLEST, **changes})
    return str(caught.value)


def test_the_smallest_spec_has_the_documented_defaults() -> None:
    spec = parse_spec(SMALLEST)
    assert [(step.weight, step.duration_seconds) for step in spec.plan.steps] == [
        (5, 1800),
        (10, 1800),
        (25, 1800),
        (50, 1800),
        (100, 1800),
    ]
    assert (spec.plan.weight_total, spec.plan.soak_seconds, spec.plan.max_hold_seconds, spec.plan.max_run_seconds) == (
        100,
        0,
        3600,
        604_800,
    )
    assert (spec.analysis.latency.slo_milliseconds, spec.analysis.latency.abort_milliseconds) == (80, 120)
    assert (spec.analysis.errors.slo, spec.analysis.errors.abort) == (0.01, 0.02)
    assert (spec.analysis.match.slo, spec.analysis.match.abort, spec.analysis.match.tolerance) == (0.95, 0.90, 0.05)
    assert spec.analysis.missing_data.no_traffic.action == "Hold"
    assert spec.analysis.missing_data.no_series.after_seconds == 300
    assert spec.analysis.missing_data.source_down.after_seconds == 1800
    assert (spec.replicas, spec.mode, spec.paused, spec.scale_down_delay_seconds, spec.deletion_policy) == (
        None,
        "Live",
        False,
        300,
        "Orphan",
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"targetRef": {}}, "spec.targetRef.name: "),
        ({"targetRef": {"name": "x" * 41}}, "spec.targetRef.name: "),
        ({"targetRef": {"name": "Fraud"}}, "spec.targetRef.name: "),
        ({"targetRef": {"name": "fraud\n"}}, "spec.targetRef.name: "),
        ({"targetRef": {"name": "fraud", "kind": "StatefulSet"}}, "spec.targetRef.kind: "),
        ({"serviceRef": {"name": "fraud", "port": 65536}}, "spec.serviceRef.port: "),
        ({"replicas": 0}, "spec.replicas: "),
        ({"mode": "Watch"}, "spec.mode: "),
        ({"plan": {"steps": []}}, "spec.plan.steps: "),
        ({"plan": {"steps": [{"weight": -1}]}}, "spec.plan.steps[0].weight: "),
        ({"plan": {"steps": [{"weight": 5}, {"weight": 100, "durationSeconds": 0}]}}, "spec.plan.steps[1].durationSeconds: "),
        ({"plan": {"steps": [{"weight": 5}, {}]}}, "spec.plan.steps[1].weight: "),
        ({"plan": {"weightTotal": 10**400}}, "spec.plan.weightTotal: "),
        ({"analysis": {"method": "Mean"}}, "spec.analysis.method: "),
        ({"analysis": {"errors": {"slo": math.nan}}}, "spec.analysis.errors.slo: "),
        ({"analysis": {"match": {"tolerance": math.inf}}}, "spec.analysis.match.tolerance: "),
        ({"analysis": {"latency": {"quantile": 1}}}, "spec.analysis.latency.quantile: "),
        ({"analysis": {"missingData": {"noSeries": {"action": "Ignore"}}}}, "spec.analysis.missingData.noSeries.action: "),
        ({"traffic": {"type": "Gateway"}}, "spec.traffic.type: "),
        ({"traffic": {"mirrorPercent": 0}}, "spec.traffic.mirrorPercent: "),
        ({"traffic": {"mirrorPercent": 99, "stickyHeader": "x-user"}}, f"spec.traffic: {rollout.STICKY_MIRROR}"),
        ({"traffic": {"stickyHeader": "x user"}}, "spec.traffic.stickyHeader: "),
        ({"analysis": {"match": {"compare": "Rank"}}}, "spec.analysis.match.compare: "),
        ({"plan": {"steps": [{"weight": 5}, {"weight": 50}]}}, f"spec.plan: {rollout.LAST_IS_TOTAL}"),
        ({"plan": {"steps": [{"weight": 50}, {"weight": 5}, {"weight": 100}]}}, f"spec.plan: {rollout.WEIGHTS_RISE}"),
        ({"analysis": {"latency": {"sloMilliseconds": 120}}}, f"spec.analysis.latency: {rollout.LATENCY_ORDER}"),
    ],
)
def test_a_refusal_names_the_field(changes: dict[str, Any], field: str) -> None:
    assert refusal(**changes).startswith(field)


def test_everything_wrong_is_said_at_once_but_not_endlessly() -> None:
    both = refusal(replicas=0, mode="Watch")
    assert "spec.replicas: " in both
    assert "spec.mode: " in both
    many = refusal(plan={"steps": [{"weight": "x" * 1_000_000}] * 20})
    assert many.count("spec.plan.steps[") == 5
    assert len(many) < 1000, "what was sent is not sent back"


@pytest.mark.parametrize("whole", [None, [], "text", 5, {}])
def test_what_is_no_spec_at_all_is_refused(whole: Any) -> None:
    with pytest.raises(InvalidSpec, match=r"^spec"):
        parse_spec(whole)


def test_fields_of_a_newer_api_server_are_ignored() -> None:
    assert parse_spec({**SMALLEST, "gates": {"start": "Approval"}}) == parse_spec(SMALLEST)
