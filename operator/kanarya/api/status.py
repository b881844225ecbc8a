"""`MLModelRollout.status`: what the operator says. Samples do not live here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kanarya.api.base import Model

Text = Annotated[str, Field(max_length=256)]
ConditionType = Literal["Accepted", "Ready", "Progressing", "Promotable", "Released"]
CONDITION_TYPES: tuple[ConditionType, ...] = ("Accepted", "Ready", "Progressing", "Promotable", "Released")


class Condition(Model):
    """A condition as the Kubernetes API conventions have it."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(max_length=64, pattern="^[A-Za-z]([A-Za-z0-9]*)$")]
    message: Annotated[str, Field(max_length=1024)] = ""
    observed_generation: int | None = None
    last_transition_time: Annotated[str, Field(max_length=64)]


class StableStatus(Model):
    """The pinned stable: rollback goes there and nowhere else."""

    revision: Text
    version: Text = ""
    images: Annotated[tuple[Annotated[str, Field(max_length=1024)], ...], Field(max_length=50)] = ()


class RunStatus(Model):
    """The run in progress, or the last one while its candidate is being taken away."""

    id: Text
    revision: Text
    version: Text = ""
    step: int = Field(0, description="Step of the plan, from 1; 0 before the first.")
    steps: int = 0
    mode: Annotated[str, Field(max_length=64)] = Field("", description="Live or Observe; empty before the run has fixed it.")
    weight: int = 0
    virtual_weight: int = Field(0, description="Observe: the weight that the step would have in Live.")
    since: Annotated[str, Field(max_length=64)] = ""
    reason: Annotated[str, Field(max_length=64)] = ""
    spec_digest: Annotated[str, Field(max_length=128)] = ""


class HistoryEntry(Model):
    """How a run ended, and where its evidence is."""

    run: Text
    version: Text = ""
    outcome: Literal["Succeeded", "RolledBack", "Superseded", "Expired", "Aborted", "Interrupted", "Observed"]
    reason: Annotated[str, Field(max_length=64)]
    message: Annotated[str, Field(max_length=1024)] = ""
    finished: Annotated[str, Field(max_length=64)]
    evidence: Text = Field("", description="Name of the ConfigMap with the evidence's first part.")
    evidence_head: Annotated[str, Field(max_length=128)] = Field("", description="Last hash of the evidence's chain.")


class RolloutStatus(Model):
    """The whole status. `summary` is derived, for printing; conditions are the contract."""

    observed_generation: int = 0
    summary: Text = ""
    reason: Annotated[str, Field(max_length=64)] = ""
    step_summary: Text = Field("", description="Step of steps, for printing.")
    replicas: int = Field(0, description="Pods of the stable track, for the scale subresource.")
    selector: Annotated[str, Field(max_length=1024)] = Field("", description="Selector of the stable pods, for the scale subresource.")
    conditions: Annotated[tuple[Condition, ...], Field(max_length=10)] = ()
    stable: StableStatus | None = None
    run: RunStatus | None = None
    history: Annotated[tuple[HistoryEntry, ...], Field(max_length=10)] = ()
