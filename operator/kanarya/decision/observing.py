"""Adding up what was seen, and judging it."""

from __future__ import annotations

from kanarya.api.rollout import Analysis
from kanarya.decision.counts import Counts, Drift, Missing, add_bins
from kanarya.decision.draft import Draft
from kanarya.decision.judge import ALL, judge, settled
from kanarya.decision.state import Stage
from kanarya.decision.verdict import Kind, Metric

BLOCKING: tuple[Metric, ...] = ("errors", "latency", "match")
"""Metrics that must be Good for the weight to rise; drift has limits of its own."""


def observe(draft: Draft) -> None:
    """Add what was seen since the last look, and judge the step."""
    run, reading = draft.run, draft.world.reading
    if reading is not None and reading.history_lost:
        draft.notice("Warning", "HistoryLost", "Prometheus no longer has the samples since the last look: the step's counts begin again")
        reference = dict(reading.drift.reference)
        draft.update_run(counts=Counts(), watermark=reading.until, drift=Drift({}, reference), drift_watermark=reading.until)
        draft.record("HistoryLost", until=reading.until)
    elif reading is not None and reading.until > run.watermark:
        drift = Drift(add_bins(run.drift.current, reading.drift.current), dict(reading.drift.reference) or run.drift.reference)
        draft.update_run(counts=run.counts + reading.counts, watermark=reading.until, drift=drift, drift_watermark=reading.until)
    run, analysis = draft.run, analysis_of(draft)
    elapsed = draft.now - run.weight_since
    draft.verdicts = judge(
        analysis,
        run.counts,
        run.drift,
        draft.missing,
        elapsed=elapsed,
        run_elapsed=draft.now - run.drift_since,
        settled=settled(analysis, elapsed),
    )
    if run.sampled_since is None and run.counts.candidate.requests:
        draft.update_run(sampled_since=draft.now)
    within = any(draft.verdicts[metric].kind is Kind.WITHIN for metric in BLOCKING)
    draft.update_run(
        within_since=(run.within_since if run.within_since is not None else draft.now) if within else None,
        missing_since={policy: run.missing_since.get(policy, draft.now) for policy in missing_policies(draft)},
    )


def analysis_of(draft: Draft) -> Analysis:
    """Give what the run is judged by: what it latched, before that what the resource says."""
    return draft.run.spec.analysis if draft.run.spec else draft.spec.analysis


def missing_policies(draft: Draft) -> dict[str, str]:
    """Give, for each policy that applies now, the reason of the first metric without data.

    Preflight waits for data as long as it takes, except when the router has given up mirroring to a candidate that fails.
    """
    policies: dict[str, str] = {}
    preflight = draft.run.stage is Stage.PREFLIGHT
    for metric in BLOCKING:
        verdict = draft.verdicts[metric]
        if verdict.kind is Kind.NO_DATA and (not preflight or verdict.reason == Missing.MIRROR_BREAKER_OPEN.value):
            policies.setdefault(_policy_of(verdict.reason), verdict.reason)
    return policies


def _policy_of(reason: str) -> str:
    return {Missing.NO_TRAFFIC.value: "noTraffic", Missing.SOURCE_DOWN.value: "sourceDown"}.get(reason, "noSeries")


def fresh(draft: Draft) -> bool:
    """Whether this look's own samples are newer than the process and than the weight they are to speak for."""
    reading, run = draft.world.reading, draft.run
    if reading is None or reading.newest is None or ALL in reading.missing or reading.history_lost:
        return False
    return min(reading.newest, reading.until) > max(draft.world.started, run.weight_since)
