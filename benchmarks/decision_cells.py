"""The promises on decisions, cell by cell: which candidate, on what traffic, what may happen to it how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import decision_runs
from kanarya.api.rollout import RolloutSpec, parse_spec
from kanarya.cli.simulation.feasibility import RATES, needs
from kanarya.cli.simulation.planning import behaviour, faults, healthy
from kanarya.cli.simulation.runs import Outcome, generator, simulated
from kanarya.cli.simulation.scenario import Behaviour, Change, Scenario
from kanarya.cli.simulation.summary import duration, interval, percent, quantile
from kanarya.decision.judge import limits_of

BURSTS = 0.1
PLAYING = decision_runs.play
ALL = slice(None)


@dataclass(frozen=True)
class Promise:
    """A cell: `counted` of its runs may be at most `at_most`."""

    name: str
    scenario: Scenario
    counted: str
    at_most: float

    def events(self, outcomes: Sequence[Outcome]) -> int:
        """Give the runs that should not have ended as they did."""
        wrong: dict[str, Callable[[Outcome], bool]] = {
            "rolled back": lambda one: one.outcome != "Promoted",
            "promoted": lambda one: one.outcome == "Promoted",
            "blamed": lambda one: one.outcome == "RolledBack",
            "let off": lambda one: one.outcome != "RolledBack",
        }
        return sum(map(wrong[self.counted], outcomes))


def spec(*, steps: int = 5, look_seconds: int = 10, hours: int = 6, **analysis: Any) -> RolloutSpec:
    """Give the default plan, or its last steps, without soak, ended after `hours`; drift is told, and decides nothing."""
    plan = {"steps": [{"weight": weight} for weight in (5, 10, 25, 50, 100)[-steps:]], "maxRunSeconds": hours * 3600}
    about = {"method": "Sequential", "intervalSeconds": look_seconds, "drift": {"action": "Report"}, **analysis}
    return parse_spec({"targetRef": {"name": "fraud"}, "serviceRef": {"name": "fraud"}, "plan": plan, "analysis": about})


RATES_TRIED = (1.0, 5.0)
CAUSED = (0.05, 0.3)
"""Shares of errors on both tracks of a candidate that breaks what it shares with stable, from its second step on."""


def promises(rollout: RolloutSpec, rates: Sequence[float] = RATES_TRIED) -> list[Promise]:
    """Give all cells; `rates` of requests a second, each of which `kanarya plan` must call feasible."""
    limits = limits_of(rollout.analysis)
    good, at_slo, last = healthy(limits), healthy(limits, 1.0), len(rollout.plan.steps) - 1
    for rps in rates:
        if not all(need.feasible for need in needs(rollout, rps)):
            raise ValueError(f"the plan is not feasible at {rps:g} requests a second")

    def meets(candidate: Behaviour, *changes: Change, rps: float = rates[0], bursts: float = 0.0, stable: Behaviour = good) -> Scenario:
        return Scenario(rps=rps, candidate=candidate, stable=stable, changes=changes, burst_correlation=bursts)

    found = [Promise(f"all at slo, {rps:g}/s", meets(at_slo, rps=rps), "rolled back", 0.02) for rps in rates]
    found.append(Promise(f"all at slo, {rates[0]:g}/s, bursts", meets(at_slo, bursts=BURSTS), "rolled back", 0.03))
    for metric in RATES:
        bad = behaviour(metric, limits[metric].abort, good)
        for step in range(last + 1):
            late = f"{metric} at abort from step {step}"
            found.append(Promise(late, meets(good, Change(step=step, candidate=bad)), "promoted", 0.01))
        worse = behaviour(metric, 2 * limits[metric].abort, good)
        found.append(
            Promise(f"{metric} at twice abort in the last step", meets(good, Change(step=last, candidate=worse)), "promoted", 0.01)
        )
        bunched = meets(good, Change(step=last, candidate=bad), bursts=BURSTS)
        found.append(Promise(f"{metric} at abort in the last step, bursts", bunched, "promoted", 0.03))
    fails, broken = Behaviour(errors=0.3), Behaviour(errors=0.8)
    both = Change(step=1, seconds=600, lasts=600, candidate=fails, stable=fails)
    worse_in_it = Change(step=1, seconds=600, lasts=600, candidate=broken, stable=Behaviour(errors=0.1))
    found.append(Promise("a storm of 30 % errors on both tracks", meets(good, both, rps=rates[-1]), "blamed", 0.02))
    found.append(Promise("80 % errors in a storm of 10 %", meets(good, worse_in_it, rps=rates[-1]), "let off", 0.02))
    for share in CAUSED:
        causes = Change(step=1, candidate=Behaviour(errors=share), stable=Behaviour(errors=share))
        found.append(
            Promise(f"causes {percent(share)} errors on both tracks from step 1", meets(good, causes, rps=rates[-1]), "promoted", 0.01)
        )
    return found


def reactions(rollout: RolloutSpec, rps: float = 1.0) -> list[tuple[str, float, Scenario, Scenario]]:
    """Give metric, size, and the scenarios of a fault there from the start and of one from the middle of the first step."""
    limits = limits_of(rollout.analysis)
    good, half = healthy(limits), rollout.plan.steps[0].duration_seconds / 2
    found: list[tuple[str, float, Scenario, Scenario]] = []
    for metric in RATES:
        for size in faults(limits[metric]):
            bad = behaviour(metric, size, good)
            whole = Scenario(rps=rps, candidate=bad, stable=good)
            late = Scenario(rps=rps, candidate=good, stable=good, changes=(Change(step=0, seconds=half, candidate=bad),))
            found.append((metric, size, whole, late))
    return found


def kept_rows(
    rollout: RolloutSpec,
    rates: Sequence[float] = RATES_TRIED,
    *,
    which: slice = ALL,
    runs: int,
    seed: int,
    jobs: int,
    progress: Callable[[int], None] | None = None,
) -> Iterator[str]:
    """Play promises; gives the rows of a table in Markdown, each when its cell is done."""
    cells, first = promises(rollout, rates)[which], which.start or 0
    yield "| candidate | must not be | at most | runs | share | 95 % interval | | ends |"
    yield "|---|---|---|---|---|---|---|---|"
    works = [(rollout, cell.scenario) for cell in cells]
    found = simulated(works, runs=runs, seed=seed, jobs=jobs, progress=progress, playing=PLAYING, first=first)
    for cell, outcomes in zip(cells, found, strict=True):
        events = cell.events(outcomes)
        low, high = interval(events, runs)
        verdict = "kept" if high <= cell.at_most else "broken" if low > cell.at_most else "within the noise"
        told = f"{events} of {runs} | {percent(events / runs)} | {percent(low)} to {percent(high)} | {verdict}"
        yield f"| {cell.name} | {cell.counted} | {percent(cell.at_most)} | {told} | {_ends(outcomes)} |"


def reaction_rows(
    rollout: RolloutSpec, *, which: slice = ALL, runs: int, seed: int, jobs: int, progress: Callable[[int], None] | None = None
) -> Iterator[str]:
    """Play faults of every size from the start and from the middle of a step; gives the rows of a table in Markdown."""
    cells, first = reactions(rollout)[which], 2 * (which.start or 0)
    yield "| fault | from the start | from the middle of the step | ratio of medians |"
    yield "|---|---|---|---|"
    played = [(rollout, scenario) for _, _, *both in cells for scenario in both]
    found = simulated(played, runs=runs, seed=seed + 1, jobs=jobs, progress=progress, playing=PLAYING, first=first)
    for (metric, size, *_), *both in zip(cells, found, found, strict=True):
        early, late = ([one.reaction_requests for one in outcomes if one.outcome == "RolledBack" and one.step == 0] for outcomes in both)
        middle = [quantile(some, 0.5) for some in (early, late)]
        ratio = f"{middle[1] / middle[0]:.2f}" if middle[0] and middle[1] else "-"
        yield f"| {metric} {percent(size)} | {_requests(early, runs)} | {_requests(late, runs)} | {ratio} |"


def compare(rollout: RolloutSpec, rates: Sequence[float] = RATES_TRIED, *, which: slice = ALL, runs: int, seed: int) -> int:
    """Play the first runs of each promise with a decision at every look as well; gives how many were compared.

    Raises
    ------
    AssertionError
        When a run ends otherwise.
    """
    cells = promises(rollout, rates)[which]
    for index, cell in enumerate(cells, which.start or 0):
        for run in range(runs):
            ends = [way(rollout, cell.scenario, generator(seed, index, run)) for way in (PLAYING, decision_runs.every_look)]
            if ends[0] != ends[1]:
                raise AssertionError(f"{cell.name}, run {run}: {ends[0]}, and with a decision at every look {ends[1]}")
    return runs * len(cells)


def _ends(outcomes: Sequence[Outcome]) -> str:
    """Tell the outcomes, the most frequent first, with the median seconds since what the cell is about began."""
    told = []
    for name, count in Counter(one.outcome for one in outcomes).most_common():
        seconds = quantile([one.reaction_seconds for one in outcomes if one.outcome == name], 0.5)
        told.append(f"{count} {name} after {duration(seconds)}")
    return ", ".join(told)


def _requests(some: Sequence[float], runs: int) -> str:
    median, most = quantile(some, 0.5), quantile(some, 0.95)
    if median is None or most is None:
        return "not in the step"
    missed = f", {runs - len(some)} runs not in the step" if len(some) < runs else ""
    return f"{median:.0f} ({most:.0f}){missed}"
