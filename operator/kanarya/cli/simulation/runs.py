"""Many runs of a rollout against a scenario, on as many processes as asked for; the same runs whatever their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
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


def play(spec: RolloutSpec, scenario: Scenario, random: Generator, *, spacing: float = 0.0) -> Outcome:
    """Play one run, from the first step to its end. Two looks are at least `spacing` times as far apart as the step then is old."""
    passage, traffic = Passage.begin(spec, forecast=False), Traffic(spec, scenario, random)
    interval, began = float(spec.analysis.interval_seconds), 0.0
    age, requests_before, reacting_from = 0.0, 0.0, 0.0
    while passage.ended is None:  # maxRunSeconds ends what nothing else ends
        step, since, apart = passage.step, passage.since, max(interval, spacing * age)
        age += apart
        before = traffic.requests
        changed = bool(traffic.begun)
        reading = traffic.look(step=step, since=since, t=age, apart=apart, weight=passage.weight)
        if traffic.begun and not changed:
            reacting_from, requests_before = next(iter(traffic.begun.values())), before
        began = since + age
        passage, answer = passage.look(reading)
        if answer.course is Course.ADVANCE:
            age = 0.0
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


Work = tuple[RolloutSpec, Scenario]
Play = Callable[[RolloutSpec, Scenario, Generator], Outcome]
"""What plays one run; a function that other processes can import."""


def _some(playing: Play, work: Work, seed: int, cell: int, runs: range) -> list[Outcome]:
    return [playing(*work, generator(seed, cell, run)) for run in runs]


def simulate(
    cells: Sequence[Work], *, runs: int, seed: int, jobs: int = 1, progress: Callable[[int], None] | None = None, playing: Play = play
) -> list[list[Outcome]]:
    """Play `runs` runs of each cell; gives their outcomes, in the order of the runs. See `simulated`."""
    return list(simulated(cells, runs=runs, seed=seed, jobs=jobs, progress=progress, playing=playing))


def simulated(
    cells: Sequence[Work],
    *,
    runs: int,
    seed: int,
    jobs: int = 1,
    progress: Callable[[int], None] | None = None,
    playing: Play = play,
    first: int = 0,
) -> Iterator[list[Outcome]]:
    """Play `runs` runs of each cell; gives the outcomes of one cell after the other, in the order of the runs.

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
    playing
        What plays a run.
    first
        The number of the first cell: with the seed it makes its randomness.
    """
    tell = progress or (lambda _: None)
    chunks = [(cell, range(begin, min(begin + CHUNK, runs))) for cell in range(len(cells)) for begin in range(0, runs, CHUNK)]
    if jobs <= 1:
        for cell, work in enumerate(cells):
            found = []
            for _, some in (chunk for chunk in chunks if chunk[0] == cell):
                found += _some(playing, work, seed, first + cell, some)
                tell(len(some))
            yield found
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = [(cell, pool.submit(_some, playing, cells[cell], seed, first + cell, some)) for cell, some in chunks]
        try:
            for cell in range(len(cells)):
                found = []
                for future in (one for of, one in waiting if of == cell):
                    more = future.result()
                    found += more
                    tell(len(more))
                yield found
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
