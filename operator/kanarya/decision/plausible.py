"""Whether a checkpoint can be the operator's own work.

A checkpoint is an object that people can edit. One with the right types may still hold a weight that no plan has, a run without a
stable, or a time to come: a decision made from it would fail at every look, or go up on numbers that nobody saw. What cannot be our
own is not repaired but left aside as a whole; the rollout then begins again from what the cluster shows, at weight 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from kanarya.decision import evidence
from kanarya.decision.counts import Attempts, Counts, Drift
from kanarya.decision.state import MOST_LOOKS, SCHEMA_VERSION, Chain, Run, Stage, State
from kanarya.decision.statistics.windows import CAPACITY
from kanarya.decision.streams import BURSTS, CUSTOM, STREAMS

AHEAD_SECONDS = 300.0
"""How far the clock of the operator's last node may have been ahead of this one's."""
MOST = 2.0**53
"""No number of ours is larger: it could not be counted up by one."""
MOST_REQUESTS_A_SECOND = 100_000.0
SCRAPE_SECONDS = 300.0
"""Longest time between two scrapes: so much may be counted besides the span itself."""
MOST_REPLICAS = 10_000
MOST_ATTEMPTS = 1_000_000
YEAR_SECONDS = 31_536_000.0
"""The longest delay that a spec may ask for."""
ROUNDING = 1e-6

_REVISION = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_HASH = re.compile(r"[0-9a-f]{64}")
_REASON = re.compile(r"([A-Za-z][A-Za-z0-9]{0,63})?")

Problems = Iterator[str]


def implausible(state: State, now: float) -> str:
    """Give what shows that a checkpoint is not as the operator wrote it, a sentence without its full stop; empty when nothing does.

    Parameters
    ----------
    state
        The checkpoint, its types already checked.
    now
        Epoch seconds.
    """
    return next(_problems(state, now), "")


def _problems(state: State, now: float) -> Problems:
    yield from _odd_numbers(state.model_dump(exclude={"run": {"spec"}, "chain": {"outbox"}}), "")
    yield from _odd_marks(state, now)
    if state.run is not None:
        yield from _odd_run(state, state.run, now)
    if state.chain is not None:
        yield from _odd_chain(state.chain)


def _odd_numbers(value: Any, path: str) -> Problems:
    """Find numbers that are none, too large, or below 0; a run's step is -1 before the first."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _odd_numbers(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _odd_numbers(inner, path)
    elif isinstance(value, int | float):
        lowest = -1 if path == "run.step" else 0
        if not math.isfinite(value) or not lowest <= value <= MOST:
            yield f"{path} is no number that can stand there"


def _odd_marks(state: State, now: float) -> Problems:
    if state.schema_version != SCHEMA_VERSION:
        yield "schemaVersion is none that there has been"
    if state.replicas > MOST_REPLICAS or state.attempts > MOST_ATTEMPTS:
        yield "replicas or attempts are too many"
    named = [state.attempted, state.rejected, *state.retired, *([state.stable.revision] if state.stable else [])]
    named += [state.last_run, *(entry.run for entry in state.history)]
    if not all(not name or _REVISION.fullmatch(name) for name in named):
        yield "a revision or a run has a name that none can have"
    if state.stable is not None and not state.stable.revision:
        yield "stable has no revision"
    if not all(_REASON.fullmatch(entry.reason) for entry in state.history):
        yield "the history holds a reason that is none"
    if any(entry.finished > now + AHEAD_SECONDS for entry in state.history):
        yield "the history holds a time to come"
    due = [*state.retired.values(), *([state.scale_down_at] if state.scale_down_at is not None else [])]
    if any(at > now + AHEAD_SECONDS + YEAR_SECONDS for at in due):
        yield "retired or scaleDownAt is years ahead"


def _odd_run(state: State, run: Run, now: float) -> Problems:
    if state.stable is None:
        yield "there is a run and no stable"
    elif state.stable.revision == run.candidate.revision:
        yield "the candidate is stable already"
    if state.chain is None or state.chain.run != run.id:
        yield "the evidence is not that of the run"
    revision, _, attempt = run.id.rpartition("-")
    if revision != run.candidate.revision or not attempt.isdecimal() or not _REVISION.fullmatch(run.id):
        yield "run.id is not that of the candidate's revision"
    if not _REASON.fullmatch(run.reason):
        yield "run.reason is none"
    times = [run.started, run.weight_since, run.step_since, run.watermark, run.drift_since, run.drift_watermark, run.checked]
    times += [
        *run.missing_since.values(),
        run.proof_since,
        run.within_since or 0.0,
        run.unready_since or 0.0,
        run.sampled_since or 0.0,
        run.storm_since or 0.0,
        *(watch.until for watch in run.custom.values()),
        *(watch.beyond_since or 0.0 for watch in run.custom.values()),
    ]
    if max(times) > now + AHEAD_SECONDS:
        yield "the run holds a time to come"
    if min(run.weight_since, run.step_since, run.drift_since) < run.started - AHEAD_SECONDS:
        yield "a part of the run began before the run"
    if len(run.looks) > MOST_LOOKS:
        yield "the run has more looks than are kept"
    if run.stage is Stage.ROLLING_BACK and run.outcome is None:
        yield "a rollback has no outcome"
    yield from _odd_place(run)
    yield from _odd_counts(run.counts, _most(run.watermark - run.started))
    yield from _odd_windows(run)
    yield from _odd_drift(run.drift, _most(run.drift_watermark - run.started))


def _odd_place(run: Run) -> Problems:
    """Check stage, step and weight against the plan that the run keeps to."""
    if run.spec is None:
        if run.stage not in (Stage.PREFLIGHT, Stage.ROLLING_BACK) or run.step != -1 or run.weight:
            yield "the run has left Preflight without a spec"
        return
    steps = run.spec.plan.steps
    if run.step >= len(steps):
        yield "run.step is beyond the plan"
        return
    lowest = {Stage.STEPPING: 0, Stage.SOAKING: len(steps) - 1, Stage.PROMOTING: len(steps) - 1}.get(run.stage, -1)
    if run.step < lowest:
        yield "run.step is not one that run.stage can have"
    highest = steps[run.step].weight if run.step >= 0 and not run.observing else 0
    if run.weight > highest or (run.weight and run.stage in (Stage.PREFLIGHT, Stage.ROLLING_BACK)):
        yield "run.weight is more than the step has"


def _odd_counts(counts: Counts, most: float) -> Problems:
    tracks = (counts.candidate_live, counts.candidate_mirror, counts.stable)
    if max(counts.attempted, *(max(attempts.requests, attempts.timed_requests) for attempts in tracks)) > most:
        yield "run.counts has more requests than can be in that time"
    if counts.mismatched > _at_most(counts.compared) or counts.compared > _at_most(counts.attempted):
        yield "run.counts has more comparisons than requests"
    for attempts in tracks:
        yield from _odd_attempts(attempts)


def _odd_attempts(attempts: Attempts) -> Problems:
    slow = max(0.0, *attempts.slower.values(), *attempts.slower_at_most.values(), 0.0)
    if attempts.errors > _at_most(attempts.requests) or slow > _at_most(attempts.timed_requests):
        yield "run.counts has more bad requests than requests"
    if not all(threshold.isdecimal() and len(threshold) <= 6 for threshold in (*attempts.slower, *attempts.slower_at_most)):
        yield "run.counts has a latency that is none"


def _odd_windows(run: Run) -> Problems:
    if any(name not in STREAMS and not name.endswith(f"/{CUSTOM}") for name in run.rings) or not run.bursts.keys() <= set(BURSTS):
        yield "run.rings or run.bursts has a stream that is none"
    for ring in run.rings.values():
        numbers = [mark.number for mark in ring.marks]
        if len(numbers) > CAPACITY or any(later <= earlier for earlier, later in pairwise([0, *numbers, ring.opened + 1])):
            yield "run.rings has windows that cannot have been opened"
        if any(mark.total > _at_most(ring.seen) for mark in ring.marks):
            yield "run.rings has a window that begins after the last look"


def _odd_drift(drift: Drift, most: float) -> Problems:
    if any(count > most for bins in drift.current.values() for count in bins):
        yield "run.drift has more requests than can be in that time"
    shared = drift.current.keys() & drift.reference.keys()
    if any(len(drift.current[feature]) != len(drift.reference[feature]) for feature in shared):
        yield "run.drift has a feature whose bins are not those of its reference"


def _odd_chain(chain: Chain) -> Problems:
    if not _REVISION.fullmatch(chain.run) or not (not chain.head or _HASH.fullmatch(chain.head)):
        yield "chain names no run, or its head is no hash"
    first = chain.sequence - len(chain.outbox) + 1
    for sequence, entry in enumerate(chain.outbox, start=first):
        if entry.get("sequence") != sequence or entry.get("hash") != _hash(entry):
            yield "chain.outbox holds an entry that was changed"
    if chain.outbox and chain.outbox[-1].get("hash") != chain.head:
        yield "chain.outbox does not end at chain.head"


def _hash(entry: dict[str, Any]) -> str:
    try:
        return evidence.digest({key: value for key, value in entry.items() if key != "hash"})
    except (ValueError, TypeError, RecursionError):
        return "none: this is nothing that evidence could hold"


def _most(seconds: float) -> float:
    return (max(seconds, 0.0) + SCRAPE_SECONDS) * MOST_REQUESTS_A_SECOND


def _at_most(count: float) -> float:
    return count * (1 + ROUNDING) + ROUNDING
