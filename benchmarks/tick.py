"""`python -m benchmarks.tick`: what one look's decision costs, by default metrics and 20 features. Results: docs/benchmarks-decisions.md.

A run of half an hour at its first step, a look each ten seconds with new counts; what is timed is the pure decision with its evidence.
CPU seconds, and beside them those of one `json.loads` of the run's own last entry, on the same machine in the same minute.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from statistics import median
from time import process_time

from numpy.random import Generator, Philox

from benchmarks.figures import Spread, table
from kanarya.api.rollout import RolloutSpec, parse_spec
from kanarya.decision.counts import Attempts, Counts, Drift, Reading
from kanarya.decision.playback import Entry, Playback
from kanarya.decision.state import Identity

LOOKS = 180
EVERY_SECONDS = 10.0
BINS = 11
PARSES = 200


def main() -> int:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tick", description=__doc__)
    parser.add_argument("--features", type=int, default=20, metavar="N", help="features watched for drift (default: 20)")
    parser.add_argument("--rates", type=int, nargs="+", default=(1, 20, 200), metavar="R", help="requests a second")
    parser.add_argument("--repeats", type=int, default=5, metavar="N")
    arguments = parser.parse_args()
    if min(arguments.features, *arguments.rates, arguments.repeats) < 1:
        parser.error("features, rates and repeats must be at least 1")
    heading = ("requests a second", "a look, ms (min / median / max of runs)", "json.loads of its entry, ms", "ratio")
    rows = [_row(rate, arguments.features, arguments.repeats) for rate in arguments.rates]
    sys.stdout.write(f"{table(heading, rows)}\n\nload average: {os.getloadavg()[0]:.1f}\n")
    return 0


def _row(rate: int, features: int, repeats: int) -> tuple[object, ...]:
    looks, parses = [], []
    for seed in range(repeats):
        seconds, entry = _run(rate, features, Generator(Philox(seed)))
        looks.append(1000 * seconds)
        text = json.dumps(entry)
        parses.append(1000 * median(_cpu(lambda text=text: json.loads(text)) for _ in range(PARSES)))  # type: ignore[misc]
    return rate, Spread.of(looks), f"{median(parses):.3f}", f"{median(looks) / median(parses):.1f}"


def _run(rate: int, features: int, random: Generator) -> tuple[float, Entry]:
    """Play a step of a good candidate; gives the mean CPU seconds of a look, and the last entry with verdicts."""
    run = Playback.planned(_spec(), stable=_identity("5f6c8d"), candidate=_identity("7d4b9c"), at=0.0)
    reference = {f"feature_{number:02d}": (2000.0,) * (BINS - 1) + (0.0,) for number in range(features)}
    spent = 0.0
    for look in range(1, LOOKS):
        reading = _drawn(rate, reference, look * EVERY_SECONDS, random)
        spent += _cpu(lambda reading=reading, now=look * EVERY_SECONDS: run.look(reading, now))  # type: ignore[misc]
    return spent / (LOOKS - 1), next(entry for entry in reversed(run.entries) if entry.get("verdicts"))


def _drawn(rate: int, reference: dict[str, tuple[float, ...]], now: float, random: Generator) -> Reading:
    total = int(random.poisson(rate * EVERY_SECONDS))
    live = int(random.binomial(total, 0.05))
    current = {name: (*map(float, random.multinomial(total, (1 / (BINS - 1),) * (BINS - 1))), 0.0) for name in reference}
    counts = Counts(
        _attempts(live, random),
        _attempts(total - live, random),
        _attempts(total, random),
        attempted=total,
        compared=total,
        mismatched=float(random.binomial(total, 0.02)),
    )
    return Reading(until=now, counts=counts, drift=Drift(current, reference), newest=now, stable_newest=now, newest_counted=now)


def _attempts(total: int, random: Generator) -> Attempts:
    slower = {"80": float(random.binomial(total, 0.02)), "120": float(random.binomial(total, 0.01))}
    return Attempts(float(total), float(random.binomial(total, 0.005)), slower)


def _spec() -> RolloutSpec:
    return parse_spec({"targetRef": {"name": "fraud"}, "serviceRef": {"name": "fraud"}})


def _identity(revision: str) -> Identity:
    return Identity(revision=revision, version=revision)


def _cpu(work: Callable[[], object]) -> float:
    began = process_time()
    work()
    return process_time() - began


if __name__ == "__main__":
    sys.exit(main())
