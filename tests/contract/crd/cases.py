"""Objects that the API server must refuse, each for one reason."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from kanarya.api import crd, rollout
from kanarya.cluster.port import ROLLOUTS, Object

LONG = "x" * (2**20 - 1024)  # as much as a body may have


def merged(base: Any, changes: Any) -> Any:
    """Put `changes` into a copy of `base`, map by map."""
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return deepcopy(changes)
    return {**base, **{key: merged(base.get(key), value) for key, value in changes.items()}}


def body(name: str, **spec: Any) -> Object:
    """Give the smallest object, with changes of its spec."""
    smallest = {"targetRef": {"name": "fraud"}, "serviceRef": {"name": "fraud"}}
    return {
        "apiVersion": ROLLOUTS.api_version,
        "kind": ROLLOUTS.kind,
        "metadata": {"name": name},
        "spec": merged(smallest, spec),
    }


@dataclass(frozen=True)
class Case:
    """A bad object: the smallest one with `spec`, or created so and then changed by `update`.

    `says` is part of the server's refusal. `between` tells that it is the sentence of a rule between fields, which `parse_spec` says too.
    """

    id: str
    says: str
    spec: dict[str, Any] = field(default_factory=dict)
    update: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    between: bool = False


def between(name: str, sentence: str, **spec: Any) -> Case:
    return Case(name, sentence, spec, between=True)


def alone(name: str, path: str, **spec: Any) -> Case:
    return Case(name, path, spec)


def steps(*weights: int, seconds: int = 60) -> list[dict[str, int]]:
    return [{"weight": weight, "durationSeconds": seconds} for weight in weights]


def metric(**changes: Any) -> dict[str, Any]:
    """Give an analysis with one metric of the team's own, a value, with changes; None takes a field out."""
    whole = {"name": "own", "query": "up", "slo": 1, "abort": 2, **changes}
    return {"metrics": [{key: value for key, value in whole.items() if value is not None}]}


RATIO: dict[str, Any] = {"query": None, "bad": "bad_total", "total": "all_total", "slo": 0.01, "abort": 0.02}


def missing(kind: str, **policy: Any) -> dict[str, Any]:
    return {"missingData": {kind: policy}}


RULES = [
    between("weights fall", rollout.WEIGHTS_RISE, plan={"steps": steps(50, 10, 100)}),
    between("weights stand still", rollout.WEIGHTS_RISE, plan={"steps": steps(10, 10, 100)}),
    between("weights end twice", rollout.WEIGHTS_RISE, plan={"steps": steps(5, 100, 100)}),
    between("last step too small", rollout.LAST_IS_TOTAL, plan={"steps": steps(5, 50)}),
    between("last step too large", rollout.LAST_IS_TOTAL, plan={"steps": steps(5, 1000)}),
    between("total without steps", rollout.LAST_IS_TOTAL, plan={"weightTotal": 1000}),
    between("run shorter than the default steps", rollout.RUN_TOO_SHORT, plan={"maxRunSeconds": 8999}),
    between("run shorter than the steps", rollout.RUN_TOO_SHORT, plan={"steps": steps(5, 100), "maxRunSeconds": 119}),
    between("run shorter than the soak", rollout.RUN_TOO_SHORT, plan={"steps": steps(5, 100), "maxRunSeconds": 120, "soakSeconds": 1}),
    between("latency limits equal", rollout.LATENCY_ORDER, analysis={"latency": {"sloMilliseconds": 120}}),
    between("latency abort below the default slo", rollout.LATENCY_ORDER, analysis={"latency": {"abortMilliseconds": 80}}),
    between("errors limits equal", rollout.ERRORS_ORDER, analysis={"errors": {"slo": 0.02}}),
    between("errors turned round", rollout.ERRORS_ORDER, analysis={"errors": {"slo": 0.2, "abort": 0.1}}),
    between("match limits equal", rollout.MATCH_ORDER, analysis={"match": {"slo": 0.9}}),
    between("match turned round", rollout.MATCH_ORDER, analysis={"match": {"slo": 0.5, "abort": 0.6}}),
    between("no time before a rollback", rollout.ROLLBACK_AFTER, analysis=missing("noSeries", action="Rollback")),
    between("a time and no action", rollout.HOLD_AFTER, analysis=missing("noSeries", afterSeconds=60)),
    between("a time before nothing", rollout.HOLD_AFTER, analysis=missing("sourceDown", action="Hold", afterSeconds=60)),
    between("no time before a rollback, no traffic", rollout.ROLLBACK_AFTER, analysis=missing("noTraffic", action="Rollback")),
    between("no time before a rollback, source down", rollout.ROLLBACK_AFTER, analysis=missing("sourceDown", action="Rollback")),
    between("a metric without a query", rollout.METRIC_SOURCE, analysis=metric(query=None)),
    between("a metric with everything", rollout.METRIC_SOURCE, analysis=metric(bad="bad_total", total="all_total")),
    between("a metric with half a ratio", rollout.METRIC_SOURCE, analysis=metric(**RATIO | {"total": None})),
    between("a metric with the other half", rollout.METRIC_SOURCE, analysis=metric(total="all_total")),
    between("a metric with one limit", rollout.METRIC_LIMITS, analysis=metric(slo=2)),
    between("a ratio turned round", rollout.RATIO_LIMITS, analysis=metric(**RATIO | {"slo": 0.1})),
    between("a ratio of 0", rollout.RATIO_LIMITS, analysis=metric(**RATIO | {"slo": 0})),
    between("a ratio of 1", rollout.RATIO_LIMITS, analysis=metric(**RATIO | {"abort": 1})),
    between("a ratio that is held", rollout.RATIO_FOR, analysis=metric(**RATIO, abortForSeconds=10)),
    between("a metric called errors", rollout.METRIC_NAMES, analysis=metric(name="errors")),
    between("a metric twice", rollout.METRIC_NAMES, analysis={"metrics": metric()["metrics"] * 2}),
    between("drift weight over the total", rollout.DRIFT_WEIGHT, analysis={"drift": {"maxWeight": 101}}),
    between("default drift weight over a small total", rollout.DRIFT_WEIGHT, plan={"weightTotal": 10, "steps": steps(1, 10)}),
    between("sticky with half the copies", rollout.STICKY_MIRROR, traffic={"stickyHeader": "x-user", "mirrorPercent": 50}),
    Case("long name", crd.NAME_TOO_LONG, name="n" * 41),
    Case("name that begins with a digit", crd.NAME_NOT_LABEL, name="1fraud"),
    Case("name with a dot", crd.NAME_NOT_LABEL, name="fraud.eu"),
    Case("another target", rollout.TARGET_IMMUTABLE, update={"targetRef": {"name": "other"}}),
    Case("another service", rollout.SERVICE_IMMUTABLE, update={"serviceRef": {"name": "other"}}),
    Case("another port", rollout.SERVICE_IMMUTABLE, update={"serviceRef": {"port": 81}}),
]

BOUNDS = [
    alone("no target name", "spec.targetRef.name", targetRef={"name": None}),
    alone("target name empty", "spec.targetRef.name", targetRef={"name": ""}),
    alone("target name in capitals", "spec.targetRef.name", targetRef={"name": "Fraud"}),
    alone("target name with a dot", "spec.targetRef.name", targetRef={"name": "a.b"}),
    alone("target name with a line break", "spec.targetRef.name", targetRef={"name": "fraud\n"}),
    alone("target name too long", "spec.targetRef.name", targetRef={"name": "n" * 41}),
    alone("target name of almost a MiB", "spec.targetRef.name", targetRef={"name": LONG}),
    alone("service name too long", "spec.serviceRef.name", serviceRef={"name": "n" * 64}),
    alone("service name of almost a MiB", "spec.serviceRef.name", serviceRef={"name": LONG}),
    alone("port 0", "spec.serviceRef.port", serviceRef={"port": 0}),
    alone("port 65536", "spec.serviceRef.port", serviceRef={"port": 65536}),
    alone("kind", "spec.targetRef.kind", targetRef={"kind": "StatefulSet"}),
    alone("group", "spec.targetRef.apiVersion", targetRef={"apiVersion": "extensions/v1beta1"}),
    alone("mode", "spec.mode", mode="Shadow"),
    alone("deletion policy", "spec.deletionPolicy", deletionPolicy="Restore"),
    alone("method", "spec.analysis.method", analysis={"method": "Mean"}),
    alone("a confidence of 1", "spec.analysis.confidence.abort", analysis={"confidence": {"abort": 1}}),
    alone("no confidence", "spec.analysis.confidence.advance", analysis={"confidence": {"advance": 0}}),
    alone("profile", "spec.analysis.profile", analysis={"profile": "seldon"}),
    alone("source as a URL", "spec.analysis.sourceName", analysis={"sourceName": "http://10.0.0.1:9090"}),
    alone("source of almost a MiB", "spec.analysis.sourceName", analysis={"sourceName": LONG}),
    alone("traffic", "spec.traffic.type", traffic={"type": "Gateway"}),
    alone("fallback", "spec.traffic.fallback", traffic={"fallback": "Always"}),
    alone("no mirror", "spec.traffic.mirrorPercent", traffic={"mirrorPercent": 0}),
    alone("mirror over 100", "spec.traffic.mirrorPercent", traffic={"mirrorPercent": 101}),
    alone("no replicas", "spec.replicas", replicas=0),
    alone("too many replicas", "spec.replicas", replicas=1001),
    alone("replicas beyond 64 bits", "spec.replicas", replicas=10**30),
    alone("no steps", "spec.plan.steps", plan={"steps": []}),
    alone("21 steps", "spec.plan.steps", plan={"weightTotal": 21, "steps": steps(*range(1, 22))}),
    alone("step without weight", "spec.plan.steps", plan={"steps": [{"durationSeconds": 60}]}),
    alone("weight below 0", "spec.plan.steps", plan={"steps": steps(-1, 100)}),
    alone("weight beyond 64 bits", "spec.plan.steps", plan={"steps": steps(5, 2**63)}),
    alone("weight with a fraction", "spec.plan.steps", plan={"steps": [{"weight": 0.5}, {"weight": 100}]}),
    alone("step of no time", "spec.plan.steps", plan={"steps": steps(5, 100, seconds=0)}),
    alone("step of a week and a second", "spec.plan.steps", plan={"steps": steps(5, 100, seconds=604_801), "maxRunSeconds": 31_536_000}),
    alone("total 0", "spec.plan.weightTotal", plan={"weightTotal": 0}),
    alone("total over 10000", "spec.plan.weightTotal", plan={"weightTotal": 10_001, "steps": steps(10_001)}),
    alone("soak below 0", "spec.plan.soakSeconds", plan={"soakSeconds": -1}),
    alone("run of no time", "spec.plan.maxRunSeconds", plan={"maxRunSeconds": 0}),
    alone("run over a year", "spec.plan.maxRunSeconds", plan={"maxRunSeconds": 31_536_001}),
    alone("interval 0", "spec.analysis.intervalSeconds", analysis={"intervalSeconds": 0}),
    alone("no samples", "spec.analysis.minSamples", analysis={"minSamples": 0}),
    alone("quantile 0", "spec.analysis.latency.quantile", analysis={"latency": {"quantile": 0}}),
    alone("quantile 1", "spec.analysis.latency.quantile", analysis={"latency": {"quantile": 1}}),
    alone("quantile NaN", "spec.analysis.latency.quantile", analysis={"latency": {"quantile": "NaN"}}),
    alone("latency of 0 ms", "spec.analysis.latency.sloMilliseconds", analysis={"latency": {"sloMilliseconds": 0}}),
    alone("errors 0", "spec.analysis.errors.slo", analysis={"errors": {"slo": 0}}),
    alone("errors 1", "spec.analysis.errors.abort", analysis={"errors": {"abort": 1}}),
    alone("match 1", "spec.analysis.match.slo", analysis={"match": {"slo": 1}}),
    alone("match below 0", "spec.analysis.match.abort", analysis={"match": {"abort": -0.1}}),
    alone("tolerance below 0", "spec.analysis.match.tolerance", analysis={"match": {"tolerance": -1e-9}}),
    alone("relative tolerance below 0", "spec.analysis.match.relativeTolerance", analysis={"match": {"relativeTolerance": -0.1}}),
    alone("compare", "spec.analysis.match.compare", analysis={"match": {"compare": "Rank"}}),
    alone("sticky header with a colon", "spec.traffic.stickyHeader", traffic={"stickyHeader": "x:y"}),
    alone("sticky header empty", "spec.traffic.stickyHeader", traffic={"stickyHeader": ""}),
    alone("tolerance infinite", "spec.analysis.match.tolerance", analysis={"match": {"tolerance": "Infinity"}}),
    alone("drift 0", "spec.analysis.drift.overall", analysis={"drift": {"overall": 0}}),
    alone("drift action", "spec.analysis.drift.action", analysis={"drift": {"action": "Ignore"}}),
    alone("metric in capitals", "spec.analysis.metrics[0].name", analysis=metric(name="GPU")),
    alone("metric with a long name", "spec.analysis.metrics[0].name", analysis=metric(name="n" * 41)),
    alone("metric with an empty query", "spec.analysis.metrics[0].query", analysis=metric(query="")),
    alone("metric with a long query", "spec.analysis.metrics[0].query", analysis=metric(query="x" * 1025)),
    alone("metric without slo", "spec.analysis.metrics[0].slo", analysis=metric(slo=None)),
    alone("metric held for a day", "spec.analysis.metrics[0].abortForSeconds", analysis=metric(abortForSeconds=86400)),
    alone("metric action", "spec.analysis.metrics[0].action", analysis=metric(action="Block")),
    alone("metrics without end", "spec.analysis.metrics", analysis={"metrics": [metric(name=f"m{i}")["metrics"][0] for i in range(11)]}),
    alone("missing action", "spec.analysis.missingData.noSeries.action", analysis=missing("noSeries", action="Ignore")),
    alone(
        "missing after 0",
        "spec.analysis.missingData.noSeries.afterSeconds",
        analysis=missing("noSeries", action="Rollback", afterSeconds=0),
    ),
    alone("scale-down below 0", "spec.scaleDownDelaySeconds", scaleDownDelaySeconds=-1),
    alone("paused as text", "spec.paused", paused="perhaps"),
]
