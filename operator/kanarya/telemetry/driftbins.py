"""Drift bins of one candidate, counted from its own pods' series. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kanarya.decision.counts import Bins, Drift, Missing
from kanarya.telemetry import counting, profile
from kanarya.telemetry.counting import Point
from kanarya.telemetry.look import Findings, Look
from kanarya.telemetry.request import ReadRequest
from kanarya.telemetry.snapshot import Snapshot
from kanarya.telemetry.source import Series
from kanarya.telemetry.traffic import Claims, gap_and_blank

Rows = Mapping[str, Mapping[str, float]]
"""Numbers by feature and bin."""


def count_drift(request: ReadRequest, snapshot: Snapshot, look: Look) -> tuple[Drift, bool]:
    """Count the bins in the look's span over all pods of the candidate, and read their reference.

    Also tells whether a pod lacks the sample from which to go on in this window.

    Features without a whole reference are left out and reported: half a histogram has another shape.
    """
    findings = look.findings
    claims: Claims = {}
    references: list[Series] = []
    latest: float | None = None
    pods = {pod: series for pod, series in snapshot.of_namespace(request.namespace).items() if request.is_candidate(pod)}
    for pod, series in pods.items():
        for one in series:
            if len(one.labels.get("feature", "")) > profile.MAX_FEATURE_NAME:
                findings.add("drift", Missing.NO_REFERENCE, f"A feature's name has more than {profile.MAX_FEATURE_NAME} characters.")
            elif one.labels.get("__name__") == profile.REFERENCE_BINS:
                references.append(one)
            elif one.labels.get("__name__") == profile.FEATURE_BINS:
                key = (pod, one.labels.get("feature", ""), one.labels.get("bin", ""))
                claims.setdefault(key, []).append((one.samples, snapshot.starts(one)))
                latest = max(latest or 0.0, counting.newest([one.samples], look.now) or 0.0)
    reference = _reference(references, look.stale_before, findings)
    if len(reference) > profile.MAX_FEATURES or len({feature for _, feature, _ in claims}) > profile.MAX_FEATURES:
        findings.add("drift", Missing.NO_REFERENCE, f"The candidate exposes more than {profile.MAX_FEATURES} features.")
        return Drift(), False
    if reference and latest is None:
        findings.add("drift", Missing.NO_SERIES, "Prometheus has no series of the candidate's feature bins.")
    elif reference and latest is not None and latest < look.stale_before:
        findings.add("drift", Missing.STALE_SAMPLES, f"The newest sample of the candidate's feature bins is {look.now - latest:.0f} s old.")
    current: dict[str, dict[str, float]] = {}
    for (_, feature, name), claimed in claims.items():
        joined = counting.join(claimed, look.span, look.now)
        look.report(("drift",), joined, "The series of feature bins")
        grown = sum(counting.increments([Point(at, (value,), started) for at, value, started in joined.samples], look.span))
        row = current.setdefault(feature, {})
        row[name] = row.get(name, 0.0) + grown
    whole = _whole(current, reference, findings) if reference else []
    drift = Drift(
        current={feature: _bins(current[feature]) for feature in whole}, reference={name: _bins(reference[name]) for name in whole}
    )
    gap, _ = gap_and_blank(request.namespace, snapshot, pods, look)
    return drift, gap


def _bins(row: Mapping[str, float]) -> Bins:
    return tuple(row[name] for name in profile.bins(len(row)))


def _reference(series: list[Series], oldest: float, findings: Findings) -> Rows:
    """Read the reference as exposed now; pods that disagree have none."""
    rows: dict[str, dict[str, float]] = {}
    for one in series:
        at, value = one.samples[-1]
        if at < oldest:
            continue
        if not counting.is_count(value):
            findings.add("drift", Missing.NOT_A_NUMBER, "The candidate's training reference holds a number that is no count.")
            continue
        row = rows.setdefault(one.labels.get("feature", ""), {})
        if row.setdefault(one.labels.get("bin", ""), value) != value:
            findings.add("drift", Missing.NO_REFERENCE, "The candidate's pods expose different training references.")
    if not rows:
        findings.add("drift", Missing.NO_REFERENCE, "The candidate exposes no training reference.")
    return rows


def _whole(current: Rows, reference: Rows, findings: Findings) -> list[str]:
    """Name the features whose counts and reference have the same bins, without a gap in their numbers."""
    whole = sorted(
        feature
        for feature in current.keys() & reference.keys()
        if current[feature].keys() == set(profile.bins(len(reference[feature]))) == reference[feature].keys()
    )
    if current and len(whole) < len(current.keys() | reference.keys()):
        findings.add("drift", Missing.NO_REFERENCE, "The candidate's feature bins and its training reference do not have the same bins.")
    return whole
