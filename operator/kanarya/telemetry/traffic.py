"""Errors, latency and match of one rollout, counted from its routers' series. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kanarya.decision.counts import Attempts, Counts, Missing
from kanarya.telemetry import counting, profile
from kanarya.telemetry.counting import LAG_SECONDS, Point, Samples, Starts
from kanarya.telemetry.latency import Histogram, Pairs, count_histograms
from kanarya.telemetry.look import ALL, Look
from kanarya.telemetry.request import ReadRequest
from kanarya.telemetry.snapshot import Snapshot
from kanarya.telemetry.source import Series

Claims = dict[tuple[str, ...], list[tuple[Samples, Starts]]]
"""Series by what they claim to be."""


@dataclass(frozen=True)
class Traffic:
    """Increments of one look.

    Attributes
    ----------
    pairs
        The edges at which slow attempts were counted.
    unanswered
        Attempts of each track to which no answer came.
    gap
        A router lacks the sample from which to go on in this window.
    blank
        No router has a sample in the span.
    """

    counts: Counts
    pairs: Pairs
    unanswered: Mapping[str, float]
    newest: float | None
    stable_newest: float | None
    newest_counted: float | None
    gap: bool
    blank: bool


def count_traffic(request: ReadRequest, snapshot: Snapshot, look: Look) -> Traffic:
    """Count the attempts and comparisons of a rollout in the span of the look."""
    routers: dict[str, list[Series]] = {}
    for one in snapshot.of_rollout(request.namespace, request.rollout):
        pod = one.labels.get("pod", "")
        if request.is_router(pod):
            routers.setdefault(pod, []).append(one)
    series = [one for some in routers.values() for one in some]
    samples = {track: [one.samples for one in _histogram(series, request, track)] for track in ("candidate", "stable")}
    newest = {track: counting.newest(some, look.now) for track, some in samples.items()}
    _check_presence(newest, look)
    counts, pairs, unanswered = _tally(request, snapshot, series, look)
    _check_breaker(request, series, look)
    gap, blank = gap_and_blank(request.namespace, snapshot, routers, look)
    newest_counted = counting.newest_counted(samples["candidate"], look.span)
    if newest_counted is not None and newest_counted < look.stale_before - LAG_SECONDS:
        newest_counted = None  # Prometheus has just come back: what there is since is not old enough to count
    return Traffic(counts, pairs, unanswered, newest["candidate"], newest["stable"], newest_counted, gap, blank)


def _histogram(series: Sequence[Series], request: ReadRequest, track: str) -> list[Series]:
    names = (profile.BUCKETS, profile.HISTOGRAM)
    return [one for one in series if one.labels["__name__"] in names and _is_track(one.labels, request, track)]


def _is_track(labels: Mapping[str, str], request: ReadRequest, track: str) -> bool:
    revision = request.candidate_revision if track == "candidate" else request.stable_revision
    return labels.get("track") == track and labels.get("revision") == revision


def _check_presence(newest: Mapping[str, float | None], look: Look) -> None:
    ours = newest["candidate"]
    if ours is None:
        others = "no series of stable either" if newest["stable"] is None else "series of stable are there"
        look.findings.add(ALL, Missing.NO_SERIES, f"Prometheus has no series of the candidate's requests ({others}).")
    elif ours < look.stale_before:
        look.findings.add(ALL, Missing.STALE_SAMPLES, f"The newest sample of the candidate's requests is {look.now - ours:.0f} s old.")


def _tally(request: ReadRequest, snapshot: Snapshot, series: Sequence[Series], look: Look) -> tuple[Counts, Pairs, dict[str, float]]:
    histograms: dict[tuple[str, ...], Histogram] = {}
    comparisons: Claims = {}
    for one in series:
        labels = one.labels
        track = labels.get("track", "")
        if not _is_track(labels, request, track) or labels.get("outcome") == profile.NOT_COUNTED:
            continue
        key = (labels.get("pod", ""), track, labels.get("exposure", ""), labels.get("outcome", ""))
        claim = (one.samples, snapshot.starts(one))
        if labels["__name__"] == profile.BUCKETS:
            histograms.setdefault(key, Histogram()).add_bucket(labels.get("le", ""), *claim)
        elif labels["__name__"] == profile.HISTOGRAM and one.histograms:
            histograms.setdefault(key, Histogram()).add_native(one, snapshot.starts(one))
        elif labels["__name__"] == profile.COMPARISONS and track == "candidate":
            comparisons.setdefault(key, []).append(claim)
    sums = {"live": Attempts(), "mirror": Attempts(), "stable": Attempts()}
    unanswered = {"candidate": 0.0, "stable": 0.0}
    counted = count_histograms(histograms, request.thresholds_ms, look, "The series of requests")
    for (_, track, exposure, outcome), attempts in counted.attempts.items():
        whose = "stable" if track == "stable" else "mirror" if exposure == "mirror" else "live"
        sums[whose] += replace(attempts, errors=attempts.requests) if outcome in profile.ERRORS else attempts
        if outcome in profile.UNANSWERED:
            unanswered[track] += attempts.requests
    attempted = compared = mismatched = 0.0
    for (_, _, _, outcome), claimed in comparisons.items():
        joined = counting.join(claimed, look.span, look.now)
        look.report(("match",), joined, "The series of comparisons")
        grown = sum(counting.increments([Point(at, (value,), started) for at, value, started in joined.samples], look.span))
        attempted += grown if outcome != profile.REFUSED else 0.0
        compared += grown if outcome in profile.COMPARED else 0.0
        mismatched += grown if outcome == profile.MISMATCHED else 0.0
    if not comparisons:
        look.findings.add("match", Missing.NO_SERIES, "Prometheus has no series of comparisons of the candidate.")
    return Counts(sums["live"], sums["mirror"], sums["stable"], attempted, compared, mismatched), counted.pairs, unanswered


def _check_breaker(request: ReadRequest, series: Sequence[Series], look: Look) -> None:
    for one in series:
        if one.labels["__name__"] != profile.BREAKER or not _is_track(one.labels, request, one.labels.get("track", "")):
            continue
        at, value = one.samples[-1]
        if at >= look.stale_before and value != 0:
            look.findings.add("match", Missing.MIRROR_BREAKER_OPEN, f"A router has suspended mirroring to {one.labels['track']}.")


def gap_and_blank(namespace: str, snapshot: Snapshot, pods: Mapping[str, Sequence[Series]], look: Look) -> tuple[bool, bool]:
    """Tell whether a pod that is still scraped lacks the sample from which the span goes on, and whether none has a sample in the span.

    `pods` holds, by name, all series of each pod that count.
    """
    gap, blank = False, True
    for pod, series in pods.items():
        times = sorted({at for one in series for at, _ in one.samples}.union(snapshot.scrapes(namespace, pod)))
        first = next((at for at in times if look.span.watermark < at <= look.span.until), None)
        if first is not None:
            blank = False
            started = next((found for one in series if (found := snapshot.starts(one).believed(one.samples, first)) is not None), None)
            gap = gap or counting.gap(times, started, look.span, look.horizon)
    return gap, blank
