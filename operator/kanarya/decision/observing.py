"""Adding up what was seen, and judging it."""

from __future__ import annotations

from kanarya.api.rollout import Analysis
from kanarya.decision.counts import Counts, Drift, Missing, Reading, add_bins
from kanarya.decision.custom import blocking, counted, values_of, watched
from kanarya.decision.draft import Draft
from kanarya.decision.judge import ALL, Standard, judge, settled
from kanarya.decision.state import MOST_LOOKS, Run, Stage
from kanarya.decision.streams import bases, is_last, learned, looked
from kanarya.decision.verdict import Kind, Metric

BLOCKING: tuple[Metric, ...] = ("errors", "latency", "match")
"""Metrics that must be Good for the weight to rise; drift has limits of its own."""


def observe(draft: Draft) -> None:
    """Add what was seen since the last look, and judge the step."""
    run, reading = draft.run, draft.world.reading
    left_open = reading is not None and _left_open(run, reading)
    if reading is not None and reading.history_lost:
        draft.notice("Warning", "HistoryLost", "Prometheus no longer has the samples since the last look: the step's counts begin again")
        reference = dict(reading.drift.reference)
        draft.update_run(**run.anew(), watermark=reading.until, drift=Drift({}, reference), drift_watermark=reading.until)
        draft.record("HistoryLost", until=reading.until)
    elif reading is not None and reading.until > run.watermark and not left_open:
        drift = Drift(add_bins(run.drift.current, reading.drift.current), dict(reading.drift.reference) or run.drift.reference)
        draft.update_run(counts=run.counts + reading.counts, watermark=reading.until, drift=drift, drift_watermark=reading.until)
    if reading is not None and draft.state.chain is not None:
        draft.update_run(looks=(*run.looks, (draft.now, reading.until))[-MOST_LOOKS:])
    if reading is not None and reading.custom and not reading.history_lost:
        before = draft.run
        counts = before.counts + counted(before.custom, reading, before.weight_since)
        draft.update_run(counts=counts, custom=watched(before.custom, reading, analysis_of(draft), before.weight_since))
    _judge(draft)
    if reading is not None and not reading.history_lost and reading.until > run.watermark:
        _remember(draft, Counts() if left_open else reading.counts)
    run = draft.run
    if run.sampled_since is None and run.counts.candidate.requests:
        draft.update_run(sampled_since=draft.now)
    within = any(draft.verdicts[metric].kind is Kind.WITHIN for metric in judged_of(draft))
    missing_since = {policy: run.missing_since.get(policy, draft.now) for policy in missing_policies(draft)}
    draft.update_run(
        within_since=(run.within_since if run.within_since is not None else draft.now) if within else None,
        missing_since=run.missing_since if run.missing_since == missing_since else missing_since,
    )


def _left_open(run: Run, reading: Reading) -> bool:
    """Whether an answer that shows nothing new may only be short of what Prometheus has, so that the next look must not pass over it.

    Where no sample of the candidate was counted yet, nothing is passed over: a run may wait for its first one as long as it takes.
    """
    return reading.blank and (run.stage is not Stage.PREFLIGHT or run.sampled_since is not None)


def _judge(draft: Draft) -> None:
    run, standard = draft.run, standard_of(draft)
    elapsed = draft.now - run.counting_since
    if standard.analysis.method == "Sequential":
        draft.bases = bases(run.rings, run.bursts, run.counts, standard.analysis)
    draft.values = values_of(run.custom, draft.world.reading, run.weight_since)
    draft.judged = judge(
        standard,
        run.counts,
        run.drift,
        draft.missing,
        elapsed=elapsed,
        run_elapsed=draft.now - run.drift_since,
        settled=settled(standard.analysis, elapsed),
        bases=draft.bases,
        values=draft.values,
    )
    since = run.storm_since if run.storm_since is not None else draft.now
    draft.update_run(storm_since=since if set(draft.judged.excused).intersection(judged_of(draft)) else None)


def _remember(draft: Draft, seen: Counts) -> None:
    """Open windows, and learn of bursts, for the looks to come: nothing vouches for itself."""
    run, analysis = draft.run, analysis_of(draft)
    if analysis.method == "Sequential":
        draft.update_run(rings=looked(run.rings, run.counts, analysis), bursts=learned(run.bursts, seen, analysis))


def standard_of(draft: Draft) -> Standard:
    """Give what the stage under way is judged by."""
    run, plan = draft.run, (draft.run.spec or draft.spec).plan
    return Standard(analysis_of(draft), plan, is_last(plan, run.stage.value, run.step), draft.world.forecast)


def analysis_of(draft: Draft) -> Analysis:
    """Give what the run is judged by: what it latched, before that what the resource says."""
    return draft.run.spec.analysis if draft.run.spec else draft.spec.analysis


def blocking_of(draft: Draft) -> tuple[Metric, ...]:
    """Name the metrics that must be Good for the weight to rise, and end the run when they are Bad."""
    return (*BLOCKING, *blocking(analysis_of(draft)))


def judged_of(draft: Draft) -> tuple[Metric, ...]:
    """Name those of `blocking_of` that the present stage goes by: pods that have just started are slow, so only the steps judge latency."""
    preflight = draft.run.stage is Stage.PREFLIGHT
    return tuple(metric for metric in blocking_of(draft) if not (preflight and metric == "latency"))


def missing_policies(draft: Draft) -> dict[str, str]:
    """Give, for each policy that applies now, the reason of the first metric without data.

    Preflight waits for data as long as it takes, except when the router has given up mirroring to a candidate that fails.
    """
    policies: dict[str, str] = {}
    preflight = draft.run.stage is Stage.PREFLIGHT
    for metric in blocking_of(draft):
        verdict = draft.verdicts[metric]
        if verdict.kind is Kind.NO_DATA and (not preflight or verdict.reason == Missing.MIRROR_BREAKER_OPEN.value):
            policies.setdefault(_policy_of(verdict.reason), verdict.reason)
    return policies


def _policy_of(reason: str) -> str:
    return {Missing.NO_TRAFFIC.value: "noTraffic", Missing.SOURCE_DOWN.value: "sourceDown"}.get(reason, "noSeries")


def fresh(draft: Draft) -> bool:
    """Whether the samples that this look goes by are newer than the process and than the weight they are to speak for."""
    reading, run = draft.world.reading, draft.run
    if reading is None or reading.newest_counted is None or ALL in reading.missing or reading.history_lost:
        return False
    if reading.newest_counted <= max(run.proof_since, draft.state.doubted_until):
        return False
    return reading.newest_counted > max(draft.world.started, run.weight_since)
