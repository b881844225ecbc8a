"""How many attempts were slower than a threshold, when the histogram may have no edge there. Pure.

Attempts slower than the next edge above are slower than the threshold for certain; those slower than the next edge below are all that
can be. What speaks against a candidate is counted the first way, what speaks for it the second: both err on the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from kanarya.decision.counts import Attempts, Missing
from kanarya.telemetry import counting
from kanarya.telemetry.counting import Joined, Samples, Starts
from kanarya.telemetry.look import Look
from kanarya.telemetry.native import NativeHistogram, around
from kanarya.telemetry.servers import ServerProfile
from kanarya.telemetry.source import Series

_SAME: Final = 1e-9
"""Relative distance within which an edge is at a threshold."""

Key = TypeVar("Key", bound=Hashable)

Pairs = dict[int, tuple[float | None, float | None]]
"""By threshold in milliseconds the edges used, below and above, in seconds; None where there is none on that side."""


@dataclass
class Histogram:
    """Everything that claims to be one histogram: classic buckets by upper edge in seconds, or native samples.

    `scale` is seconds in a unit of the exporter's.
    """

    scale: float = 1.0
    buckets: dict[float, list[tuple[Samples, Starts]]] = field(default_factory=dict)
    natives: list[tuple[Series, Starts]] = field(default_factory=list)

    def add_bucket(self, edge: str, samples: Samples, starts: Starts) -> None:
        """Take a series of a classic histogram, with its label `le`."""
        self.buckets.setdefault(_number(edge) * self.scale, []).append((samples, starts))

    def add_native(self, series: Series, starts: Starts) -> None:
        """Take a series of native samples. Where Prometheus keeps both forms the classic one is counted."""
        self.natives.append((series, starts))


@dataclass(frozen=True)
class Counted(Generic[Key]):
    """Attempts of each histogram, and for each threshold the edges used."""

    attempts: Mapping[Key, Attempts]
    pairs: Pairs


def count_histograms(histograms: Mapping[Key, Histogram], thresholds_ms: Sequence[int], look: Look, subject: str) -> Counted[Key]:
    """Count attempts, and those slower than each threshold; `errors` stays 0. All classic histograms are counted at the same edges."""
    joined = {key: _joined(histogram, look) for key, histogram in histograms.items() if math.inf in histogram.buckets}
    for buckets in joined.values():
        for edge, one in buckets.items():
            look.report(("errors", "latency") if edge == math.inf else ("latency",), one, subject)
    pairs = _pairs([counting.edges_of(buckets, look.span) for buckets in joined.values()], thresholds_ms)
    attempts = {key: _attempts(buckets, pairs, look) for key, buckets in joined.items()}
    for key, histogram in histograms.items():
        if histogram.natives and key not in joined:
            attempts[key] = _count_native(histogram, pairs, thresholds_ms, look, subject)
    return Counted(attempts, pairs)


def _joined(histogram: Histogram, look: Look) -> dict[float, Joined]:
    return {edge: counting.join(claims, look.span, look.now) for edge, claims in histogram.buckets.items() if not math.isnan(edge)}


def _pairs(known: Sequence[frozenset[float] | None], thresholds_ms: Sequence[int]) -> Pairs:
    """Choose edges that every histogram with samples has; None stands for one without."""
    edges = [one for one in known if one is not None]
    if not edges:
        return {threshold: (threshold / 1000, threshold / 1000) for threshold in thresholds_ms}
    common = sorted(frozenset.intersection(*edges))
    pairs: Pairs = {}
    for threshold in thresholds_ms:
        seconds = threshold / 1000
        below = [edge for edge in common if edge <= seconds * (1 + _SAME)]
        above = [edge for edge in common if edge >= seconds * (1 - _SAME)]
        pairs[threshold] = (below[-1] if below else None, above[0] if above else None)
    return pairs


def _attempts(buckets: Mapping[float, Joined], pairs: Pairs, look: Look) -> Attempts:
    edges = sorted({edge for pair in pairs.values() for edge in pair if edge is not None})
    (requests, *counts), _ = counting.attempts(buckets, edges, look.span)
    slower = dict(zip(edges, counts, strict=True))
    known = {str(threshold): 0.0 if above is None else slower[above] for threshold, (_, above) in pairs.items()}
    possible = {
        str(threshold): requests if below is None else slower[below] for threshold, (below, above) in pairs.items() if below != above
    }
    return Attempts(requests, 0.0, known, possible)


def _count_native(histogram: Histogram, pairs: Pairs, thresholds_ms: Sequence[int], look: Look, subject: str) -> Attempts:
    """Count as if there were buckets at the bounds next to each threshold, and widen `pairs` by them."""
    span, scale = look.span, histogram.scale
    used = [sample for series, _ in histogram.natives for at, sample in series.histograms if span.since < at <= span.until]
    own: Pairs = {}
    for threshold in thresholds_ms:
        left, right = (bound * scale for bound in around(used, threshold / 1000 / scale))
        own[threshold] = (left if left > 0 else None, right if math.isfinite(right) else None)
    edges = {edge for pair in own.values() for edge in pair if edge is not None}
    buckets = {math.inf: counting.join([(series.samples, starts) for series, starts in histogram.natives], span, look.now)}
    for edge in edges:
        claims = [(_bucket(series.histograms, edge / scale), starts) for series, starts in histogram.natives]
        buckets[edge] = counting.join(claims, span, look.now)
    look.report(("errors", "latency"), buckets[math.inf], subject)
    for threshold, (below, above) in own.items():
        pairs[threshold] = _wider(pairs[threshold], below, above)
    return _attempts(buckets, own, look)


def _bucket(samples: Sequence[tuple[float, NativeHistogram]], edge: float) -> list[tuple[float, float]]:
    return [(at, sample.within(edge)) for at, sample in samples]


def _wider(pair: tuple[float | None, float | None], below: float | None, above: float | None) -> tuple[float | None, float | None]:
    lower = None if pair[0] is None or below is None else min(pair[0], below)
    upper = None if pair[1] is None or above is None else max(pair[1], above)
    return lower, upper


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def between_edges(pairs: Pairs) -> dict[str, tuple[float, float]]:
    """Give, in milliseconds, the edges of thresholds (key: milliseconds) that have none of their own."""
    found = {}
    for threshold, (below, above) in pairs.items():
        if below is not None and above is not None and not math.isclose(below, above, rel_tol=4 * _SAME):
            found[str(threshold)] = (round(below * 1000, 6), round(above * 1000, 6))
    return found


def report_missing_edges(pairs: Pairs, profile: ServerProfile | None, look: Look) -> None:
    """Note thresholds that cannot be counted, with what to change; `profile` None stands for ml-router's histogram."""
    for threshold, (below, above) in pairs.items():
        if below is not None and above is not None:
            continue
        if profile is None:
            sentence = f"The routers' latency histogram has no bucket edge at {threshold} ms: they have not taken this rollout's settings."
        elif below is None and above is None:
            sentence = f"The latency histogram of {profile.title} has no bucket edge: use profile kanarya, which measures at ml-router."
        elif below is None:
            sentence = (
                f"The latency histogram of {profile.title} begins at {1000 * (above or 0):g} ms: raise the limit of {threshold} ms to "
                "at least that, or use profile kanarya, which measures at ml-router."
            )
        else:
            sentence = (
                f"The latency histogram of {profile.title} ends at {1000 * below:g} ms: lower the limit of {threshold} ms to "
                "at most that, or use profile kanarya, which measures at ml-router."
            )
        look.findings.add("latency", Missing.MISSING_EDGE, sentence)
