"""Metrics of the team's own: a ratio of two counters, judged as errors are, or a value, judged by how long it stays beyond its limit.

A value is one number at each look, so there is no evidence to add up: it is Bad once it has been beyond abort at every look for
`abortForSeconds`, and Good when this look has it within slo. Less is better when slo is below abort, more is better otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kanarya.api.rollout import Analysis, CustomMetric
from kanarya.decision import sequential, threshold
from kanarya.decision.counts import Counts, Reading
from kanarya.decision.sequential import Alphas, Limits, Stream
from kanarya.decision.statistics.windows import Tally
from kanarya.decision.streams import CUSTOM, Bases, Basis
from kanarya.decision.verdict import Kind, Metric, Verdict

ABORT_FOR_SECONDS = 30
"""How long a value must stay beyond abort, unless the metric says otherwise: a single look may be a blip."""


@dataclass(frozen=True)
class Watch:
    """What a run remembers of one metric: up to when it is counted, and since when its value is beyond abort (epoch seconds)."""

    until: float
    beyond_since: float | None = None

    def not_after(self, now: float) -> Watch:
        """Give it for a clock that was set back to `now`."""
        return Watch(min(self.until, now), None if self.beyond_since is None else min(self.beyond_since, now))


@dataclass(frozen=True)
class Value:
    """What a verdict on a value rests on.

    Attributes
    ----------
    value
        The number.
    after
        Seconds from the last change of weight to the oldest sample that may be behind it; below 0 when it is from before.
    beyond
        Seconds for which it has been beyond abort at every look, None when it is not.
    """

    value: float
    after: float
    beyond: float | None = None


Values = Mapping[str, Value]


def blocking(analysis: Analysis) -> tuple[Metric, ...]:
    """Name the metrics of the team's own that must be Good for the weight to rise, and end the run when they are Bad."""
    return tuple(metric.name for metric in analysis.metrics if metric.action == "Abort")


def ratios(analysis: Analysis) -> int:
    """Count the ratios: each takes its share of the run's error probability."""
    return sum(1 for metric in analysis.metrics if metric.bad is not None)


def watched(watches: Mapping[str, Watch], reading: Reading, analysis: Analysis, weight_since: float) -> dict[str, Watch]:
    """Give what to remember after a look; a metric that could not be seen keeps what it had."""
    found = dict(watches)
    for metric in analysis.metrics:
        sight, before = reading.custom.get(metric.name), watches.get(metric.name)
        if sight is None:
            continue
        beyond = None
        if sight.value is not None and sight.oldest > weight_since and _worse(metric, sight.value, metric.abort):
            beyond = sight.until if before is None or before.beyond_since is None else min(before.beyond_since, sight.until)
        found[metric.name] = Watch(sight.until, beyond)
    return found


def counted(watches: Mapping[str, Watch], reading: Reading, since: float) -> Counts:
    """Give the ratios' increments of a look that go beyond what is counted already."""
    return Counts(
        custom={
            name: (sight.bad, sight.total)
            for name, sight in reading.custom.items()
            if sight.value is None and sight.until > max(since, watches[name].until if name in watches else since)
        }
    )


def values_of(watches: Mapping[str, Watch], reading: Reading | None, weight_since: float) -> dict[str, Value]:
    """Give the values of a look, by metric; `watches` are those after it."""
    found = {}
    for name, sight in ({} if reading is None else reading.custom).items():
        if sight.value is not None:
            since = watches[name].beyond_since if name in watches else None
            found[name] = Value(sight.value, sight.oldest - weight_since, None if since is None else sight.until - since)
    return found


def judge_custom(
    analysis: Analysis, alphas: Alphas, counts: Counts, *, values: Values, bases: Bases, elapsed: float
) -> tuple[dict[Metric, Verdict], dict[str, frozenset[int]]]:
    """Judge every metric of the team's own; gives verdicts, and by stream the windows that a test of Bad used."""
    verdicts: dict[Metric, Verdict] = {}
    used: dict[str, frozenset[int]] = {}
    for metric in analysis.metrics:
        if metric.bad is None:
            verdicts[metric.name] = _judge_value(metric, values.get(metric.name))
            continue
        bad, total = counts.custom.get(metric.name, (0.0, 0.0))
        bad = min(bad, total)
        if analysis.method == "Sequential":
            stream = f"{metric.name}/{CUSTOM}"
            basis = bases.get(stream, Basis())
            pool = Stream(Tally(bad, total), basis.ring, basis.effect, "all events")
            limits = Limits(metric.slo, metric.abort, "Ratio")
            found = sequential.judge_rate(pool, None, bad_at_slo=bad, limits=limits, alphas=alphas, elapsed=elapsed)
            verdicts[metric.name] = found.verdict
            used[stream] = frozenset(span.number for span in found.proofs[pool.name].spans)
        else:
            verdicts[metric.name] = threshold.judge_rate(
                bad=bad,
                bad_at_abort=bad,
                total=total,
                slo=metric.slo,
                abort=metric.abort,
                need=analysis.min_samples,
                elapsed=elapsed,
                word="Ratio",
            )
    return verdicts, used


def _judge_value(metric: CustomMetric, seen: Value | None) -> Verdict:
    if seen is None:
        return Verdict(Kind.NO_DATA, "NoSeries", slo=metric.slo, abort=metric.abort)

    def verdict(kind: Kind, reason: str, detail: str = "") -> Verdict:
        return Verdict(kind, reason, seen.value, metric.slo, metric.abort, 1, 1, detail=detail)

    if seen.after <= 0:
        return verdict(Kind.INSUFFICIENT, "ValueTooOld", f"it may rest on samples from before this weight; {-seen.after:.0f} s to go")
    if _worse(metric, seen.value, metric.abort):
        held, wanted = seen.beyond or 0.0, ABORT_FOR_SECONDS if metric.abort_for_seconds is None else metric.abort_for_seconds
        said = f"{seen.value:.6g}, beyond abort {metric.abort:.6g} for {held:.0f} s"
        if held >= wanted:
            return verdict(Kind.BAD, "ValueBeyondAbort", said)
        return verdict(Kind.WITHIN, "AbortNotHeld", f"{said} of {wanted} s")
    if _worse(metric, seen.value, metric.slo):
        return verdict(Kind.WITHIN, "ValueBeyondSlo", f"{seen.value:.6g}, slo {metric.slo:.6g}")
    return verdict(Kind.GOOD, "ValueWithinSlo")


def _worse(metric: CustomMetric, value: float, limit: float) -> bool:
    return value > limit if metric.slo < metric.abort else value < limit


def values_json(values: Values) -> dict[str, Any]:
    """Give the JSON form of values, for evidence."""
    return {
        name: {"value": seen.value, "after": seen.after, **({} if seen.beyond is None else {"beyond": seen.beyond})}
        for name, seen in sorted(values.items())
    }


def values_from_json(data: Mapping[str, Any]) -> dict[str, Value]:
    """Read what `values_json` wrote."""
    return {
        name: Value(float(item["value"]), float(item["after"]), float(item["beyond"]) if "beyond" in item else None)
        for name, item in data.items()
    }
