"""Many runs of a rollout against a scenario, on as many processes as asked for; the same runs whatever their number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context

from numpy.random import Generator, Philox, SeedSequence

from kanarya.api.rollout import RolloutSpec
from kanarya.cli.simulation.scenario import Scenario
from kanarya.cli.simulation.traffic import Traffic
from kanarya.decision.passage import Course, Passage

CHUNK = 10
"""Runs that a process is given at a time."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    outcome
        `Promoted`, `RolledBack`, `Interrupted` or `Expired`.
    reason, step
        Why, and in which step, from 0.
    seconds
        Length of the run.
    requests, live
        Attempts of the candidate, and the live ones among them.
    reaction_seconds, reaction_requests
        The same since the first change began (without changes: since the run did).
    """

    outcome: str
    reason: str
    step: int
    seconds: float
    requests: float
    live: float
    reaction_seconds: float
    reaction_requests: float


def play(spec: RolloutSpec, scenario: Scenario, random: Generator) -> Outcome:
    """Play one run, from the first step to its end."""
    passage, traffic = Passage.begin(spec), Traffic(spec, scenario, random)
    interval, began = float(spec.analysis.interval_seconds), 0.0
    looks, requests_before, reacting_from = 0, 0.0, 0.0
    while passage.ended is None:  # maxRunSeconds ends what nothing else ends
        looks, step, t = looks + 1, passage.step, passage.since
        before = traffic.requests
        changed = bool(traffic.begun)
        reading = traffic.look(step=step, since=t, t=looks * interval, weight=passage.weight)
        if traffic.begun and not changed:
            reacting_from, requests_before = next(iter(traffic.begun.values())), before
        began = t + looks * interval
        passage, answer = passage.look(reading)
        if answer.course is Course.ADVANCE:
            looks = 0
    promoted = answer.course is Course.ADVANCE
    outcome = "Promoted" if promoted else answer.reason if answer.reason in ("Interrupted", "Expired") else "RolledBack"
    return Outcome(
        outcome,
        answer.reason,
        step,
        began,
        traffic.requests,
        traffic.live,
        began - reacting_from,
        traffic.requests - requests_before,
    )


def generator(seed: int, cell: int, run: int) -> Generator:
    """Give the randomness of one run: its own, whatever runs beside it."""
    return Generator(Philox(SeedSequence((seed, cell, run))))


def _some(spec: RolloutSpec, scenario: Scenario, seed: int, cell: int, runs: range) -> list[Outcome]:
    return [play(spec, scenario, generator(seed, cell, run)) for run in runs]


Work = tuple[RolloutSpec, Scenario]


def simulate(
    cells: Sequence[Work], *, runs: int, seed: int, jobs: int = 1, progress: Callable[[int], None] | None = None
) -> list[list[Outcome]]:
    """Play `runs` runs of each cell; gives their outcomes, in the order of the runs.

    Parameters
    ----------
    cells
        Rollouts, each with the scenario it meets.
    seed
        The same seed gives the same outcomes, whatever `jobs`.
    jobs
        Processes.
    progress
        Told how many more runs are done.
    """
    tell = progress or (lambda _: None)
    chunks = [(cell, range(first, min(first + CHUNK, runs))) for cell in range(len(cells)) for first in range(0, runs, CHUNK)]
    found: dict[tuple[int, int], list[Outcome]] = {}
    if jobs <= 1:
        for cell, some in chunks:
            found[cell, some.start] = _some(*cells[cell], seed, cell, some)
            tell(len(some))
    else:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            waiting = {pool.submit(_some, *cells[cell], seed, cell, some): (cell, some) for cell, some in chunks}
            try:
                for future in as_completed(waiting):
                    cell, some = waiting[future]
                    found[cell, some.start] = future.result()
                    tell(len(some))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return [[one for first in range(0, runs, CHUNK) for one in found[cell, first]] for cell in range(len(cells))]
