"""What the operator remembers of a rollout between two looks, and across its own death.

All of it is the checkpoint: one JSON document. The models are frozen; a change is a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import takewhile
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from kanarya.api.rollout import LatchedSpec
from kanarya.decision.counts import Counts, Drift
from kanarya.decision.custom import Watch
from kanarya.decision.statistics.dispersion import Dispersion
from kanarya.decision.statistics.windows import Ring
from kanarya.decision.streams import next_stage

SCHEMA_VERSION = 1
MOST_LOOKS = 300
"""Looks kept for the next entry of evidence; of more, the latest."""

Outcome = Literal["Succeeded", "RolledBack", "Superseded", "Expired", "Aborted", "Interrupted", "Observed"]


class Record(BaseModel):
    """A frozen record with camelCase keys outside."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


class Stage(StrEnum):
    """Where a run is."""

    PREFLIGHT = "Preflight"
    STEPPING = "Stepping"
    SOAKING = "Soaking"
    PROMOTING = "Promoting"
    ROLLING_BACK = "RollingBack"


class Identity(Record):
    """A revision of the model service: the pod template's hash, and what it is for people."""

    revision: str
    version: str = ""
    images: tuple[str, ...] = ()


class Run(Record):
    """One release, from the new revision to its outcome. Times are epoch seconds."""

    id: str
    candidate: Identity
    stage: Stage = Stage.PREFLIGHT
    started: float
    spec: LatchedSpec | None = Field(None, description="Latched when the run leaves Preflight.")
    spec_digest: str = ""
    step: int = Field(-1, description="Index into the plan; -1 before the first step.")
    weight: int = Field(0, description="The candidate's weight as last carried out.")
    weight_since: float = Field(description="When the weight last changed: samples up to here prove nothing about it.")
    proof_since: float = Field(0, description="Samples up to here allow no rise: a foreign weight was there, or a lower one on its way.")
    step_since: float = Field(description="When the step, or the soak, began: its shortest time counts from here.")
    watermark: float = Field(description="Samples up to here are counted, in `counts` or by the stage before.")
    counts: Counts = Counts()
    rings: Mapping[str, Ring] = Field({}, description="Windows of the counts, by stream.")
    bursts: Mapping[str, Dispersion] = Field({}, description="How bunched bad events have been in this run, by metric.")
    custom: Mapping[str, Watch] = Field({}, description="What is remembered of metrics of the team's own, by name.")
    storm_since: float | None = Field(None, description="Since when stable's own failures excuse the candidate's.")
    sampled_since: float | None = Field(None, description="When the first request to the candidate was counted, or could have been.")
    drift_since: float
    drift_watermark: float
    drift: Drift = Drift()
    within_since: float | None = None
    missing_since: Mapping[str, float] = Field({}, description="Since when data is missing, by policy.")
    unready_since: float | None = None
    restarts: int = Field(0, description="Container restarts of the candidate's pods when the step began.")
    looks: tuple[tuple[float, float], ...] = Field(
        (), description="Looks since the last entry of evidence with counts: when, and up to which time samples were counted."
    )
    verdicts: Mapping[str, str] = Field({}, description="Verdict and reason by metric, to notice changes.")
    reason: str = ""
    message: str = ""
    outcome: Outcome | None = None
    checked: float = Field(0, description="When evidence last got its periodic entry.")

    @classmethod
    def begun(cls, run_id: str, candidate: Identity, at: float) -> Self:
        """Begin in Preflight: everything counts from `at` (epoch seconds)."""
        return cls(
            id=run_id,
            candidate=candidate,
            started=at,
            weight_since=at,
            step_since=at,
            watermark=at,
            drift_since=at,
            drift_watermark=at,
        )

    @property
    def observing(self) -> bool:
        """Whether this run only says what it would do: its weight stays 0."""
        return self.spec is not None and self.spec.mode == "Observe"

    def anew(self) -> dict[str, Any]:
        """Give the changes with which counting begins again."""
        gone = {"counts": Counts(), "rings": {}, "custom": {}, "storm_since": None, "sampled_since": None}
        return {**gone, "bursts": next_stage(self.bursts)}

    def afresh(self, now: float) -> dict[str, Any]:
        """Give the changes with which counting begins again for a weight that stands since now."""
        return {"weight_since": now, "watermark": now, **self.anew()}

    def onward(self) -> dict[str, Any]:
        """Give the changes with which a stage of the same weight begins to count where the one before ended: nothing in between is lost."""
        return {**self.anew(), "custom": self.custom}

    @property
    def counting_since(self) -> float:
        """When the present stage began to count."""
        return max(self.weight_since, self.step_since)

    @property
    def virtual_weight(self) -> int:
        """The weight that the current step would have in Live, while the run only observes."""
        return self.spec.plan.steps[self.step].weight if self.observing and self.spec and self.step >= 0 else 0


def counted_to(run: Run, metric: str) -> float:
    """Give the time up to which a metric of the team's own is counted."""
    return max(run.custom[metric].until if metric in run.custom else run.weight_since, run.weight_since)


class Ended(Record):
    """How a run ended."""

    run: str
    version: str
    outcome: Outcome
    reason: str
    message: str = ""
    finished: float
    evidence: str = ""
    evidence_head: str = ""
    stepped: bool = Field(False, description="Whether the candidate had entered a step.")


class Chain(Record):
    """Where the evidence of the current run stands, and entries not yet written there."""

    run: str
    sequence: int = 0
    head: str = ""
    outbox: tuple[dict[str, Any], ...] = ()


class State(Record):
    """The whole memory of one rollout."""

    schema_version: int = SCHEMA_VERSION
    uid: str = ""
    replicas: int = 0
    adopting: str = Field("", description="Revision whose clone adoption has begun and not finished.")
    adopting_since: float = 0
    stable: Identity | None = None
    run: Run | None = None
    intent: int | None = Field(None, description="A weight about to be written upwards; dropped after a restart.")
    attempted: str = Field("", description="Revision of the latest run.")
    attempts: int = Field(0, description="Runs of that revision so far.")
    rejected: str = Field("", description="Revision that ended badly: not retried until the template changes or a retry names its run.")
    last_run: str = ""
    retired: Mapping[str, float] = Field({}, description="Stable revisions to delete, and when.")
    scale_down_at: float | None = Field(None, description="When the target's pods may go.")
    doubted_until: float = Field(0, description="Samples up to here allow no rise: the clock was set back, and they may be older.")
    history: tuple[Ended, ...] = ()
    chain: Chain | None = None

    def interrupted(self, revision: str) -> list[Ended]:
        """Give the latest runs of a revision as far as they were interrupted in a row, newest first."""
        ended = (entry for entry in reversed(self.history) if entry.run.rpartition("-")[0] == revision)
        return list(takewhile(lambda entry: entry.outcome == "Interrupted", ended))
