"""Against "point over threshold, n checks in a row", on the same random counts of errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from math import exp, inf
from multiprocessing import get_context

import numpy as np
from numpy.random import Generator, Philox, SeedSequence

from kanarya.cli.simulation.summary import percent
from kanarya.decision.sequential import Stream, alphas, prove_bad
from kanarya.decision.statistics.dispersion import Dispersion, design_effect
from kanarya.decision.statistics.windows import Ring, Tally

SLO, ABORT = 0.01, 0.02
SHARES = (0.04, 0.1, 0.5, 1.0)
IN_A_ROW, FEWEST = (1, 2, 3, 4, 5), (0, 30, 100)
LOOKS = 180
"""Looks of a step: half an hour, one each ten seconds."""

CHUNK = 20
"""Runs that a process is given at a time."""
EAGER, ENOUGH = -12.0, 30.0
"""Evidence (ln E) below and beyond any threshold that is compared: rules that take back most healthy runs need less than none."""

Counts = list[tuple[int, int]]
"""Bad events and requests, look by look."""


@dataclass(frozen=True)
class Rival:
    """Aborts once `in_a_row` checks have a share above abort; a check waits until it has `fewest` requests of its own."""

    in_a_row: int
    fewest: int

    def aborts_after(self, counts: Counts) -> float:
        """Give the requests until the abort; infinity when there is none."""
        row = bad = total = seen = 0
        for more_bad, more in counts:
            bad, total, seen = bad + more_bad, total + more, seen + more
            if total < max(self.fewest, 1):
                continue
            row = row + 1 if bad > ABORT * total else 0
            bad = total = 0
            if row == self.in_a_row:
                return seen
        return inf


@dataclass(frozen=True)
class Ours:
    """The evidence after each look, and the requests up to it: any threshold from `EAGER` to `ENOUGH` can be tried afterwards."""

    evidence: np.ndarray
    seen: np.ndarray

    @classmethod
    def of(cls, counts: Counts, stable: Counts) -> Ours:
        """Look at the counts as the judge does: rings, design effect from stable's looks, a mean over windows."""
        ring, bursts, now = Ring(), Dispersion(), Tally()
        evidence, seen = [], []
        for (bad, more), (stable_bad, stable_more) in zip(counts, stable, strict=True):
            now = Tally(now.bad + bad, now.total + more, now.stable_bad + stable_bad, now.stable_total + stable_more)
            effect = design_effect(bursts, ring.per_look(now))
            evidence.append(prove_bad(Stream(now, ring, effect), ABORT, exp(-EAGER)).log_e)
            seen.append(now.total)
            if evidence[-1] > ENOUGH:
                break
            ring, bursts = ring.looked(now), bursts.seen(stable_bad, stable_more)
        return cls(np.array(evidence), np.array(seen))

    def aborts_after(self, threshold: float) -> float:
        """Give the requests until the evidence reaches `threshold` (ln E); infinity when it does not."""
        reached = np.flatnonzero(self.evidence >= threshold)
        return float(self.seen[reached[0]]) if len(reached) else inf


def drawn(random: Generator, share: float, per_look: int) -> Counts:
    """Draw the counts of a step."""
    totals = random.poisson(per_look, LOOKS)
    return list(zip(random.binomial(totals, share).tolist(), totals.tolist(), strict=True))


Played = dict[float, list[tuple[Counts, Ours]]]
"""By the share of bad requests, what each run counted, and our evidence on it."""


def _played(per_look: int, seed: int, runs: range) -> Played:
    played: Played = {share: [] for share in (SLO, *SHARES)}
    for run in runs:
        random = Generator(Philox(SeedSequence((seed, per_look, run))))
        for share, found in played.items():
            counts, stable = drawn(random, share, per_look), drawn(random, SLO / 2, per_look)
            found.append((counts, Ours.of(counts, stable)))
    return played


def frontier(per_look: int, *, runs: int, seed: int, jobs: int = 1, progress: Callable[[int], None] | None = None) -> list[str]:
    """Compare at so many requests a look; gives a table in Markdown."""
    chunks = [range(first, min(first + CHUNK, runs)) for first in range(0, runs, CHUNK)]
    streams: dict[float, list[Counts]] = {share: [] for share in (SLO, *SHARES)}
    ours: dict[float, list[Ours]] = {share: [] for share in (SLO, *SHARES)}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) if jobs > 1 else nullcontext() as pool:
        work = partial(_played, per_look, seed)
        for chunk, played in zip(chunks, map(work, chunks) if pool is None else pool.map(work, chunks), strict=True):
            for share, found in played.items():
                streams[share] += [counts for counts, _ in found]
                ours[share] += [one for _, one in found]
            if progress:
                progress(len(chunk))
    # Largest evidence that a run at slo ever has: a threshold just above the k-th largest gives k - 1 false aborts.
    worst = sorted((float(one.evidence.max()) for one in ours[SLO]), reverse=True)
    if worst[0] > ENOUGH:
        raise AssertionError(f"a healthy run has evidence of {worst[0]:.1f}: look on longer")
    default = -float(np.log(alphas(abort=0.99, advance=0.95, steps=5, soak=False).bad / 2))
    heads = " | ".join(f"{percent(share)} bad" for share in SHARES)
    rows = [f"| rule | false aborts at slo | {heads} | fewer requests |", f"|---|---|{'---|' * len(SHARES)}---|"]
    usual = [[one.aborts_after(default) for one in ours[share]] for share in SHARES]
    false = sum(value >= default for value in worst)
    rows.append(f"| ours, as it is by default | {percent(false / runs)} | {' | '.join(_told(some) for some in usual)} | |")
    for fewest in FEWEST:
        for in_a_row in IN_A_ROW:
            rival = Rival(in_a_row, fewest)
            aborts = sum(rival.aborts_after(counts) < inf for counts in streams[SLO])
            threshold = float(np.nextafter(worst[aborts], inf)) if aborts < runs else -inf
            theirs = [[rival.aborts_after(counts) for counts in streams[share]] for share in SHARES]
            mine = [[one.aborts_after(max(threshold, EAGER)) for one in ours[share]] for share in SHARES]
            false = sum(value >= max(threshold, EAGER) for value in worst)
            better = [_compared(a, b) for a, b in zip(mine, theirs, strict=True)]
            name = f"{in_a_row} in a row, {fewest} requests at least"
            rows.append(f"| {name} | {percent(aborts / runs)} | {' | '.join(_told(some) for some in theirs)} | |")
            rows.append(
                f"| ours at that rate | {percent(false / runs)} | {' | '.join(_told(some) for some in mine)} | {', '.join(better)} |"
            )
    return rows


def _told(requests: Sequence[float]) -> str:
    middle, most = (float(np.quantile(requests, share, method="inverted_cdf")) for share in (0.5, 0.95))
    return " ".join(f"{value:.0f}" if value < inf else "never" for value in (middle,)) + (f" ({most:.0f})" if most < inf else " (never)")


def _compared(mine: Sequence[float], theirs: Sequence[float]) -> str:
    a, b = (float(np.quantile(some, 0.5, method="inverted_cdf")) for some in (mine, theirs))
    return "ours" if a < b else "the same" if a == b else "theirs"
