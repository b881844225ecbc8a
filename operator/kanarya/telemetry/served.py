"""Errors and latency of one rollout, counted from its model servers' own series. Pure.

A model server cannot tell mirrored requests from live ones: its counts are the pool of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from kanarya.decision.counts import Attempts, Counts, Missing
from kanarya.telemetry import counting
from kanarya.telemetry.latency import Histogram, Pairs, count_histograms
from kanarya.telemetry.look import Look
from kanarya.telemetry.native import NativeHistogram
from kanarya.telemetry.request import ReadRequest
from kanarya.telemetry.servers import UP, Outcome, ServerProfile
from kanarya.telemetry.snapshot import Snapshot, Target, target_of
from kanarya.telemetry.source import Series
from kanarya.telemetry.traffic import Traffic, gap_and_blank

_OF_THE_TARGET = frozenset({"namespace", "pod", "job", "instance", "le", "__name__"})
_NOTHING = NativeHistogram(0.0, ())

Key = tuple[str, str, Outcome, frozenset[tuple[str, str]]]
"""Track, pod, outcome, and all other labels of a series."""


@dataclass(frozen=True)
class Served:
    """Increments of one look by track; the edges used; the candidate's newest sample.

    `gap`: a pod lacks the sample to go on from; `blank`: no pod of either track has a sample in the span.
    """

    attempts: Mapping[str, Attempts]
    pairs: Pairs
    newest: float | None
    gap: bool
    blank: bool


def count_served(profile: ServerProfile, request: ReadRequest, snapshot: Snapshot, look: Look, *, called: bool) -> Served:
    """Count requests, errors and slow ones of both tracks; `called` tells whether ml-router has had answers from the candidate."""
    tracks = {"candidate": request.is_candidate, "stable": request.is_stable}
    pods = {
        (track, pod): series
        for pod, series in snapshot.of_namespace(request.namespace).items()
        for track, belongs in tracks.items()
        if belongs(pod)
    }
    histograms: dict[Key, Histogram] = {}
    for (track, pod), series in pods.items():
        scrapes = _scrapes(series)
        for one in series:
            outcome = profile.outcome(one.labels)
            if outcome is not None:
                own = frozenset((name, value) for name, value in one.labels.items() if name not in _OF_THE_TARGET)
                histogram = histograms.setdefault((track, pod, outcome, own), Histogram(profile.seconds))
                _add(histogram, one, scrapes.get(target_of(one.labels), ()), snapshot)
    newest = _check_presence(profile, [one for (track, _), some in pods.items() if track == "candidate" for one in some], look)
    if called and newest is not None and not any(track == "candidate" for track, *_ in histograms):
        _report(profile, Missing.NO_SERIES, f"The candidate's pods answer requests, and have no series of {profile.title}.", look)
    counted = count_histograms(histograms, request.thresholds_ms, look, f"The series of {profile.title}")
    sums = {"candidate": Attempts(), "stable": Attempts()}
    for (track, _, outcome, _), attempts in counted.attempts.items():
        sums[track] += replace(attempts, errors=attempts.requests) if outcome == "error" else attempts
    got = {pod: [_got(one) for one in some] for (_, pod), some in pods.items()}
    gap, blank = gap_and_blank(request.namespace, snapshot, got, look)
    return Served(sums, counted.pairs, newest, gap, blank)


def _got(one: Series) -> Series:
    """Leave out scrapes that failed: Prometheus writes a sample of `up` for those, too."""
    return replace(one, samples=tuple(sample for sample in one.samples if sample[1] == 1)) if one.labels.get("__name__") == UP else one


def _scrapes(series: Sequence[Series]) -> dict[Target, list[float]]:
    """Give the times at which each target of a pod was scraped."""
    times: dict[Target, list[float]] = {}
    for one in series:
        if one.labels.get("__name__") == UP:
            times.setdefault(target_of(one.labels), []).extend(at for at, _ in _got(one).samples)
    return {target: sorted(found) for target, found in times.items()}


def _add(histogram: Histogram, one: Series, scrapes: Sequence[float], snapshot: Snapshot) -> None:
    """Take a series. What a scrape just before its first sample did not show was not there: such a counter began at 0.

    Servers create the series of an outcome with its first request. Without this the first errors of a candidate would never count.
    """
    before = list(takewhile(lambda at: at < one.samples[0][0], scrapes))
    starts = snapshot.starts(one)
    if one.histograms:
        rows = [*((at, _NOTHING) for at in before[-1:]), *one.histograms]
        native = replace(one, samples=tuple((at, sample.count) for at, sample in rows), histograms=tuple(rows))
        histogram.add_native(native, starts)
    elif one.labels.get("__name__", "").endswith("_bucket"):
        histogram.add_bucket(one.labels.get("le", ""), [*((at, 0.0) for at in before[-1:]), *one.samples], starts)
    else:
        histogram.add_bucket("+Inf", [*((at, 0.0) for at in before[-1:]), *one.samples], starts)


def _check_presence(profile: ServerProfile, series: Sequence[Series], look: Look) -> float | None:
    """Give the time of the candidate's newest scrape. Its pods have no series of requests before the first one: that is no silence."""
    newest = counting.newest((_got(one).samples for one in series), look.now)
    if newest is None:
        _report(profile, Missing.NO_SERIES, f"Prometheus does not scrape the candidate's pods, from which {profile.title} is read.", look)
    elif newest < look.stale_before:
        sentence = f"The candidate's pods, from which {profile.title} is read, were last scraped {look.now - newest:.0f} s ago."
        _report(profile, Missing.STALE_SAMPLES, sentence, look)
    return newest


def _report(profile: ServerProfile, missing: Missing, sentence: str, look: Look) -> None:
    for check in sorted(profile.carries):
        look.findings.add(check, missing, sentence)


def combine(profile: ServerProfile, traffic: Traffic, served: Served) -> Counts:
    """Put together what the server tells and what ml-router measures.

    Attempts to which no answer came, which a server cannot know of, are added to its requests and errors.
    """
    counts = traffic.counts
    live, mirror = _combined(
        profile, counts.candidate_live, counts.candidate_mirror, served.attempts["candidate"], traffic.unanswered["candidate"]
    )
    _, stable = _combined(profile, Attempts(), counts.stable, served.attempts["stable"], traffic.unanswered["stable"])
    return replace(counts, candidate_live=live, candidate_mirror=mirror, stable=stable)


def _combined(profile: ServerProfile, live: Attempts, mirror: Attempts, server: Attempts, unanswered: float) -> tuple[Attempts, Attempts]:
    """Give live and mirrored attempts, with what the server counted, which is both, among the mirrored ones."""
    if "errors" in profile.carries:
        live, mirror = (
            replace(live, requests=0.0, errors=0.0, timed=live.timed_requests),
            replace(mirror, requests=server.requests + unanswered, errors=server.errors + unanswered, timed=mirror.timed_requests),
        )
    if "latency" in profile.carries:
        live, mirror = (
            replace(live, slower={}, slower_at_most={}, timed=0.0),
            replace(mirror, slower=server.slower, slower_at_most=server.slower_at_most, timed=server.requests),
        )
    return live, mirror
