"""What the router measures, in the names that docs/reference/objects.md fixes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from kanarya_inference.router.model import COMPARISONS, ERRORS, EXPOSURES, OUTCOMES, Attempt, Comparison, Exposure, Outcome, TrackName
from kanarya_inference.router.settings import Settings
from kanarya_inference.router.windows import Clock

GRACE_SECONDS = 60.0
"""How long the series of a revision that left stay: the last scrapes must see its last counts."""

ATTEMPT_LABELS = ("rollout", "track", "revision", "exposure", "outcome")

Key = tuple[TrackName, str]


@dataclass(frozen=True)
class TrackSeries:
    """The series of one revision on one track, looked up once."""

    attempts: dict[tuple[Exposure, Outcome], Histogram]
    fallbacks: dict[Outcome, Counter]
    comparisons: dict[Comparison, Counter]
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

    def watch_breaker(self, track: TrackName, revision: str, suspended: Callable[[], bool]) -> None:
        """Show the breaker's state at each scrape."""
        self._breaker.labels(self._rollout, track, revision).set_function(lambda: float(suspended()))

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
            comparisons={outcome: self._comparisons.labels(*labels, "mirror", outcome) for outcome in COMPARISONS if is_candidate},
            above_every_bucket=math.nextafter(self._buckets[-1], math.inf),
        )

    def _remove(self, track: TrackName, revision: str) -> None:
        self._series.pop((track, revision), None)
        labels = {"rollout": self._rollout, "track": track, "revision": revision}
        for family in (self._durations, self._comparisons, self._breaker, self._fallbacks):
            if family is not None:
                family.remove_by_labels(labels)
