"""From counts to a verdict for each metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from kanarya.api.rollout import Analysis, Plan
from kanarya.decision import custom as team
from kanarya.decision import sequential
from kanarya.decision.counts import Attempts, Counts, Drift, Missing
from kanarya.decision.drift import judge_drift
from kanarya.decision.sequential import Alphas, Judgement, Limits, Stream, alphas
from kanarya.decision.statistics.anytime import complement
from kanarya.decision.streams import Bases, Basis, tallies
from kanarya.decision.threshold import judge_rate
from kanarya.decision.verdict import METRICS, Kind, Metric, Verdict

FEWEST_COMPARED = 0.95
"""Share of mirrored requests that must have been compared for the match rate to mean anything."""

SETTLED_LOOKS, SETTLED_SECONDS = 4, 15.0
"""Looks, and seconds, after which silence counts as silence rather than as a scrape still to come."""

ALL = "*"
"""Key in `missing` for what affects every metric."""


@dataclass(frozen=True)
class Standard:
    """What a stage is judged by: the analysis, the plan it is part of, and whether it is the last before promotion.

    `forecast`: whether verdicts say when there will be enough; thousands of simulated runs have nobody to read it.
    """

    analysis: Analysis
    plan: Plan = field(default_factory=Plan)
    last: bool = False
    forecast: bool = True

    @cached_property
    def alphas(self) -> Alphas:
        """Error probabilities of a metric in this stage."""
        confidence = self.analysis.confidence
        # Where no later stage looks again, to call a bad rate good is to promote it.
        advance = max(confidence.advance, confidence.abort) if self.last else confidence.advance
        steps, soak = len(self.plan.steps), self.plan.soak_seconds > 0
        return alphas(abort=confidence.abort, advance=advance, steps=steps, soak=soak, ratios=team.ratios(self.analysis))

    @cached_property
    def drift_alphas(self) -> Alphas | None:
        """Error probabilities of drift in the whole run; None where the PSI is compared as counted."""
        if self.analysis.method != "Sequential":
            return None
        return Alphas(complement(self.analysis.confidence.abort), self.alphas.good)


@dataclass(frozen=True)
class Judged:
    """A verdict for each metric; the windows that a test of Bad `used`, by stream; metrics whose Bad is put off as stable is bad too."""

    verdicts: dict[Metric, Verdict]
    used: Mapping[str, frozenset[int]]
    excused: tuple[Metric, ...] = ()


def settled(analysis: Analysis, elapsed: float) -> bool:
    """Whether a step is old enough for silence to mean something."""
    return elapsed > max(SETTLED_LOOKS * analysis.interval_seconds, SETTLED_SECONDS)


def judge(
    standard: Standard,
    counts: Counts,
    drift: Drift,
    missing: Mapping[str, Missing],
    *,
    elapsed: float,
    run_elapsed: float,
    settled: bool,
    bases: Bases | None = None,
    values: team.Values | None = None,
) -> Judged:
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
    bases
        By stream, what the tests of method `Sequential` rest on besides counts.
    values
        Values of the team's own metrics, by name.
    """
    analysis = standard.analysis
    everywhere = missing.get(ALL)
    if everywhere is None and settled and counts.candidate.requests == 0:
        everywhere = Missing.NO_TRAFFIC if counts.stable.requests == 0 else Missing.NO_SERIES
    if everywhere is not None:
        metrics = (*METRICS, *(metric.name for metric in analysis.metrics))
        return Judged({metric: Verdict(Kind.NO_DATA, everywhere.value) for metric in metrics}, {})
    if analysis.method == "Sequential":
        rates, used, excused = _sequential(standard, counts, bases or {}, elapsed)
    else:
        rates, used, excused = _threshold(analysis, counts, elapsed), {}, ()
    own, own_used = team.judge_custom(analysis, standard.alphas, counts, values=values or {}, bases=bases or {}, elapsed=elapsed)
    verdicts: dict[Metric, Verdict] = {
        **rates,
        "match": _as_match(analysis, counts, rates["match"]),
        "drift": judge_drift(
            analysis.drift,
            drift,
            min_samples=analysis.min_samples,
            elapsed=run_elapsed,
            alphas=standard.drift_alphas,
            forecast=standard.forecast,
        ),
        **own,
    }
    # What was counted before the silence still stands against the candidate: only a Bad survives missing data.
    for metric in (*METRICS, *own):
        reason = missing.get(metric)
        if reason is not None and verdicts[metric].kind is not Kind.BAD:
            verdicts[metric] = Verdict(Kind.NO_DATA, reason.value)
    return Judged(verdicts, used | own_used, excused)


def limits_of(analysis: Analysis) -> Mapping[Metric, Limits]:
    """Give the limits of each rate of bad events."""
    return _limits(analysis.errors.slo, analysis.errors.abort, analysis.latency.quantile, analysis.match.slo, analysis.match.abort)


@lru_cache(maxsize=64)
def _limits(errors_slo: float, errors_abort: float, quantile: float, match_slo: float, match_abort: float) -> Mapping[Metric, Limits]:
    slow = round(1 - quantile, 12)
    return {
        "errors": Limits(errors_slo, errors_abort, "Errors"),
        "latency": Limits(slow, slow, "Latency"),
        "match": Limits(round(1 - match_slo, 12), round(1 - match_abort, 12), "Mismatches"),
    }


def _sequential(
    standard: Standard, counts: Counts, bases: Bases, elapsed: float
) -> tuple[dict[Metric, Verdict], dict[str, frozenset[int]], tuple[Metric, ...]]:
    seen = tallies(counts, standard.analysis)

    def stream(name: str, said: str) -> Stream:
        basis = bases.get(name, Basis())
        return Stream(seen[name], basis.ring, basis.effect, said)

    latency, candidate = standard.analysis.latency, counts.candidate
    at_slo = {"latency": candidate.known_slower(latency.slo_milliseconds)}
    possible = (candidate.possibly_slower(latency.slo_milliseconds), candidate.possibly_slower(latency.abort_milliseconds))
    judgements: dict[Metric, Judgement] = {}
    used: dict[str, frozenset[int]] = {}
    for metric, limits in limits_of(standard.analysis).items():
        parts = {"pool": stream(f"{metric}/pool", "all attempts")}
        if metric != "match":
            parts["live"] = stream(f"{metric}/live", "live alone")
        found = sequential.judge_rate(
            parts["pool"],
            parts.get("live"),
            bad_at_slo=at_slo.get(metric, parts["pool"].now.bad),
            at_most=possible if metric == "latency" else None,
            limits=limits,
            alphas=standard.alphas,
            elapsed=elapsed,
            forecast=standard.forecast,
        )
        judgements[metric] = found
        used |= {f"{metric}/{part}": found.proofs[one.name].used for part, one in parts.items()}
    verdicts = {metric: found.verdict for metric, found in judgements.items()}
    return verdicts, used, tuple(metric for metric, found in judgements.items() if found.excused)


def _threshold(analysis: Analysis, counts: Counts, elapsed: float) -> dict[Metric, Verdict]:
    limits = limits_of(analysis)

    def rate(metric: Metric, bad: float, bad_at_abort: float, total: float, at_most: float | None = None) -> Verdict:
        known = limits[metric]
        return judge_rate(
            bad=bad,
            bad_at_abort=bad_at_abort,
            total=total,
            slo=known.slo,
            abort=known.abort,
            need=analysis.min_samples,
            elapsed=elapsed,
            word=known.word,
            at_most=at_most,
        )

    def errors(attempts: Attempts) -> Verdict:
        return rate("errors", attempts.errors, attempts.errors, attempts.requests)

    def latency(attempts: Attempts) -> Verdict:
        limits, possible = analysis.latency, attempts.possibly_slower(analysis.latency.slo_milliseconds)
        slow, very_slow = attempts.known_slower(limits.slo_milliseconds), attempts.known_slower(limits.abort_milliseconds)
        return rate("latency", slow, very_slow, attempts.timed_requests, possible)

    return {
        "errors": _worse(errors(counts.candidate), errors(counts.candidate_live)),
        "latency": _worse(latency(counts.candidate), latency(counts.candidate_live)),
        "match": rate("match", counts.mismatched, counts.mismatched, counts.compared),
    }


def _worse(pool: Verdict, live: Verdict) -> Verdict:
    """Bad is tested on the pool and on live alone; everything else is said of the pool."""
    return live if live.kind is Kind.BAD and pool.kind is not Kind.BAD else pool


def _as_match(analysis: Analysis, counts: Counts, mismatches: Verdict) -> Verdict:
    """Give a verdict on mismatches as one on matches; NoData when too few of the mirrored requests could be compared."""
    few = counts.attempted >= analysis.min_samples and counts.compared < FEWEST_COMPARED * counts.attempted
    if mismatches.kind is not Kind.BAD and few:
        detail = f"only {counts.compared:.0f} of {counts.attempted:.0f} mirrored requests could be compared"
        return Verdict(Kind.NO_DATA, Missing.COMPARISONS_MISSING.value, have=counts.compared, need=counts.attempted, detail=detail)
    matched = None if mismatches.estimate is None else round(1 - mismatches.estimate, 12)
    return replace(mismatches, estimate=matched, slo=analysis.match.slo, abort=analysis.match.abort)
