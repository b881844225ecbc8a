"""What is simulated: the traffic, and how candidate and stable answer it."""

from __future__ import annotations

from math import log
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator
from scipy.special import ndtr, ndtri

from kanarya.api.base import Model
from kanarya.api.rollout import Latency as LatencyLimits
from kanarya.api.rollout import RolloutSpec
from kanarya.cli.rollout_file import read_documents

Share = Annotated[float, Field(ge=0, le=1)]


class Described(Model):
    """Part of a description: a misspelt name is an error."""

    model_config = ConfigDict(extra="forbid")


class Latency(Described):
    """A log-normal distribution of latencies, in milliseconds."""

    median: float = Field(gt=0, le=1e6)
    p95: float = Field(gt=0, le=1e6)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.p95 <= self.median:
            raise ValueError("p95 must be more than median")
        return self

    def slower_than(self, milliseconds: float) -> float:
        """Give the share of requests that take longer."""
        spread = log(self.p95 / self.median) / float(ndtri(0.95))
        return float(ndtr(-log(milliseconds / self.median) / spread))


class Slower(Described):
    """Shares of requests slower than the rollout's two limits."""

    slo: Share = 0.0
    abort: Share = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.abort > self.slo:
            raise ValueError("abort must not be more than slo: what is slower than the higher limit is slower than the lower one")
        return self


class Behaviour(Described):
    """How a track answers. What is not said is perfect; in a change, as before."""

    errors: Share | None = Field(None, description="Share of failed attempts.")
    latency: Latency | None = None
    slower: Slower | None = Field(None, description="Instead of `latency`.")
    mismatches: Share | None = Field(None, description="Share of compared requests that differ; the candidate's only.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.latency is not None and self.slower is not None:
            raise ValueError("latency and slower say the same: leave one out")
        return self

    def changed(self, change: Behaviour) -> Behaviour:
        """Give this behaviour with the parts that `change` names."""
        known = {name: value for name, value in self if value is not None}
        news = {name: value for name, value in change if value is not None}
        if "latency" in news or "slower" in news:
            known = {name: value for name, value in known.items() if name not in ("latency", "slower")}
        return self.model_copy(update={"latency": None, "slower": None, **known, **news})

    def slow(self, limits: LatencyLimits) -> tuple[float, float]:
        """Give the shares of requests slower than slo and abort."""
        if self.latency is not None:
            return self.latency.slower_than(limits.slo_milliseconds), self.latency.slower_than(limits.abort_milliseconds)
        return (self.slower.slo, self.slower.abort) if self.slower is not None else (0.0, 0.0)


class Inputs(Described):
    """The candidate's inputs: features, normal in training; of them some shifted, by standard deviations."""

    features: int = Field(3, ge=0, le=500)
    shifted: int = Field(0, ge=0, le=500)
    deviations: float = Field(0.0, ge=-10, le=10)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.shifted > self.features:
            raise ValueError("shifted must not be more than features")
        return self


class Change(Described):
    """From a moment on, tracks answer differently: a fault that begins late, or a storm that passes."""

    step: int = Field(0, ge=0, le=20, description="The step in which it begins, from 0; a soak is the step after the last.")
    seconds: float = Field(0.0, ge=0, le=31_536_000, description="So long after that step began.")
    lasts: float | None = Field(None, gt=0, le=31_536_000, description="Seconds; without it, to the end.")
    candidate: Behaviour = Behaviour()
    stable: Behaviour = Behaviour()

    def has_begun(self, step: int, t: float) -> bool:
        """Whether a look at `t` seconds of a step comes after its beginning."""
        return step > self.step or (step == self.step and t > self.seconds)

    def is_on(self, seconds: float) -> bool:
        """Whether it is not over yet, so many seconds after its beginning."""
        return self.lasts is None or seconds <= self.lasts


class Scenario(Described):
    """A candidate, and the traffic it meets."""

    name: str = Field("candidate", max_length=60)
    rps: float = Field(10.0, ge=0, le=1e6, description="Requests a second, of all clients together.")
    burst_correlation: float = Field(0.0, ge=0, lt=1, description="Correlation of the requests of one look: 0 independent.")
    scrape_gaps: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Share of looks without new samples; the next one has them.")
    candidate: Behaviour = Behaviour()
    stable: Behaviour = Behaviour()
    inputs: Inputs = Inputs()
    changes: tuple[Change, ...] = Field((), max_length=20)


def read_scenarios(path: Path) -> list[Scenario]:
    """Read the candidates that a YAML or JSON file describes, each in a document of its own.

    Raises
    ------
    ValueError
        With a sentence that says what to change.
    """
    documents = read_documents(path)
    if not documents:
        raise ValueError(f"{path} describes no candidate")
    return [parse_scenario(document, f"{path}", path.stem) for document in documents]


def parse_scenario(document: Any, where: str, name: str = "candidate") -> Scenario:
    """Read one description; raises `ValueError`."""
    if isinstance(document, dict):
        document = {"name": name, **document}
    try:
        return Scenario.model_validate(document)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()[:5]]
        raise ValueError(f"{where}: {'; '.join(wrong)}") from None


def check(spec: RolloutSpec, scenario: Scenario) -> None:
    """Refuse a change in a step that the plan does not have."""
    steps = len(spec.plan.steps) + (spec.plan.soak_seconds > 0)
    for index, change in enumerate(scenario.changes):
        if change.step >= steps:
            raise ValueError(f"{scenario.name}: changes.{index}.step is {change.step}, and the plan has {steps} steps, from 0")
