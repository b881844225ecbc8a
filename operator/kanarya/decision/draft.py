"""A decision while it is being made, and the finished decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kanarya.api.rollout import LatchedSpec, Mode, RolloutSpec, latched
from kanarya.decision import evidence, offline
from kanarya.decision.actions import Action, LowerWeight, Notice
from kanarya.decision.counts import Missing, counts_json, drift_json
from kanarya.decision.custom import Values, values_json
from kanarya.decision.judge import ALL, Judged
from kanarya.decision.state import Run, Stage, State
from kanarya.decision.streams import Bases, bases_json
from kanarya.decision.verdict import Metric, Verdict
from kanarya.decision.world import World

SOON = 1.0
"""Seconds until the next look while something is being waited for that usually takes seconds."""


@dataclass(frozen=True)
class Decision:
    """What to do now, what to remember, what to say.

    `actions` are in order, downward route writes first. With a `RaiseWeight` among them, `state.intent` holds its weight, and
    `lifecycle.raised` gives the state once it is done. `again` is when to look again, in seconds; None: when something changes.
    """

    state: State
    actions: tuple[Action, ...]
    notices: tuple[Notice, ...]
    verdicts: Mapping[Metric, Verdict]
    reason: str
    message: str
    again: float | None


@dataclass
class Draft:
    """Gathers a decision; lives only inside one call of `decide`."""

    spec: RolloutSpec
    state: State
    world: World
    now: float
    actions: list[Action] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    judged: Judged = field(default_factory=lambda: Judged({}, {}))
    bases: Bases = field(default_factory=dict)
    values: Values = field(default_factory=dict)
    reason: str = ""
    message: str = ""
    again: float | None = None

    @property
    def run(self) -> Run:
        """The run in progress; only asked for where there is one."""
        if self.state.run is None:
            raise AssertionError("no run")
        return self.state.run

    @property
    def verdicts(self) -> dict[Metric, Verdict]:
        """The verdict on each metric, empty before the first look."""
        return self.judged.verdicts

    @property
    def mode(self) -> Mode:
        """What the run keeps to: as latched, before that as the resource says."""
        return self.run.spec.mode if self.run.spec else self.spec.mode

    @property
    def replicas(self) -> int:
        """Size of both tracks."""
        return self.spec.replicas or self.state.replicas or 1

    @property
    def missing(self) -> Mapping[str, Missing]:
        """What telemetry could not see, by metric or `*`; without a look, nothing could be seen."""
        return {ALL: Missing.SOURCE_DOWN} if self.world.reading is None else self.world.reading.missing

    def update(self, **changes: Any) -> None:
        """Change the state."""
        self.state = self.state.model_copy(update=changes)

    def update_run(self, **changes: Any) -> None:
        """Change the run."""
        run = self.run
        if any(getattr(run, name) is not value for name, value in changes.items()):
            self.update(run=run.model_copy(update=changes))

    def act(self, *actions: Action) -> None:
        """Ask for actions; a downward write goes to the front, and of several only the lowest is written."""
        for action in actions:
            if isinstance(action, LowerWeight):
                earlier = [known for known in self.actions if isinstance(known, LowerWeight)]
                weight = min(known.weight for known in (action, *earlier))
                marked = next((known.rolled_back for known in (action, *earlier) if known.rolled_back), "")
                self.actions = [LowerWeight(weight, marked), *(known for known in self.actions if known not in earlier)]
            elif action not in self.actions:
                self.actions.append(action)

    def notice(self, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Ask for an Event."""
        self.notices.append(Notice(kind, reason, message))

    def say(self, reason: str, message: str, again: float | None) -> None:
        """Set what is told of this look, and when the next one is due."""
        self.reason, self.message, self.again = reason, message, again

    def record(self, kind: str, *, periodic: bool = False, **data: Any) -> None:
        """Append an entry to the run's evidence."""
        if self.state.chain is not None:
            self.update(chain=evidence.append(self.state.chain, kind, self.now, data, periodic=periodic))
        if "looks" in data:
            self.update_run(looks=())

    def latch(self) -> None:
        """Fix what the run keeps to, and begin its evidence: once, though the first weight may take several tries."""
        whole, reading = latched(self.spec), self.world.reading
        started = evidence.run_started(self.run, whole, stable=self.state.stable, replicas=self.replicas)
        self.update_run(spec=LatchedSpec.model_validate(whole), spec_digest=started["specDigest"])
        self.record(
            "RunStarted",
            **started,
            queries=[] if reading is None else list(reading.queries),
            notes=[] if reading is None else list(reading.notes),
            **self._offline_report(),
        )

    def _offline_report(self) -> dict[str, Any]:
        """Give what all pods of the candidate say of their model's offline report, where the spec requires one."""
        reading = self.world.reading
        report = None if reading is None or not offline.required(self.spec.analysis) else offline.agreed(reading.reports)
        return {} if report is None else {"offlineReport": report.as_json()}

    def observed(self) -> dict[str, Any]:
        """Give everything the verdicts were made from, for evidence; nothing when none is kept."""
        if self.state.chain is None:
            return {}
        run = self.run
        reading = self.world.reading
        return {
            "stage": run.stage.value,
            "step": run.step + 1,
            "weight": run.weight,
            "elapsed": self.now - run.counting_since,
            "runElapsed": self.now - run.drift_since,
            "counts": counts_json(run.counts),
            "drift": drift_json(run.drift),
            "looks": [list(look) for look in run.looks],
            **({"sampledSince": run.sampled_since} if run.stage is Stage.PREFLIGHT and run.sampled_since is not None else {}),
            "watermark": run.watermark,
            "newestSample": None if reading is None else reading.newest,
            "missing": {key: value.value for key, value in sorted(self.missing.items())},
            **({"edges": {key: list(pair) for key, pair in reading.edges.items()}} if reading is not None and reading.edges else {}),
            **({"tests": bases_json(self.bases, self.judged.used)} if self.judged.used else {}),
            **({"values": values_json(self.values)} if self.values else {}),
            "verdicts": {metric: verdict.as_json() for metric, verdict in self.verdicts.items()},
        }

    def finish(self) -> Decision:
        """Close the draft."""
        return Decision(self.state, tuple(self.actions), tuple(self.notices), dict(self.verdicts), self.reason, self.message, self.again)
