"""`MLModelRollout.spec`: what a model team writes.

Constraints on single fields stand at the fields; those between fields twice: as CEL rules, so that the API server refuses a bad
object at once, and as validators with the same sentences, because old or unchecked objects reach the operator too.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from kanarya.api.base import Model, rule, rules

Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Seconds = Annotated[int, Field(ge=0, le=31_536_000)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Mode = Literal["Live", "Observe"]
Profile = Literal["kanarya", "kserve", "mlserver", "triton", "bentoml", "istio", "envoy-gateway"]

NAME_LIMIT = 40
"""Longest rollout or target name: names derived from it must fit in 63 characters."""

TARGET_IMMUTABLE = "targetRef is immutable: create another MLModelRollout for another workload"
SERVICE_IMMUTABLE = "serviceRef is immutable: create another MLModelRollout for another Service"
WEIGHTS_RISE = "steps must rise: every step needs a larger weight than the one before it"
LAST_IS_TOTAL = "the last step's weight must be weightTotal: a release ends with all traffic on the candidate"
RUN_TOO_SHORT = "maxRunSeconds is shorter than the steps together: raise it or shorten the steps"
LATENCY_ORDER = "sloMilliseconds must be less than abortMilliseconds"
ERRORS_ORDER = "slo must be less than abort"
MATCH_ORDER = "slo must be more than abort: more matches are better"
ROLLBACK_AFTER = "action Rollback needs afterSeconds: how long the data may be missing"
HOLD_AFTER = "afterSeconds does nothing with action Hold: set action to Rollback, or leave afterSeconds out"
STICKY_MIRROR = "stickyHeader needs mirrorPercent 100: each track then has clients of its own, and only copies make the two comparable"
METRIC_SOURCE = "a metric has either query, for a value, or bad and total, for a ratio"
METRIC_LIMITS = "slo and abort must differ: abort above slo means less is better, below it more is better"
RATIO_LIMITS = "slo must be less than abort, both between 0 and 1: they limit the share of bad among total"
RATIO_FOR = "abortForSeconds does nothing for a ratio: its counts are judged as a whole"
METRIC_NAMES = "every metric needs a name of its own, and none of errors, latency, match, drift"
DRIFT_WEIGHT = "drift.maxWeight must not be more than plan.weightTotal"


class _RuleError(ValueError):
    """A rule between fields does not hold."""


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise _RuleError(message)


class TargetRef(Model):
    """The workload whose pod template, when it changes, is the candidate."""

    model_config = rules(rule("self == oldSelf", TARGET_IMMUTABLE))
    api_version: Literal["apps/v1"] = Field("apps/v1")
    kind: Literal["Deployment"] = Field("Deployment")
    name: Annotated[Name, Field(max_length=NAME_LIMIT)] = Field(description="Name of the Deployment in the same namespace.")


class ServiceRef(Model):
    """The Service that clients call."""

    model_config = rules(rule("self == oldSelf", SERVICE_IMMUTABLE))
    name: Name = Field(description="Name of the Service in the same namespace. Its endpoints are the router's pods.")
    port: int = Field(80, ge=1, le=65535, description="Its port; the track Services get the same one.")


class Step(Model):
    """One weight of the plan."""

    weight: int = Field(ge=0, le=10_000, description="The candidate's share of weightTotal. A first step of 0 is mirror only.")
    duration_seconds: int = Field(1800, ge=1, le=604_800, description="Shortest time at this weight.")


DEFAULT_STEPS = tuple(Step(weight=weight) for weight in (5, 10, 25, 50, 100))


class Plan(Model):
    """The weights a release goes through, and its time limits."""

    model_config = rules(
        rule(
            "self.steps.map(s, s.weight).isSorted() && self.steps.all(s, self.steps.exists_one(t, t.weight == s.weight))",
            WEIGHTS_RISE,
        ),
        rule("self.steps[size(self.steps) - 1].weight == self.weightTotal", LAST_IS_TOTAL),
        rule("self.steps.map(s, s.durationSeconds).sum() + self.soakSeconds <= self.maxRunSeconds", RUN_TOO_SHORT),
    )
    weight_total: int = Field(100, ge=1, le=10_000, description="What the two weights add up to.")
    steps: tuple[Step, ...] = Field(DEFAULT_STEPS, min_length=1, max_length=20, description="Rising weights up to weightTotal.")
    soak_seconds: Seconds = Field(0, description="Time at full weight, still judged, before promotion.")
    max_hold_seconds: Seconds = Field(3600, description="Longest time worse than slo, though not at abort, before rolling back.")
    max_run_seconds: int = Field(604_800, ge=1, le=31_536_000, description="Longest time of a whole run; then weight 0, Expired.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        weights = [step.weight for step in self.steps]
        _require(all(a < b for a, b in pairwise(weights)), WEIGHTS_RISE)
        _require(weights[-1] == self.weight_total, LAST_IS_TOTAL)
        _require(sum(s.duration_seconds for s in self.steps) + self.soak_seconds <= self.max_run_seconds, RUN_TOO_SHORT)
        return self


class Latency(Model):
    """Limits of a latency quantile, judged as the share of requests slower than them."""

    model_config = rules(rule("self.sloMilliseconds < self.abortMilliseconds", LATENCY_ORDER))
    quantile: Fraction = Field(0.95, description="0.95: at most 5 % of the requests may be slower.")
    slo_milliseconds: int = Field(80, ge=1, le=600_000)
    abort_milliseconds: int = Field(120, ge=1, le=600_000)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(self.slo_milliseconds < self.abort_milliseconds, LATENCY_ORDER)
        return self


class Errors(Model):
    """Limits of the share of failed attempts (5xx, time-outs, refused or reset connections)."""

    model_config = rules(rule("self.slo < self.abort", ERRORS_ORDER))
    slo: Fraction = 0.01
    abort: Fraction = 0.02

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(self.slo < self.abort, ERRORS_ORDER)
        return self


class Match(Model):
    """Limits of the share of requests for which candidate and stable predict the same."""

    model_config = rules(rule("self.slo > self.abort", MATCH_ORDER))
    slo: Fraction = 0.95
    abort: Fraction = 0.90
    compare: Literal["Score", "Label"] = Field(
        "Score", description="What two answers are compared by: scores within the tolerances, or equal labels."
    )
    tolerance: float = Field(0.05, ge=0, le=1e6, description="Scores that differ by at most this are the same.")
    relative_tolerance: float = Field(0.0, ge=0, le=1e6, description="Added to `tolerance`, as a share of stable's score.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(self.slo > self.abort, MATCH_ORDER)
        return self


class DriftLimits(Model):
    """Limits of the population stability index (PSI) of the candidate's inputs against its training reference."""

    overall: float = Field(0.2, gt=0, le=100, description="Limit of the mean over features.")
    per_feature: float = Field(0.3, gt=0, le=100, description="Limit of each feature.")
    action: Literal["BlockPromotion", "Abort", "Report"] = "BlockPromotion"
    max_weight: int = Field(100, ge=0, le=10_000, description="Weights above this, and promotion, wait until drift is Good.")


RESERVED_METRICS = ("errors", "latency", "match", "drift")
Template = Annotated[str, Field(min_length=1, max_length=1024)]
MetricLimit = Annotated[float, Field(ge=-1e15, le=1e15)]


class CustomMetric(Model):
    """A metric of the team's own, where the installation allows it: a value, or a ratio of two counters."""

    model_config = rules(
        rule("has(self.bad) == has(self.total) && has(self.query) != has(self.bad)", METRIC_SOURCE),
        rule("self.slo != self.abort", METRIC_LIMITS),
        rule("!has(self.bad) || (self.slo > 0.0 && self.slo < self.abort && self.abort < 1.0)", RATIO_LIMITS),
        rule("!has(self.bad) || !has(self.abortForSeconds)", RATIO_FOR),
    )
    name: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")] = Field(
        description="What verdicts, Events and evidence call it."
    )
    query: Template | None = Field(
        None, description="PromQL that gives one number. Variables: {{namespace}}, {{rollout}}, {{revision}}, {{pods}}."
    )
    bad: Template | None = Field(None, description="Selector of counters of bad events; needs total.")
    total: Template | None = Field(None, description="Selector of counters of all events.")
    slo: MetricLimit = Field(description="Good up to here: down to here when abort is below it.")
    abort: MetricLimit = Field(description="Bad beyond this.")
    abort_for_seconds: Annotated[int, Field(ge=0, le=3600)] | None = Field(
        None, description="How long a value must stay beyond abort to be Bad. Default: 30."
    )
    action: Literal["Abort", "Report"] = Field("Abort", description="Report: told and recorded, but it stops nothing.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        ratio = self.bad is not None
        _require(ratio == (self.total is not None) and ratio != (self.query is not None), METRIC_SOURCE)
        _require(self.slo != self.abort, METRIC_LIMITS)
        _require(not ratio or 0 < self.slo < self.abort < 1, RATIO_LIMITS)
        _require(not ratio or self.abort_for_seconds is None, RATIO_FOR)
        return self


class MissingPolicy(Model):
    """What to do while a kind of data is missing."""

    model_config = rules(
        rule("self.action != 'Rollback' || has(self.afterSeconds)", ROLLBACK_AFTER),
        rule("self.action != 'Hold' || !has(self.afterSeconds)", HOLD_AFTER),
    )
    action: Literal["Hold", "Rollback"] = "Hold"
    after_seconds: Annotated[int, Field(ge=1, le=604_800)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(self.action != "Rollback" or self.after_seconds is not None, ROLLBACK_AFTER)
        _require(self.action != "Hold" or self.after_seconds is None, HOLD_AFTER)
        return self


class MissingData(Model):
    """Policies for silence. None of it is ever taken for success."""

    no_traffic: MissingPolicy = Field(MissingPolicy(), description="Neither track has traffic: a quiet night.")
    no_series: MissingPolicy = Field(
        MissingPolicy(action="Rollback", after_seconds=300),
        description="Stable has traffic, the candidate shows nothing, or nothing that can be used.",
    )
    source_down: MissingPolicy = Field(
        MissingPolicy(action="Rollback", after_seconds=1800), description="Prometheus itself does not answer."
    )


class Confidence(Model):
    """How sure method `Sequential` is of what it says."""

    abort: Fraction = Field(0.99, description="0.99: of 100 runs whose rates stay at their abort limits, at most one is rolled back.")
    advance: Fraction = Field(0.95, description="0.95: of 20 steps at the abort limit, at most one ends with the next weight.")


class Analysis(Model):
    """How a candidate is judged."""

    model_config = rules(
        rule(
            "self.metrics.all(m, self.metrics.exists_one(n, n.name == m.name) && !(m.name in ['errors', 'latency', 'match', 'drift']))",
            METRIC_NAMES,
        ),
    )
    source_name: Name = Field("default", description="A Prometheus named in the operator's own configuration.")
    profile: Profile = Field(
        "kanarya",
        description="Whose metrics tell errors and latency: those of ml-router (kanarya), or of the model's pods. "
        "What a profile's server does not tell, and matches always, are measured at ml-router.",
    )
    interval_seconds: int = Field(10, ge=1, le=300, description="Time between two looks.")
    method: Literal["Sequential", "Threshold"] = Field(
        "Sequential",
        description="Sequential: evidence that holds however often it is looked at. Threshold: plain comparison from minSamples on.",
    )
    confidence: Confidence = Confidence()
    min_samples: int = Field(
        100, ge=1, le=10_000_000, description="Fewest requests of a step that allow a verdict: of Threshold, and on drift."
    )
    latency: Latency = Latency()
    errors: Errors = Errors()
    match: Match = Match()
    drift: DriftLimits = DriftLimits()
    offline_report: Literal["Optional", "Required"] = Field(
        "Optional",
        description="Required: no first weight unless the model that the candidate's pods serve has an offline report that says PASS.",
    )
    metrics: tuple[CustomMetric, ...] = Field((), max_length=10, description="Metrics of the team's own.")
    missing_data: MissingData = MissingData()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [metric.name for metric in self.metrics]
        _require(len(set(names)) == len(names) and not set(names) & set(RESERVED_METRICS), METRIC_NAMES)
        return self


class Traffic(Model):
    """How requests reach the two tracks."""

    model_config = rules(rule("!has(self.stickyHeader) || self.mirrorPercent == 100", STICKY_MIRROR))
    type: Literal["MLRouter"] = "MLRouter"
    mirror_percent: int = Field(100, ge=1, le=100, description="Share of requests copied to the other track for comparison.")
    fallback: Literal["None", "Unavailable", "AnyError"] = Field(
        "Unavailable", description="When stable answers a live request after the candidate failed it."
    )
    sticky_header: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+$")] | None = Field(
        None,
        description="Requests with the same value in this header stay on one track and move to the candidate once. Default: each is drawn.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(self.sticky_header is None or self.mirror_percent == 100, STICKY_MIRROR)
        return self


class RolloutSpec(Model):
    """A release plan for one model service. `targetRef` and `serviceRef` are enough; the rest has defaults."""

    model_config = rules(rule("self.analysis.drift.maxWeight <= self.plan.weightTotal", DRIFT_WEIGHT))
    target_ref: TargetRef
    service_ref: ServiceRef
    replicas: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="Size of both tracks. Default: the target's count when it was adopted."
    )
    mode: Mode = Field(
        "Live",
        description="Observe: judge a release by mirrored requests alone, and say what Live would have done. "
        "From Live to Observe during a run is an abort.",
    )
    paused: bool = Field(False, description="Freezes upward moves only.")
    plan: Plan = Plan()
    analysis: Analysis = Analysis()
    traffic: Traffic = Traffic()
    scale_down_delay_seconds: Seconds = Field(300, description="The losing track keeps its pods this long.")
    deletion_policy: Literal["Orphan"] = Field("Orphan", description="Deleting the rollout leaves stable serving.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(self.analysis.drift.max_weight <= self.plan.weight_total, DRIFT_WEIGHT)
        return self


class InvalidSpec(ValueError):  # noqa: N818 -- reads as the condition it becomes
    """The spec cannot be used; the message says what to change."""


def parse_spec(data: Any) -> RolloutSpec:
    """Read `spec` of a rollout.

    Raises
    ------
    InvalidSpec
        With one sentence for each thing that is wrong, each naming its field.
    """
    try:
        return RolloutSpec.model_validate(data)
    except ValidationError as error:
        raise InvalidSpec("; ".join(_sentence(dict(entry)) for entry in error.errors(include_url=False)[:5])) from None


def _sentence(entry: dict[str, Any]) -> str:
    path = "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in entry["loc"])
    return f"{path}: {str(entry['msg']).removeprefix('Value error, ')}"


def latched(spec: RolloutSpec) -> dict[str, Any]:
    """Give the part of the spec that a run keeps to from start to end, in its JSON form."""
    whole = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {key: whole[key] for key in ("plan", "analysis", "mode", "traffic")}


class LatchedSpec(Model):
    """What a run keeps to from start to end; later changes of the resource wait for the next run."""

    model_config = ConfigDict(frozen=True)
    plan: Plan
    analysis: Analysis
    mode: Mode = "Live"
    traffic: Traffic = Traffic()
