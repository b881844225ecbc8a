"""The service that all lives are about: its names, its plan, and how its objects are read and rendered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kanarya.cluster import names
from kanarya.cluster.port import Object

NAMESPACE, NAME = "shop", "fraud"
SELECTOR = {"app": "fraud", "part": "model"}
EPOCH = 1_700_000_000.0
PLAN = {"steps": [{"weight": 20, "durationSeconds": 6}, {"weight": 60, "durationSeconds": 6}, {"weight": 100, "durationSeconds": 6}]}
MISSING = {
    "noSeries": {"action": "Rollback", "afterSeconds": 40},
    "sourceDown": {"action": "Rollback", "afterSeconds": 60},
}
ANALYSIS = {
    "method": "Threshold",
    "intervalSeconds": 2,
    "minSamples": 50,
    "errors": {"slo": 0.04, "abort": 0.08},
    "latency": {"quantile": 0.9, "sloMilliseconds": 80, "abortMilliseconds": 120},
    "match": {"slo": 0.9, "abort": 0.8},
    "missingData": MISSING,
}


def template(version: str) -> Object:
    """Give the pod template that a chart renders for a version."""
    return {
        "metadata": {"labels": {**SELECTOR, "team": "risk", "app.kubernetes.io/version": version}},
        "spec": {"containers": [{"name": "model", "image": f"model:{version}", "ports": [{"name": "http", "containerPort": 4010}]}]},
    }


def merged(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    """Merge maps deeply; lists are replaced."""
    result = dict(left)
    for key, value in right.items():
        known = result.get(key)
        result[key] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result


def weight_of(route: Object) -> int:
    """Give the weight of the candidate's Service on a route, whoever wrote it; what is not named has none."""
    weight = 0
    for rule in route["spec"].get("rules") or []:
        for backend in rule.get("backendRefs") or []:
            if backend.get("name") == names.candidate_service(NAME):
                weight += int(backend.get("weight", 1))
    return weight
