"""Live many lives: `python -m tests.world --lives 10000 --jobs 2`. Exit code 1 when a promise was broken."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from random import SystemRandom

from tests.world.chance import story
from tests.world.life import live
from tests.world.many import Tally, live_all

CHUNK = 20
MOST_TOLD = 5


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.world", description=__doc__)
    parser.add_argument("--lives", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, help="the first seed; the others follow it (default: by chance)")
    parser.add_argument("--tell", type=int, metavar="SEED", help="live this one life, and tell it")
    options = parser.parse_args()
    if options.tell is not None:
        result = live(story(options.tell))
        print(result.text())
        return bool(result.violations)
    seed = SystemRandom().randrange(10**9) if options.seed is None else options.seed
    print(f"{options.lives} lives from seed {seed} on, {options.jobs} at a time", flush=True)
    tally = _live(seed, options.lives, options.jobs)
    _report(tally)
    return bool(tally.failures)


def _live(seed: int, lives: int, jobs: int) -> Tally:
    tally, began, told = Tally(), time.monotonic(), 0.0
    chunks = [range(first, min(first + CHUNK, seed + lives)) for first in range(seed, seed + lives, CHUNK)]
    with ProcessPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(live_all, chunk) for chunk in chunks]):
            known = len(tally.failures)
            tally.take(done.result())
            for failure in tally.failures[known:MOST_TOLD]:
                print(f"\n{failure}\n", flush=True)
            passed = time.monotonic() - began
            if passed - told > 20 or tally.lives == lives:
                told = passed
                print(f"{tally.lives} lives, {tally.lives / passed:.1f} a second, {len(tally.failures)} broken", flush=True)
    return tally


def _report(tally: Tally) -> None:
    print(f"\n{tally.lives} lives, {tally.virtual / 3600:.0f} hours of virtual time, {len(tally.failures)} broken")
    for word, counter in (
        ("ends", tally.endings),
        ("outcomes of runs", tally.outcomes),
        ("what happened", tally.exercised),
        ("deaths of operators", tally.points),
    ):
        print(f"\n{word}:\n{_table(counter)}")
    for failure in tally.failures:
        print(failure.partition("\n")[0], failure.split("\n")[1], sep=": ")


def _table(counter: Counter[str]) -> str:
    return "\n".join(f"  {count:7}  {word}" for word, count in counter.most_common())


if __name__ == "__main__":
    sys.exit(main())
