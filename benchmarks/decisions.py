"""`python -m benchmarks.decisions`: how often decisions are wrong, and how many requests they take. Results: docs/benchmarks-decisions.md.

Pure computation: no cluster, no network. Tables in Markdown go to standard output, progress to standard error. 2,000 runs a cell take
hours of both cores.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable

from benchmarks import decision_cells, decision_rivals
from kanarya.cli.simulation.show import progress

PER_LOOK = [10, 100]


def main() -> int:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decisions", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, metavar="N", help="runs of each cell (default: 2000)")
    parser.add_argument("--look-seconds", type=int, default=10, metavar="S", help="time between two looks (default: 10)")
    parser.add_argument("--hours", type=int, default=6, metavar="H", help="after which a run that only holds ends (default: 6, at most 24)")
    parser.add_argument("--rates", type=float, nargs="+", default=decision_cells.RATES_TRIED, metavar="R", help="requests a second")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: one for each core)")
    parser.add_argument("--compare", type=int, default=3, metavar="N", help="runs of each promise also decided at every look (default: 3)")
    parser.add_argument("--cells", type=int, nargs=2, metavar=("FIRST", "END"), help="of a table, from 0: only FIRST to before END")
    parser.add_argument("--only", choices=("promises", "reactions", "rivals"), help="one of the three tables")
    arguments = parser.parse_args()
    runs, seed, jobs = arguments.runs, arguments.seed, arguments.jobs
    if runs < 1 or not 1 <= arguments.look_seconds <= 300 or jobs < 1 or seed < 0 or arguments.compare < 0:
        parser.error("runs and jobs must be at least 1, look-seconds 1 to 300, seed and compare at least 0")
    if not 3 <= arguments.hours <= 24:
        parser.error("hours must be 3 to 24")
    if arguments.cells and not arguments.only:
        parser.error("--cells goes with --only")
    rollout = decision_cells.spec(look_seconds=arguments.look_seconds, hours=arguments.hours)
    which = slice(*arguments.cells) if arguments.cells else decision_cells.ALL
    wanted = (arguments.only,) if arguments.only else ("promises", "reactions", "rivals")
    if "promises" in wanted:
        rates = arguments.rates
        try:
            cells = len(decision_cells.promises(rollout, rates)[which])
        except ValueError as error:
            parser.error(str(error))
        with progress("promises", runs * cells) as done:
            _write("Promises", decision_cells.kept_rows(rollout, rates, which=which, runs=runs, seed=seed, jobs=jobs, progress=done))
        compared = decision_cells.compare(rollout, rates, which=which, runs=arguments.compare, seed=seed)
        sys.stdout.write(f"{compared} of these runs were played with a decision at every look as well, and ended the same.\n\n")
    if "reactions" in wanted:
        with progress("reactions", 2 * runs * len(decision_cells.reactions(rollout)[which])) as done:
            rows = decision_cells.reaction_rows(rollout, which=which, runs=runs, seed=seed, jobs=jobs, progress=done)
            _write("Requests until a fault is noticed: median (95 %)", rows)
    for per_look in PER_LOOK[which] if "rivals" in wanted else []:
        with progress(f"rivals, {per_look} requests a look", runs) as done:
            table = decision_rivals.frontier(per_look, runs=runs, seed=seed, jobs=jobs, progress=done)
        _write(f"Point over threshold, n checks in a row; {per_look} requests a look; requests until abort: median (95 %)", table)
    return 0


def _write(title: str, rows: Iterable[str]) -> None:
    sys.stdout.write(f"### {title}\n\n")
    for row in rows:
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()
    sys.stdout.write("\n")


if __name__ == "__main__":
    sys.exit(main())
