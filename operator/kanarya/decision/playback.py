"""A run decided again on what a Prometheus has stored: the operator's own decision, in a cluster where all is in order.

Either a plan that nobody carried out, from its first step on; or a run that its evidence tells of, look by look. A run ends by what the
readings say: pods that crash, people who abort and edits of the route are not in a Prometheus.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from kanarya.api.rollout import LatchedSpec, RolloutSpec, latched
from kanarya.decision import evidence
from kanarya.decision.counts import Reading
from kanarya.decision.lifecycle import carried_out, decide
from kanarya.decision.offline import OfflineReport
from kanarya.decision.passage import in_order
from kanarya.decision.state import Chain, Identity, Run, Stage, State

Entry = Mapping[str, Any]


@dataclass
class Playback:
    """A run between two looks. Times are epoch seconds.

    Attributes
    ----------
    spec
        The plan and the limits.
    state
        What the last decision left behind; its chain's outbox holds the whole evidence.
    report
        What a recorded run says of the offline report of its candidate's model: pods of that time cannot be asked.
    sampled_since
        From when on a recorded Preflight waited for enough copies, at last: it may hang on when pods were ready.
    """

    spec: RolloutSpec
    state: State
    report: OfflineReport | None = None
    sampled_since: float | None = None

    @classmethod
    def planned(cls, spec: RolloutSpec, *, stable: Identity, candidate: Identity, at: float) -> Self:
        """Begin with the first step at the time `at`. Preflight lies behind."""
        whole, replicas = latched(spec), spec.replicas or 1
        plan = LatchedSpec.model_validate(whole)
        weight = 0 if plan.mode == "Observe" else plan.plan.steps[0].weight
        begun = Run.begun(f"{candidate.revision}-1", candidate, at)
        started = evidence.run_started(begun, whole, stable=stable, replicas=replicas)
        run = begun.model_copy(
            update={"stage": Stage.STEPPING, "spec": plan, "spec_digest": started["specDigest"], "step": 0, "weight": weight}
        )
        chain = evidence.append(Chain(run=run.id), "RunStarted", at, started)
        chain = evidence.append(chain, "StepEntered", at, {"step": 1, "weight": weight})
        return cls(spec, State(replicas=replicas, stable=stable, run=run, chain=chain))

    @classmethod
    def recorded(cls, entries: Sequence[Entry]) -> Self:
        """Begin as a recorded run began, in Preflight.

        Raises
        ------
        ValueError
            When the evidence does not tell when its looks were made.
        """
        first = entries[0]
        seen = next((entry for entry in entries if entry.get("looks")), None)
        if first["kind"] != "RunStarted" or seen is None or first["stable"] is None:
            raise ValueError("this evidence does not tell when its looks were made: it was written by an earlier version")
        name = {"name": "recorded"}
        spec = RolloutSpec.model_validate({"targetRef": name, "serviceRef": name, "replicas": first["replicas"], **first["spec"]})
        run = Run.begun(first["run"], Identity.model_validate(first["candidate"]), seen["at"] - seen["runElapsed"])
        stable = Identity.model_validate(first["stable"])
        report = OfflineReport.from_json(first["offlineReport"]) if "offlineReport" in first else None
        since = next((float(entry["sampledSince"]) for entry in reversed(entries) if "sampledSince" in entry), None)
        return cls(spec, State(replicas=first["replicas"], stable=stable, run=run, chain=Chain(run=run.id)), report, since)

    @property
    def run(self) -> Run:
        """The run; it stays when it is over."""
        if self.state.run is None:
            raise AssertionError("a run ends by promotion or rollback, and neither is carried out here")
        return self.state.run

    @property
    def over(self) -> bool:
        """Whether the run is promoted, or on its way back."""
        return self.run.stage in (Stage.PROMOTING, Stage.ROLLING_BACK)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The evidence so far."""
        return self.state.chain.outbox if self.state.chain else ()

    def look(self, reading: Reading, now: float, *, ready: bool = True, raised_at: float | None = None) -> None:
        """Look once, and carry out what is decided.

        Parameters
        ----------
        ready
            Whether the candidate's pods may take their first weight.
        raised_at
            When a higher weight was written, if that is known; else `now`.
        """
        stable = self.state.stable
        if stable is None:
            raise AssertionError("a run has a stable")
        if self.sampled_since is not None and now >= self.sampled_since and self.run.sampled_since is None:
            self.state = self.state.model_copy(update={"run": self.run.model_copy(update={"sampled_since": self.sampled_since})})
        world = in_order(self.state.replicas, self.run.weight, stable=stable, candidate=self.run.candidate)
        pods = world.pods if ready else replace(world.pods, ready=0)
        if self.report is not None:
            reading = replace(reading, reports={f"pod {number}": self.report for number in range(self.state.replicas)})
        decision = decide(self.spec, self.state, replace(world, pods=pods, reading=reading), now)
        self.state = carried_out(decision, now if raised_at is None else raised_at)
        if self.over:
            self._close(now)

    def _close(self, now: float) -> None:
        """Write the last entry, as if the end had been carried out."""
        run = self.run
        told = {"outcome": run.outcome, "reason": run.reason, "message": run.message, "weight": 0}
        if run.stage is Stage.PROMOTING:
            told |= {"outcome": "Succeeded", "reason": "Promoted", "message": "stable would be the candidate"}
        chain = self.state.chain
        if chain is not None:
            self.state = self.state.model_copy(update={"chain": evidence.append(chain, "RunEnded", now, told)})


@dataclass(frozen=True)
class RecordedLook:
    """One look of a recorded run: when, up to which time samples were counted, whether the first weight may follow, when it was written."""

    now: float
    until: float
    ready: bool
    raised_at: float | None


def looks_of(entries: Sequence[Entry]) -> Iterator[RecordedLook]:
    """Give the looks of a recorded run in order."""
    entered = [entry["at"] for entry in entries if entry["kind"] in ("StepEntered", "WeightRestored")]
    before_first = True
    for entry in entries:
        looks = [(float(now), float(until)) for now, until in entry.get("looks", ())]
        for position, (now, until) in enumerate(looks):
            last = position == len(looks) - 1
            advances = entry["kind"] == "Decision" and entry["decision"] == "Advance" and last
            raised_at = next((at for at in entered if at >= now), None) if advances else None
            yield RecordedLook(now, until, ready=not before_first or advances, raised_at=raised_at)
            before_first = before_first and not advances


def decisions(entries: Sequence[Entry]) -> list[tuple[float, str]]:
    """Give each decision of a run: when, and what."""
    return [(entry["at"], _told(entry)) for entry in entries if entry["kind"] == "Decision"]


def _told(entry: Entry) -> str:
    match entry["decision"]:
        case "Advance":
            return f"Advance to step {entry['toStep']}"
        case "Rollback":
            return f"Rollback: {entry['outcome']}, {entry['reason']}"
    return str(entry["decision"])
