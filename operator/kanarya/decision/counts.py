"""Counts: what was observed of both tracks, as numbers of events.

Everything a decision uses is a count. Counts add up, survive a restart as a few numbers, and can be checked by hand. The JSON form
is the same in the checkpoint, in evidence and on the command line::

    {"candidate": {"live": {"requests": 900, "errors": 4, "slower": {"80": 30, "120": 2}}, "mirror": {…},
                   "attempted": 17000, "compared": 16950, "mismatched": 210},
     "stable": {"requests": 17100, "errors": 70, "slower": {"80": 500, "120": 31}},
     "drift": {"spread_bp": {"reference": […], "current": […]}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kanarya.decision.offline import Reports


class Missing(StrEnum):
    """Why a metric has no data. Silence is never success."""

    NO_TRAFFIC = "NoTraffic"
    """Neither track answered a request."""
    NO_SERIES = "NoSeries"
    """Stable has traffic, the candidate shows nothing."""
    SOURCE_DOWN = "SourceDown"
    """Prometheus does not answer, or not with something we can read."""
    STALE_SAMPLES = "StaleSamples"
    """The newest sample is too old to say anything about now."""
    NOT_A_NUMBER = "NotANumber"
    """A sample is NaN, infinite or negative."""
    DUPLICATE_SERIES = "DuplicateSeries"
    """Two series claim to be the same thing."""
    MISSING_EDGE = "MissingEdge"
    """The latency histogram has no bucket edge on the safe side of a threshold."""
    MIRROR_BREAKER_OPEN = "MirrorBreakerOpen"
    """The router has suspended mirroring."""
    COMPARISONS_MISSING = "ComparisonsMissing"
    """Fewer than 95 % of the mirrored requests could be compared."""
    SEVERAL_SERIES = "SeveralSeries"
    """A query of the team's own gave several numbers where one was meant."""
    QUERY_REFUSED = "QueryRefused"
    """A query of the team's own was not answered, or must not be asked."""
    NO_REFERENCE = "NoReference"
    """The candidate exposes no training reference for drift."""


@dataclass(frozen=True)
class Attempts:
    """Attempts on one track: how many, how many failed, how many took longer than each threshold (key: milliseconds).

    Attributes
    ----------
    slower
        Attempts known to be slower than each threshold. Where the histogram has no edge there, those slower than the next edge above.
    slower_at_most
        Attempts that may be slower: those slower than the next edge below. A threshold that has an edge is not in here.
    timed
        Attempts whose duration was measured, when they are counted elsewhere than `requests`; None: the same.
    """

    requests: float = 0.0
    errors: float = 0.0
    slower: Mapping[str, float] = field(default_factory=dict)
    slower_at_most: Mapping[str, float] = field(default_factory=dict)
    timed: float | None = None

    @property
    def timed_requests(self) -> float:
        """Attempts among which slow ones were counted."""
        return self.requests if self.timed is None else self.timed

    def known_slower(self, milliseconds: int) -> float:
        """Give the attempts that were slower for certain: what may be held against a candidate."""
        return self.slower.get(str(milliseconds), 0.0)

    def possibly_slower(self, milliseconds: int) -> float:
        """Give the attempts that were slower for all one knows: what has to be few for a candidate to be good."""
        key = str(milliseconds)
        return max(self.slower_at_most.get(key, 0.0), self.slower.get(key, 0.0))

    def __add__(self, other: Attempts) -> Attempts:
        same = self.slower.keys() == other.slower.keys()
        keys = list(self.slower) if same else sorted({*self.slower, *other.slower}, key=float)
        loose = sorted({*self.slower_at_most, *other.slower_at_most}, key=float)
        apart = self.timed is not None or other.timed is not None
        return Attempts(
            self.requests + other.requests,
            self.errors + other.errors,
            {key: self.slower.get(key, 0.0) + other.slower.get(key, 0.0) for key in keys},
            {key: self.possibly_slower(int(key)) + other.possibly_slower(int(key)) for key in loose},
            self.timed_requests + other.timed_requests if apart else None,
        )


@dataclass(frozen=True)
class Counts:
    """Counts of one span of time (a step, or between two looks).

    `candidate_live` and `candidate_mirror` are the candidate's attempts by exposure, `stable` all of stable's. `attempted` requests
    were chosen for mirroring, `compared` of them gave two scores, `mismatched` of those differed by more than the tolerance. `custom` has
    (bad, total) of each ratio of the team's own, by its name.
    """

    candidate_live: Attempts = field(default_factory=Attempts)
    candidate_mirror: Attempts = field(default_factory=Attempts)
    stable: Attempts = field(default_factory=Attempts)
    attempted: float = 0.0
    compared: float = 0.0
    mismatched: float = 0.0
    custom: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def candidate(self) -> Attempts:
        """Live and mirrored attempts of the candidate, pooled."""
        return self.candidate_live + self.candidate_mirror

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.candidate_live + other.candidate_live,
            self.candidate_mirror + other.candidate_mirror,
            self.stable + other.stable,
            self.attempted + other.attempted,
            self.compared + other.compared,
            self.mismatched + other.mismatched,
            {name: _sum(self.custom.get(name), other.custom.get(name)) for name in sorted({*self.custom, *other.custom})},
        )


def _sum(left: tuple[float, float] | None, right: tuple[float, float] | None) -> tuple[float, float]:
    (bad, total), (more_bad, more) = left or (0.0, 0.0), right or (0.0, 0.0)
    return bad + more_bad, total + more


Bins = tuple[float, ...]
"""Counts per bin of one feature: ten reference deciles, then missing."""


@dataclass(frozen=True)
class Drift:
    """Per feature, the candidate's own counts over the whole run and its training reference (same bins, same order)."""

    current: Mapping[str, Bins] = field(default_factory=dict)
    reference: Mapping[str, Bins] = field(default_factory=dict)


@dataclass(frozen=True)
class Sight:
    """One look at one metric of the team's own, at `until` (epoch seconds).

    A value has `value` and `oldest`, the earliest time of a sample that may be behind it; a ratio has increments since the watermark.
    """

    until: float
    value: float | None = None
    oldest: float = 0.0
    bad: float = 0.0
    total: float = 0.0


@dataclass(frozen=True)
class Reading:
    """One look at Prometheus for one rollout.

    Attributes
    ----------
    until
        Samples up to this time (epoch seconds) are counted; the next look goes on from here, unless this one is `blank`.
    counts
        Increments since the watermark of the request.
    drift
        `current`: increments since the drift watermark; `reference`: as exposed now.
    newest
        Time stamp of the newest sample of the candidate's series, None when there is none.
    stable_newest
        The same for stable.
    missing
        What keeps a metric from being judged, by metric (`errors`, `latency`, `match`, `drift`); with the key `*` for all of them.
    detail
        One sentence for people about the worst of `missing`; empty when nothing is missing.
    history_lost
        The source's samples do not reach back to the watermark, or not without a gap: the span's counts must begin again.
    blank
        The answer holds no sample since the watermark, of nobody: there may be some, so the next look begins where this one did.
    newest_counted
        Time stamp of the newest sample of the candidate's series that this reading counts, None when there is none or it is stale.
    custom
        Metrics of the team's own that could be seen, by name; those that could not are in `missing`.
    """

    until: float
    counts: Counts = field(default_factory=Counts)
    drift: Drift = field(default_factory=Drift)
    newest: float | None = None
    stable_newest: float | None = None
    missing: Mapping[str, Missing] = field(default_factory=dict)
    detail: str = ""
    history_lost: bool = False
    blank: bool = False
    newest_counted: float | None = None
    edges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """For each latency threshold without an edge (key: milliseconds) the edges used instead: below, above, in milliseconds."""
    queries: tuple[str, ...] = ()
    """What Prometheus was asked for this rollout; what is asked for several at once names them all."""
    notes: tuple[str, ...] = ()
    """Sentences on how the profile measures what its server does not tell."""
    custom: Mapping[str, Sight] = field(default_factory=dict)
    reports: Reports = field(default_factory=dict)
    """What the candidate's pods say of their model's offline report, where Preflight asks for one."""


def attempts_json(attempts: Attempts) -> dict[str, Any]:
    """Give the JSON form of one track's attempts."""
    data: dict[str, Any] = {"requests": attempts.requests, "errors": attempts.errors, "slower": dict(attempts.slower)}
    if attempts.slower_at_most:
        data["slowerAtMost"] = dict(attempts.slower_at_most)
    if attempts.timed is not None:
        data["timed"] = attempts.timed
    return data


def attempts_from_json(data: Mapping[str, Any]) -> Attempts:
    """Read what `attempts_json` wrote."""
    return Attempts(
        float(data.get("requests", 0)),
        float(data.get("errors", 0)),
        {str(key): float(value) for key, value in data.get("slower", {}).items()},
        {str(key): float(value) for key, value in data.get("slowerAtMost", {}).items()},
        float(data["timed"]) if "timed" in data else None,
    )


def counts_json(counts: Counts) -> dict[str, Any]:
    """Give the JSON form described at the top of this module."""
    return {
        "candidate": {
            "live": attempts_json(counts.candidate_live),
            "mirror": attempts_json(counts.candidate_mirror),
            "attempted": counts.attempted,
            "compared": counts.compared,
            "mismatched": counts.mismatched,
        },
        "stable": attempts_json(counts.stable),
        **({"custom": {name: list(pair) for name, pair in sorted(counts.custom.items())}} if counts.custom else {}),
    }


def counts_from_json(data: Mapping[str, Any]) -> Counts:
    """Read what `counts_json` wrote."""
    candidate = data.get("candidate", {})
    return Counts(
        attempts_from_json(candidate.get("live", {})),
        attempts_from_json(candidate.get("mirror", {})),
        attempts_from_json(data.get("stable", {})),
        float(candidate.get("attempted", 0)),
        float(candidate.get("compared", 0)),
        float(candidate.get("mismatched", 0)),
        {name: (float(bad), float(total)) for name, (bad, total) in data.get("custom", {}).items()},
    )


def drift_json(drift: Drift) -> dict[str, Any]:
    """Give the JSON form of drift counts: `{feature: {reference: […], current: […]}}`."""
    return {
        feature: {"reference": list(drift.reference.get(feature, ())), "current": list(drift.current.get(feature, ()))}
        for feature in sorted({*drift.reference, *drift.current})
    }


def drift_from_json(data: Mapping[str, Any]) -> Drift:
    """Read what `drift_json` wrote."""
    return Drift(
        current={feature: tuple(map(float, bins["current"])) for feature, bins in data.items()},
        reference={feature: tuple(map(float, bins["reference"])) for feature, bins in data.items()},
    )


def add_bins(left: Mapping[str, Bins], right: Mapping[str, Bins]) -> dict[str, Bins]:
    """Add bin counts feature by feature; a feature only one side knows is kept."""
    result = dict(left)
    for feature, bins in right.items():
        known = result.get(feature)
        result[feature] = bins if known is None or len(known) != len(bins) else tuple(a + b for a, b in zip(known, bins, strict=True))
    return result
