"""Runs against drawn counts, in which the operator's own decision is asked only at the looks that can lead to anything.

In between the state is brought up to date in one go, to what the decision would have left behind. `every_look` asks it at every look
instead: the same run takes some twenty times as long, and ends the same. `python -m benchmarks.decisions` compares a sample of both.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.random import Generator

from benchmarks.decision_screen import Rows, Windows, effects, good, learned, within
from benchmarks.decision_traffic import FIELDS, Traffic, counts_of
from kanarya.api.rollout import RolloutSpec
from kanarya.cli.simulation.runs import Outcome
from kanarya.cli.simulation.scenario import Scenario
from kanarya.decision.counts import Reading
from kanarya.decision.judge import Standard, limits_of
from kanarya.decision.passage import Answer, Course, Passage
from kanarya.decision.state import Run
from kanarya.decision.statistics.dispersion import Dispersion
from kanarya.decision.streams import MATCH_STAGE, is_last

BLOCK = 180
"""Looks drawn at a time."""
PARTS = ("errors/pool", "errors/live", "latency/pool", "latency/live", "match/pool")
TOTALS = {"pool": "live+mirror", "live": "live", "match": "compared"}
BAD = {"errors": "errors", "latency": "slowest"}


def play(spec: RolloutSpec, scenario: Scenario, random: Generator) -> Outcome:
    """Play one run, from the first step to its end."""
    return _play(spec, scenario, random, every_look=False)


def every_look(spec: RolloutSpec, scenario: Scenario, random: Generator) -> Outcome:
    """Play the same run with a decision at each look."""
    return _play(spec, scenario, random, every_look=True)


def _play(spec: RolloutSpec, scenario: Scenario, random: Generator, *, every_look: bool) -> Outcome:
    passage, traffic, interval = Passage.begin(spec, forecast=False), Traffic(spec, scenario, random), float(spec.analysis.interval_seconds)
    requests = live = 0.0
    by_time: list[tuple[float, np.ndarray]] = []
    while True:
        step, since, stage = passage.step, passage.since, _Stage(passage, traffic)
        while passage.ended is None and passage.step == step:
            look = stage.looked + 1 if every_look else stage.next(passage)
            passage, answer = stage.look(passage, look)
        counts = stage.rows.counts[: stage.looked + 1]
        by_time.append((since, counts))
        requests, live = requests + float(counts[-1, 0] + counts[-1, 1]), live + float(counts[-1, 0])
        if passage.ended is not None:
            break
    promoted, now = answer.course is Course.ADVANCE, since + stage.looked * interval
    outcome = "Promoted" if promoted else answer.reason if answer.reason in ("Interrupted", "Expired") else "RolledBack"
    reacting_from = next((began for began in traffic.begun.values() if began < now), 0.0)
    before = _requests_before(by_time, reacting_from, interval)
    return Outcome(outcome, answer.reason, step, now, requests, live, now - reacting_from, requests - before)


def _requests_before(by_time: list[tuple[float, np.ndarray]], at: float, interval: float) -> float:
    """Give the candidate's requests up to a time."""
    found = 0.0
    for since, counts in by_time:
        look = min(max(round((at - since) / interval), 0), len(counts) - 1)
        found += float(counts[look, 0] + counts[look, 1])
    return found


@dataclass
class _Stage:
    """A step of a run: what was counted in it, and at which looks something may come of it."""

    begun: Passage
    traffic: Traffic
    looked: int = 0
    flagged: np.ndarray = field(default_factory=lambda: np.zeros(1, bool))
    within: np.ndarray = field(default_factory=lambda: np.zeros(1, bool))
    sums: dict[str, np.ndarray] = field(default_factory=dict)
    windows: dict[str, Windows] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec, run = self.begun.spec, _run_of(self.begun)
        self.interval = float(spec.analysis.interval_seconds)
        self.standard = Standard(spec.analysis, spec.plan, is_last(spec.plan, run.stage.value, run.step))
        self.increments = np.zeros((1, len(FIELDS)))
        self.rows = Rows(self.increments, range(1, 1))

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
                self._draw(passage)
                self._judge()
            looks = np.arange(first, len(self.increments))
            within = self.within[first:]
            since = _since(within, passage.since + looks * self.interval, held_since)
            found = np.flatnonzero(self.flagged[first:] | (within & (passage.since + looks * self.interval - since >= hold)))
            if len(found):
                return first + int(found[0])
            held_since = float(since[-1]) if within[-1] else None
            first = len(self.increments)

    def _draw(self, passage: Passage) -> None:
        looks = range(len(self.increments), len(self.increments) + BLOCK)
        more = self.traffic.draw(step=passage.step, since=passage.since, looks=looks, weight=passage.weight)
        self.increments = np.vstack([self.increments, more])
        self.rows = Rows(np.cumsum(self.increments, axis=0), looks)

    def _judge(self) -> None:
        """Find the looks, of those drawn last, of which anything can come, and those that are Within."""
        rows, spec, plan = self.rows, self.begun.spec, self.begun.spec.plan
        limits, alphas, bursts = limits_of(spec.analysis), self.standard.alphas, _run_of(self.begun).bursts
        increments, times = self.increments, np.array(rows.looks) * self.interval
        pool = rows["live+mirror"]
        self.windows = {name: self.windows.get(name, Windows()).after(rows[columns]) for name, columns in TOTALS.items()}
        stable = increments[1:, 2]
        for metric, column in (("errors", 5), ("latency", 11)):
            self.sums[metric] = learned(bursts.get(metric, Dispersion()), increments[1:, column], stable)
        self.sums["match"] = learned(bursts.get(MATCH_STAGE, Dispersion()), increments[1:, 13], increments[1:, 12])
        known = bursts.get("match", Dispersion())
        flagged = (rows.here(pool) == 0) | (self.begun.since + times > plan.max_run_seconds)
        held = np.zeros(len(times), bool)
        may_go = times >= plan.steps[_run_of(self.begun).step].duration_seconds
        for part in PARTS:
            metric, _, of = part.partition("/")
            total = rows[TOTALS["match" if metric == "match" else of]]
            bad = rows[_bad(part)]
            sums = (
                np.tile([known.scrapes, known.bad, known.total, known.squares], (len(times), 1))
                if metric == "match"
                else self.sums[metric][rows.looks.start - 1 : rows.looks.stop - 1]
            )
            looked = np.cumsum(np.diff(total, prepend=0.0) > 0)
            effect = effects(sums, rows.here(total) / np.maximum(rows.here(looked), 1))
            share = alphas.bad if metric == "match" else alphas.bad / 2
            windows = self.windows["match" if metric == "match" else of]
            flagged |= windows.may_be_bad(rows, (bad, total), effect, abort=limits[metric].abort, alpha=share)
            if of == "live":
                continue
            at_slo = rows.here(rows["live_slow+mirror_slow"] if metric == "latency" else bad)
            above = within(at_slo, rows.here(total), effect, limits[metric])
            held |= above
            some = np.flatnonzero(may_go & ~above)
            may_go[:] = False
            may_go[some] = good(rows.here(bad)[some], rows.here(total)[some], effect[some], limits[metric], alphas.good)
        self.flagged = np.concatenate([self.flagged, flagged | may_go])
        self.within = np.concatenate([self.within, held])

    def _brought_to(self, passage: Passage, look: int) -> Passage:
        """Give the run as the looks up to this one leave it behind, all of which only go on."""
        run, rows, spec = _run_of(passage), self.rows, passage.spec
        rings = {}
        for part in PARTS:
            metric, _, of = part.partition("/")
            kind = "match" if metric == "match" else of
            stable = None if metric == "match" else (rows["stable_errors" if metric == "errors" else "stable_slowest"], rows["stable"])
            rings[part] = self.windows[kind].ring(look, rows[_bad(part)], rows[TOTALS[kind]], stable)
        names = {"errors": "errors", "latency": "latency", "match": MATCH_STAGE}
        bursts = {**run.bursts, **{names[metric]: Dispersion(*sums[look].tolist()) for metric, sums in self.sums.items()}}
        times = passage.since + np.arange(self.looked + 1, look + 1) * self.interval
        held = self.within[self.looked + 1 : look + 1]
        since = float(_since(held, times, run.within_since)[-1]) if held[-1] else None
        at = float(times[-1])
        changes = {
            "counts": counts_of(rows.counts[look], spec),
            "rings": rings,
            "bursts": bursts,
            "watermark": at,
            "drift_watermark": at,
            "within_since": since,
            "storm_since": None,
            "missing_since": {},
        }
        return replace(passage, state=passage.state.model_copy(update={"run": run.model_copy(update=changes)}))


def _since(within: np.ndarray, times: np.ndarray, before: float | None) -> np.ndarray:
    """Give by look since when it has been Within without a break; `before`: since when it was at the look before the first."""
    last = np.maximum.accumulate(np.where(within, -1, np.arange(len(within))))
    began = times[np.minimum(last + 1, len(times) - 1)]
    return began if before is None else np.where(last < 0, before, began)


def _bad(part: str) -> str:
    metric, _, of = part.partition("/")
    if metric == "match":
        return "mismatched"
    return "+".join(f"{one}_{BAD[metric]}" for one in (("live", "mirror") if of == "pool" else ("live",)))


def _run_of(passage: Passage) -> Run:
    if passage.state.run is None:
        raise AssertionError("a passage has a run")
    return passage.state.run
