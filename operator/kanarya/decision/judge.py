"""From counts to a verdict for each metric."""

from __future__ import annotations

from collections.abc import Mapping

from kanarya.api.rollout import Analysis
from kanarya.decision.counts import Attempts, Counts, Drift, Missing
from kanarya.decision.drift import judge_drift
from kanarya.decision.threshold import judge_rate
from kanarya.decision.verdict import METRICS, Kind, Metric, Verdict

FEWEST_COMPARED = 0.95
"""Share of mirrored requests that must have been compared for the match rate to mean anything."""

SETTLED_LOOKS, SETTLED_SECONDS = 4, 15.0
"""Looks, and seconds, after which silence counts as silence rather than as a scrape still to come."""

ALL = "*"
"""Key in `missing` for what affects every metric."""

Verdicts = Mapping[Metric, Verdict]


def settled(analysis: Analysis, elapsed: float) -> bool:
    """Whether a step is old enough for silence to mean something."""
    return elapsed > max(SETTLED_LOOKS * analysis.interval_seconds, SETTLED_SECONDS)


def judge(
    analysis: Analysis,
    counts: Counts,
    drift: Drift,
    missing: Mapping[str, Missing],
    *,
    elapsed: float,
    run_elapsed: float,
    settled: bool,
) -> dict[Metric, Verdict]:
    """Judge every metric of a step.

    Parameters
    ----------
    counts, drift
        Counts since the step began; drift counts since the run began.
    missing
        What telemetry could not see, by metric or `*`.
    elapsed, run_elapsed
        Seconds since the step, and the run, began.
    settled
        Whether the step is old enough for silence to mean something.
    """
    everywhere = missing.get(ALL)
    if everywhere is None and settled and counts.candidate.requests == 0:
        everywhere = Missing.NO_TRAFFIC if counts.stable.requests == 0 else Missing.NO_SERIES
    if everywhere is not None:
        return {metric: Verdict(Kind.NO_DATA, everywhere.value) for metric in METRICS}
    verdicts: dict[Metric, Verdict] = {
        "errors": _errors(analysis, counts, elapsed),
        "latency": _latency(analysis, counts, elapsed),
        "match": _match(analysis, counts, elapsed),
        "drift": judge_drift(analysis.drift, drift, min_samples=analysis.min_samples, elapsed=run_elapsed),
    }
    # What was counted before the silence still stands against the candidate: only a Bad survives missing data.
    for metric in METRICS:
        reason = missing.get(metric)
        if reason is not None and verdicts[metric].kind is not Kind.BAD:
            verdicts[metric] = Verdict(Kind.NO_DATA, reason.value)
    return verdicts


def _worse(pool: Verdict, live: Verdict) -> Verdict:
    """Bad is tested on the pool and on live alone; everything else is said of the pool."""
    return live if live.kind is Kind.BAD and pool.kind is not Kind.BAD else pool


def _errors(analysis: Analysis, counts: Counts, elapsed: float) -> Verdict:
    limits = analysis.errors

    def of(attempts: Attempts) -> Verdict:
        return judge_rate(
            bad=attempts.errors,
            bad_at_abort=attempts.errors,
            total=attempts.requests,
            slo=limits.slo,
            abort=limits.abort,
            need=analysis.min_samples,
            elapsed=elapsed,
            word="Errors",
        )

    return _worse(of(counts.candidate), of(counts.candidate_live))


def _latency(analysis: Analysis, counts: Counts, elapsed: float) -> Verdict:
    limits = analysis.latency
    share = round(1 - limits.quantile, 12)

    def of(attempts: Attempts) -> Verdict:
        return judge_rate(
            bad=attempts.slower.get(str(limits.slo_milliseconds), 0.0),
            bad_at_abort=attempts.slower.get(str(limits.abort_milliseconds), 0.0),
            total=attempts.requests,
            slo=share,
            abort=share,
            need=analysis.min_samples,
            elapsed=elapsed,
            word="Latency",
        )

    return _worse(of(counts.candidate), of(counts.candidate_live))


def _match(analysis: Analysis, counts: Counts, elapsed: float) -> Verdict:
    limits = analysis.match
    verdict = judge_rate(
        bad=counts.mismatched,
        bad_at_abort=counts.mismatched,
        total=counts.compared,
        slo=round(1 - limits.slo, 12),
        abort=round(1 - limits.abort, 12),
        need=analysis.min_samples,
        elapsed=elapsed,
        word="Mismatches",
    )
    if verdict.kind is not Kind.BAD and counts.attempted >= analysis.min_samples and counts.compared < FEWEST_COMPARED * counts.attempted:
        detail = f"only {counts.compared:.0f} of {counts.attempted:.0f} mirrored requests could be compared"
        return Verdict(Kind.NO_DATA, Missing.COMPARISONS_MISSING.value, have=counts.compared, need=counts.attempted, detail=detail)
    matched = None if verdict.estimate is None else round(1 - verdict.estimate, 12)
    return Verdict(
        verdict.kind,
        verdict.reason,
        matched,
        limits.slo,
        limits.abort,
        verdict.have,
        verdict.need,
        verdict.eta_seconds,
        verdict.detail,
    )
