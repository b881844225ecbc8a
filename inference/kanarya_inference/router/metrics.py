"""What the router measures, in the names that docs/reference/objects.md fixes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from kanarya_inference.router.breaker import Breaker
from kanarya_inference.router.model import COMPARISONS, ERRORS, EXPOSURES, OUTCOMES, Attempt, Comparison, Exposure, Outcome, TrackName
from kanarya_inference.router.settings import Settings
from kanarya_inference.router.shadow_metrics import ShadowCollector
from kanarya_inference.router.windows import Clock, SlidingCounts

GRACE_SECONDS = 60.0
"""How long the series of a revision that left stay: the last scrapes must see its last counts."""

ATTEMPT_LABELS = ("rollout", "track", "revision", "exposure", "outcome")

DELTA_BUCKETS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0, 100.0)
_MAGNITUDES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
MILLISECOND_BUCKETS = (*(-bound for bound in reversed(_MAGNITUDES)), 0.0, *_MAGNITUDES)
RECENT_SECONDS = 300
"""Window of the match rate that people look at; verdicts count by themselves."""

Key = tuple[TrackName, str]


@dataclass(frozen=True)
class PairSeries:
    """What answers to the same request have to do with each other, for one revision of the candidate."""

    delta: Histogram
    milliseconds: Histogram
    recent: SlidingCounts

    def observe(self, verdict: Comparison, delta: float | None, seconds: float | None) -> None:
        """Take in one pair; `delta` of the scores and `seconds` (candidate minus stable) where there are any."""
        if delta is not None:
            self.delta.observe(delta)
        if seconds is not None:
            self.milliseconds.observe(1000 * seconds)
        if verdict in ("match", "mismatch"):
            self.recent.add(marked=verdict == "match")


@dataclass(frozen=True)
class TrackSeries:
    """The series of one revision on one track, looked up once."""

    attempts: dict[tuple[Exposure, Outcome], Histogram]
    fallbacks: dict[Outcome, Counter]
    comparisons: dict[Comparison, Counter]
    pairs: PairSeries | None
    """None for stable: what two answers have to do with each other is counted for the candidate."""
    above_every_bucket: float

    def observe(self, exposure: Exposure, attempt: Attempt) -> None:
        """Count an attempt. One that timed out counts as slower than every limit, however short its time limit was."""
        seconds = max(attempt.seconds, self.above_every_bucket) if attempt.outcome == "timeout" else attempt.seconds
        self.attempts[exposure, attempt.outcome].observe(seconds)


class RouterMetrics:
    """Every series of one router, in a registry of its own."""

    def __init__(self, rollout: str, clock: Clock) -> None:
        self._rollout = rollout
        self._clock = clock
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._durations: Histogram | None = None
        self._buckets: tuple[float, ...] = ()
        self._series: dict[Key, TrackSeries] = {}
        self._leaving: dict[Key, float] = {}
        track = ("rollout", "track", "revision")
        self._comparisons = Counter(
            "kanarya_comparisons", "Requests chosen for mirroring, by how both answers compare", ATTEMPT_LABELS, registry=self._registry
        )
        self._breaker = Gauge("kanarya_mirror_breaker_open", "1 while mirroring to the track is suspended", track, registry=self._registry)
        self._fallbacks = Counter(
            "kanarya_fallbacks", "Live requests answered by stable after the candidate failed", (*track, "reason"), registry=self._registry
        )
        self._generation = Gauge(
            "kanarya_router_route_generation", "Generation of the route in force", ("rollout",), registry=self._registry
        )
        self._weight = Gauge("kanarya_router_weight", "Weight in force", ("rollout", "track"), registry=self._registry)
        self._delta = Histogram(
            "ml_shadow_abs_delta", "Largest difference of the two answers' scores", track, buckets=DELTA_BUCKETS, registry=self._registry
        )
        self._milliseconds = Histogram(
            "ml_shadow_latency_delta_ms",
            "Candidate's time minus stable's for the same request",
            track,
            buckets=MILLISECOND_BUCKETS,
            registry=self._registry,
        )
        self.breakers: dict[Key, Breaker] = {}
        self._registry.register(ShadowCollector(rollout, self))

    def follow(self, settings: Settings) -> None:
        """Make every series that the settings call for exist at 0; those of other revisions go after a grace."""
        if settings.bucket_seconds != self._buckets:
            self._rebuild(settings.bucket_seconds)
        named: dict[Key, None] = {("stable", settings.tracks.stable.revision): None}
        if settings.tracks.candidate.revision is not None:
            named["candidate", settings.tracks.candidate.revision] = None
        for key in named:
            self._leaving.pop(key, None)
            if key not in self._series:
                self._series[key] = self._create(*key)
        for key in self._series.keys() - named.keys():
            self._leaving.setdefault(key, self._clock() + GRACE_SECONDS)

    def series(self, track: TrackName, revision: str) -> TrackSeries:
        """Return the series of a revision that the settings last followed name."""
        return self._series[track, revision]

    @property
    def every_series(self) -> Mapping[Key, TrackSeries]:
        """All series there are, those of revisions that are leaving included."""
        return self._series

    def watch_breaker(self, track: TrackName, revision: str, breaker: Breaker) -> None:
        """Show the breaker's state at each scrape."""
        self.breakers[track, revision] = breaker
        self._breaker.labels(self._rollout, track, revision).set_function(lambda: float(breaker.suspended))

    def in_force(self, generation: int, weights: dict[TrackName, int]) -> None:
        """Show the route that is followed now."""
        self._generation.labels(self._rollout).set(generation)
        for track, weight in weights.items():
            self._weight.labels(self._rollout, track).set(weight)

    def render(self) -> bytes:
        """Write all series in Prometheus' text format."""
        now = self._clock()
        for key in [key for key, until in self._leaving.items() if until <= now]:
            del self._leaving[key]
            self._remove(*key)
        return generate_latest(self._registry)

    def _rebuild(self, buckets: tuple[float, ...]) -> None:
        """Begin the histogram anew: its buckets are fixed when it is made."""
        if self._durations is not None:
            self._registry.unregister(self._durations)
        self._buckets = buckets
        self._durations = Histogram(
            "kanarya_request_duration_seconds",
            "Attempts on a track as the caller sees them, before any fallback",
            ATTEMPT_LABELS,
            buckets=buckets,
            registry=self._registry,
        )
        self._series = {key: self._create(*key) for key in self._series}

    def _create(self, track: TrackName, revision: str) -> TrackSeries:
        durations = self._durations
        if durations is None:
            raise RuntimeError("series need the buckets of the settings first")
        labels = (self._rollout, track, revision)
        is_candidate = track == "candidate"
        return TrackSeries(
            attempts={(exposure, outcome): durations.labels(*labels, exposure, outcome) for exposure in EXPOSURES for outcome in OUTCOMES},
            fallbacks={reason: self._fallbacks.labels(*labels, reason) for reason in sorted(ERRORS) if is_candidate},
            pairs=self._pairs(*labels) if is_candidate else None,
            comparisons={outcome: self._comparisons.labels(*labels, "mirror", outcome) for outcome in COMPARISONS if is_candidate},
            above_every_bucket=math.nextafter(self._buckets[-1], math.inf),
        )

    def _pairs(self, *labels: str) -> PairSeries:
        return PairSeries(self._delta.labels(*labels), self._milliseconds.labels(*labels), SlidingCounts(RECENT_SECONDS, self._clock))

    def _remove(self, track: TrackName, revision: str) -> None:
        self._series.pop((track, revision), None)
        self.breakers.pop((track, revision), None)
        labels = {"rollout": self._rollout, "track": track, "revision": revision}
        for family in (self._durations, self._comparisons, self._breaker, self._fallbacks, self._delta, self._milliseconds):
            if family is not None:
                family.remove_by_labels(labels)
