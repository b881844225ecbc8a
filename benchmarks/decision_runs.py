"""Runs against drawn counts, in which the operator's own decision is asked only at the looks that can lead to anything.

In between the state is brought up to date in one go, to what the decision would have left behind. `every_look` asks it at every look
instead: the same run takes some twenty times as long, and ends the same. `python -m benchmarks.decisions` compares a sample of both.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.random import Generator

from benchmarks.decision_screen import COLUMNS, SUMMED, Learned, Windows, column, good, scraped, within
from benchmarks.decision_traffic import FIELDS, Traffic, counts_of
from kanarya.api.rollout import RolloutSpec
from kanarya.cli.simulation.runs import Outcome
from kanarya.cli.simulation.scenario import Scenario
from kanarya.decision.counts import Reading
from kanarya.decision.judge import Standard, limits_of
from kanarya.decision.passage import Answer, Course, Passage
from kanarya.decision.state import Run
from kanarya.decision.statistics.dispersion import Dispersion
from kanarya.decision.streams import MATCH_STAGE, STREAMS, is_last

BLOCK = 180
"""Looks drawn at a time."""
LEARNT = {"errors": "errors", "latency": "latency", "match": MATCH_STAGE}
"""Where a run keeps what the looks of the step under way show of each metric's bursts."""
SCRAPES = {"errors": ("stable_errors", "stable"), "latency": ("stable_slow", "stable"), "match": ("mismatched", "compared")}
"""What they show it by: bad events and requests of a look."""


def play(spec: RolloutSpec, scenario: Scenario, random: Generator) -> Outcome:
    """Play one run, from the first step to its end."""
    return _play(spec, scenario, random, every_look=False)


def every_look(spec: RolloutSpec, scenario: Scenario, random: Generator) -> Outcome:
    """Play the same run with a decision at each look."""
    return _play(spec, scenario, random, every_look=True)


def _play(spec: RolloutSpec, scenario: Scenario, random: Generator, *, every_look: bool) -> Outcome:
    passage, traffic, interval = Passage.begin(spec, forecast=False), Traffic(spec, scenario, random), float(spec.analysis.interval_seconds)
    requests = live = 0.0
    stages: list[_Stage] = []
    while True:
        step, since, stage = passage.step, passage.since, _Stage(passage, traffic)
        while passage.ended is None and passage.step == step:
            look = stage.looked + 1 if every_look else stage.next(passage)
            passage, answer = stage.look(passage, look)
        stages.append(stage)
        counts = stage.counted(stage.looked)
        requests, live = requests + float(counts[0] + counts[1]), live + float(counts[0])
        if passage.ended is not None:
            break
    promoted, now = answer.course is Course.ADVANCE, since + stage.looked * interval
    outcome = "Promoted" if promoted else answer.reason if answer.reason in ("Interrupted", "Expired") else "RolledBack"
    reacting_from = next((began for began in traffic.begun.values() if began < now), 0.0)
    before = _requests_before(stages, reacting_from)
    return Outcome(outcome, answer.reason, step, now, requests, live, now - reacting_from, requests - before)


def _requests_before(stages: list[_Stage], at: float) -> float:
    """Give the candidate's requests up to a time."""
    found = 0.0
    for stage in stages:
        look = min(max(round((at - stage.begun.since) / stage.interval), 0), stage.looked)
        found += float(column(stage.sums, "pool")[look])
    return found


@dataclass
class _Stage:
    """A step of a run: what was counted in it, and at which looks something may come of it."""

    begun: Passage
    traffic: Traffic
    looked: int = 0
    windows: dict[str, Windows] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec, run = self.begun.spec, _run_of(self.begun)
        self.interval = float(spec.analysis.interval_seconds)
        self.standard = Standard(spec.analysis, spec.plan, is_last(spec.plan, run.stage.value, run.step))
        self.shortest = spec.plan.steps[run.step].duration_seconds
        self.known = _sums(run.bursts.get("match", Dispersion()))
        self.bursts = {metric: _sums(run.bursts.get(key, Dispersion())) for metric, key in LEARNT.items()}
        self.increments, self.sums = np.zeros((1, len(FIELDS))), np.zeros((1, len(COLUMNS)))
        self.flagged, self.within = np.zeros(1, bool), np.zeros(1, bool)

    def look(self, passage: Passage, look: int) -> tuple[Passage, Answer]:
        """Let the decision look, up to which nothing can have come of the looks since its last."""
        while look >= len(self.increments):
            self._draw(passage)
        if look > self.looked + 1:
            passage = self._brought_to(passage, look - 1)
        at, counts = look * self.interval, counts_of(self.increments[look], passage.spec)
        self.looked = look
        return passage.look(Reading(until=at, counts=counts, newest=at))

    def next(self, passage: Passage) -> int:
        """Give the next look of which anything can come."""
        held_since, hold = _run_of(passage).within_since, passage.spec.plan.max_hold_seconds
        first = self.looked + 1
        while True:
            while first >= len(self.increments):
                self._judge(self._draw(passage))
            times, within = passage.since + np.arange(first, len(self.increments)) * self.interval, self.within[first:]
            since = _since(within, times, held_since)
            found = np.flatnonzero(self.flagged[first:] | (within & (times - since >= hold)))
            if len(found):
                return first + int(found[0])
            held_since = float(since[-1]) if within[-1] else None
            first = len(self.increments)

    def counted(self, look: int) -> np.ndarray:
        """Give what was counted up to a look, in columns as `FIELDS`."""
        found: np.ndarray = self.increments[: look + 1].sum(axis=0)
        return found

    def _draw(self, passage: Passage) -> range:
        looks = range(len(self.increments), len(self.increments) + BLOCK)
        more = self.traffic.draw(step=passage.step, since=passage.since, looks=looks, weight=passage.weight)
        self.increments = np.vstack([self.increments, more])
        self.sums = np.vstack([self.sums, self.sums[-1] + np.cumsum(more @ SUMMED, axis=0)])
        for metric, (bad, total) in SCRAPES.items():
            counts = more[:, FIELDS.index(bad)], more[:, FIELDS.index(total)]
            self.bursts[metric] = np.vstack([self.bursts[metric], scraped(self.bursts[metric][-1], *counts)])
        return looks

    def _judge(self, looks: range) -> None:
        """Find the looks of which anything can come, and those that are Within."""
        plan, alphas, here = self.begun.spec.plan, self.standard.alphas, slice(looks.start, looks.stop)
        times = np.array(looks) * self.interval
        flagged = (column(self.sums, "pool")[here] == 0) | (self.begun.since + times > plan.max_run_seconds)
        held, may_go = np.zeros(len(times), bool), times >= self.shortest
        for kind in ("pool", "live", "match"):
            self.windows[kind] = self.windows.get(kind, Windows()).after(column(self.sums, kind))
        requests = {kind: column(self.sums, kind) for kind in self.windows}
        per_look = {kind: total[here] / np.maximum(np.cumsum(np.diff(total, prepend=0.0) > 0)[here], 1) for kind, total in requests.items()}
        for metric, limits in limits_of(self.begun.spec.analysis).items():
            learned = Learned.of(self.known if metric == "match" else self.bursts[metric][looks.start - 1 : looks.stop - 1])
            parts = ("pool",) if metric == "match" else ("pool", "live")
            for part in parts:
                kind, bad = "match" if metric == "match" else part, column(self.sums, f"{metric}/{part}")
                effect, counts = learned.effects(per_look[kind]), (bad, requests[kind])
                share = alphas.bad / len(parts)
                flagged |= self.windows[kind].may_be_bad(looks, counts, effect, abort=limits.abort, alpha=share)
                if part == "pool":
                    at_slo = column(self.sums, "latency/slo") if metric == "latency" else bad
                    above = within(at_slo[here], requests[kind][here], effect, limits)
                    held |= above
                    some = np.flatnonzero(may_go & ~above)
                    may_go[:] = False
                    may_go[some] = good(bad[here][some], requests[kind][here][some], effect[some], limits, alphas.good)
        self.flagged = np.concatenate([self.flagged, flagged | may_go])
        self.within = np.concatenate([self.within, held])

    def _brought_to(self, passage: Passage, look: int) -> Passage:
        """Give the run as the looks up to this one leave it behind, all of which only go on."""
        run = _run_of(passage)
        rings = {}
        for stream in STREAMS:
            metric, _, part = stream.partition("/")
            kind = "match" if metric == "match" else part
            stable = None if metric == "match" else (column(self.sums, f"{metric}/stable"), column(self.sums, "stable"))
            rings[stream] = self.windows[kind].ring(look, column(self.sums, stream), column(self.sums, kind), stable)
        times = passage.since + np.arange(self.looked + 1, look + 1) * self.interval
        held = self.within[self.looked + 1 : look + 1]
        at = float(times[-1])
        changes = {
            "counts": counts_of(self.counted(look), passage.spec),
            "rings": rings,
            "bursts": {**run.bursts, **{LEARNT[metric]: Dispersion(*sums[look].tolist()) for metric, sums in self.bursts.items()}},
            "watermark": at,
            "drift_watermark": at,
            "within_since": float(_since(held, times, run.within_since)[-1]) if held[-1] else None,
            "storm_since": None,
            "missing_since": {},
        }
        return replace(passage, state=passage.state.model_copy(update={"run": run.model_copy(update=changes)}))


def _sums(known: Dispersion) -> np.ndarray:
    return np.array([[known.scrapes, known.bad, known.total, known.squares]])


def _since(within: np.ndarray, times: np.ndarray, before: float | None) -> np.ndarray:
    """Give by look since when it has been Within without a break; `before`: since when it was at the look before the first."""
    last = np.maximum.accumulate(np.where(within, -1, np.arange(len(within))))
    began = times[np.minimum(last + 1, len(times) - 1)]
    return began if before is None else np.where(last < 0, before, began)


def _run_of(passage: Passage) -> Run:
    if passage.state.run is None:
        raise AssertionError("a passage has a run")
    return passage.state.run
