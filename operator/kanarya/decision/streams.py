"""What method `Sequential` remembers besides counts: windows of each stream, and how bunched bad events are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kanarya.api.rollout import Analysis, Plan
from kanarya.decision.counts import Attempts, Counts
from kanarya.decision.statistics.dispersion import Dispersion, design_effect
from kanarya.decision.statistics.windows import Mark, Ring, Tally

STREAMS = ("errors/pool", "errors/live", "latency/pool", "latency/live", "match/pool")
"""All streams that are tested for Bad: metric and attempts."""
CUSTOM = "custom"
"""The part of a stream's name that follows the name of a ratio of the team's own. Its bursts are taken as assumed."""
MATCH_STAGE = "match/stage"
"""Key of the candidate's own bursts in the stage under way: they tell about its matches only from the next stage on."""
BURSTS = ("errors", "latency", "match", MATCH_STAGE)

Rings = Mapping[str, Ring]
Bursts = Mapping[str, Dispersion]


@dataclass(frozen=True)
class Basis:
    """What a stream's tests rest on besides its counts: the windows opened before this look, and the design effect."""

    ring: Ring = field(default_factory=Ring)
    effect: float = 1.0


Bases = Mapping[str, Basis]


def tallies(counts: Counts, analysis: Analysis) -> dict[str, Tally]:
    """Give the counts of each stream, bad against the abort limit."""
    slow, stable = analysis.latency.abort_milliseconds, counts.stable
    pool, live = counts.candidate, counts.candidate_live

    def errors(attempts: Attempts) -> Tally:
        return Tally(attempts.errors, attempts.requests, stable.errors, stable.requests)

    def latency(attempts: Attempts) -> Tally:
        return Tally(attempts.known_slower(slow), attempts.timed_requests, stable.known_slower(slow), stable.timed_requests)

    return {
        "errors/pool": errors(pool),
        "errors/live": errors(live),
        "latency/pool": latency(pool),
        "latency/live": latency(live),
        "match/pool": Tally(counts.mismatched, counts.compared),
        **{f"{name}/{CUSTOM}": Tally(min(bad, total), total) for name, (bad, total) in counts.custom.items()},
    }


def bases(rings: Rings, bursts: Bursts, counts: Counts, analysis: Analysis) -> dict[str, Basis]:
    """Give what the tests of this look rest on."""
    found: dict[str, Basis] = {}
    for stream, tally in tallies(counts, analysis).items():
        ring = rings.get(stream, Ring())
        known = bursts.get(stream.partition("/")[0], Dispersion())
        found[stream] = Basis(ring, design_effect(known, ring.per_look(tally)))
    return found


def looked(rings: Rings, counts: Counts, analysis: Analysis) -> dict[str, Ring]:
    """Give the windows after a look; only from the next one on do they count."""
    return {stream: rings.get(stream, Ring()).looked(tally) for stream, tally in tallies(counts, analysis).items()}


def learned(bursts: Bursts, seen: Counts, analysis: Analysis) -> dict[str, Dispersion]:
    """Give the bursts after a look that has `seen` these increments: stable's for errors and latency, the candidate's for match."""
    stable = seen.stable
    # Of those slower than abort stable has few, by which nobody sees how slow requests bunch.
    slow = stable.known_slower(analysis.latency.slo_milliseconds)
    news = {
        "errors": (stable.errors, stable.requests),
        "latency": (slow, stable.timed_requests),
        MATCH_STAGE: (seen.mismatched, seen.compared),
    }
    return {**bursts, **{key: bursts.get(key, Dispersion()).seen(*counted) for key, counted in news.items()}}


def next_stage(bursts: Bursts) -> dict[str, Dispersion]:
    """Give the bursts when the counts begin again: what the last stage showed of matches now tells about the next."""
    if MATCH_STAGE not in bursts:
        return dict(bursts)
    match = bursts.get("match", Dispersion()) + bursts[MATCH_STAGE]
    return {**{key: known for key, known in bursts.items() if key != MATCH_STAGE}, "match": match}


def bases_json(found: Bases, used: Mapping[str, Iterable[int]]) -> dict[str, Any]:
    """Give for evidence the design effect of each stream, and of its windows those that were `used`, by number."""
    return {
        stream: {"effect": basis.effect, "marks": [list(mark) for mark in basis.ring.only(frozenset(used.get(stream, ()))).marks]}
        for stream, basis in found.items()
    }


def bases_from_json(data: Mapping[str, Any]) -> dict[str, Basis]:
    """Read what `bases_json` wrote."""

    def marks(rows: Iterable[Any]) -> tuple[Mark, ...]:
        return tuple(Mark(int(number), *map(float, counts)) for number, *counts in rows)

    return {stream: Basis(Ring(marks=marks(item["marks"])), float(item["effect"])) for stream, item in data.items()}


def is_last(plan: Plan, stage: str, step: int) -> bool:
    """Whether no later stage looks again before promotion; `step` counts from 0."""
    return stage in ("Soaking", "Promoting") or (stage == "Stepping" and step == len(plan.steps) - 1 and not plan.soak_seconds)
