"""Three promises on decisions at 300 runs each, the rival's rule, and the benchmark's tables."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from scipy.special import bdtr

from benchmarks import decision_cells, decision_rivals, decision_runs
from benchmarks.decision_cells import Promise, promises, reactions
from benchmarks.decision_rivals import Ours, Rival, drawn
from kanarya.cli.simulation.runs import Outcome, generator, simulated

pytestmark = pytest.mark.slow

RUNS = 300
ROLLOUT = decision_cells.spec(steps=2, look_seconds=300, hours=3)
"""Two steps of half an hour, 6 looks each."""
RATE = 10.0
"""Requests a second: looks so far apart need more of them, for they may be bunched."""
CELLS = promises(ROLLOUT, (RATE,))
DENSE = decision_cells.spec(steps=2, look_seconds=20, hours=3)
EVERY = promises(DENSE, (RATE,))


def bound(at_most: float) -> int:
    """The number of events that 99.9 % of such binomial counts do not exceed."""
    return next(events for events in range(RUNS) if bdtr(events, RUNS, at_most) >= 0.999)


@pytest.mark.parametrize("name", ["all at slo, 10/s", "errors at abort from step 0", "errors at abort from step 1"])
def test_a_promise_is_kept(name: str) -> None:
    cell = next(one for one in CELLS if one.name == name)
    outcomes = next(simulated([(ROLLOUT, cell.scenario)], runs=RUNS, seed=5, playing=decision_runs.play))
    assert cell.events(outcomes) <= bound(cell.at_most)


def test_the_bounds_are_those_of_the_binomial() -> None:
    assert [bound(share) for share in (0.02, 0.01)] == [15, 10]


def test_a_run_is_counted_as_what_it_must_not_be() -> None:
    def ended(outcome: str) -> Outcome:
        return Outcome(outcome, "", 0, 0, 0, 0, 0, 0)

    scenario = CELLS[0].scenario
    outcomes = [ended(name) for name in ("Promoted", "RolledBack", "Interrupted", "Expired")]
    counted = {name: Promise("", scenario, name, 0.01).events(outcomes) for name in ("rolled back", "promoted", "blamed", "let off")}
    assert counted == {"rolled back": 3, "promoted": 1, "blamed": 1, "let off": 3}


def test_every_step_has_its_cell_and_an_infeasible_rate_is_refused() -> None:
    names = [one.name for one in promises(decision_cells.spec())]
    assert [f"match at abort from step {step}" in names for step in range(5)] == [True] * 5
    assert len(set(names)) == len(names)
    with pytest.raises(ValueError, match=r"not feasible at 0\.1 requests"):
        promises(ROLLOUT, rates=(0.1,))


@pytest.mark.parametrize("cell", range(len(EVERY)), ids=[one.name for one in EVERY])
def test_leaving_out_looks_that_come_to_nothing_changes_no_outcome(cell: int) -> None:
    ends = [way(DENSE, EVERY[cell].scenario, generator(3, cell, 0)) for way in (decision_runs.play, decision_runs.every_look)]
    assert ends[0] == ends[1]


def test_what_cannot_be_drawn_in_blocks_is_refused() -> None:
    drifting = decision_cells.spec(drift={"action": "BlockPromotion"})
    with pytest.raises(ValueError, match="use kanarya simulate"):
        decision_runs.play(drifting, EVERY[0].scenario, generator(1, 0, 0))
    gaps = EVERY[0].scenario.model_copy(update={"scrape_gaps": 0.1})
    with pytest.raises(ValueError, match="use kanarya simulate"):
        decision_runs.play(DENSE, gaps, generator(1, 0, 0))


def test_the_rival_counts_checks_in_a_row() -> None:
    counts = [(0, 10), (5, 10), (5, 10), (0, 10), (5, 10), (5, 10), (5, 10)]
    assert Rival(1, 0).aborts_after(counts) == 20
    assert Rival(2, 0).aborts_after(counts) == 30
    assert Rival(3, 0).aborts_after(counts) == 70
    assert Rival(4, 0).aborts_after(counts) == inf
    assert Rival(1, 30).aborts_after(counts) == 30
    assert Rival(1, 100).aborts_after(counts) == inf


def test_our_evidence_at_any_threshold() -> None:
    random = np.random.default_rng(1)
    ours = Ours.of(drawn(random, 0.5, 10), drawn(random, 0.005, 10))
    assert ours.aborts_after(0.0) <= ours.aborts_after(9.0) < 60
    assert ours.aborts_after(1e9) == inf


def test_tables_have_a_row_for_each_cell() -> None:
    assert len(list(decision_cells.kept_rows(ROLLOUT, (RATE,), runs=1, seed=1, jobs=1))) == 2 + len(CELLS)
    assert len(list(decision_cells.reaction_rows(ROLLOUT, runs=1, seed=1, jobs=1))) == 2 + len(reactions(ROLLOUT))
    assert len(decision_rivals.frontier(5, runs=3, seed=1)) == 2 + 1 + 2 * 15
