"""What is counted while requests are served: plain integers, turned into series only when somebody scrapes.

Counting a request costs a few list increments; a client-library counter for each feature would cost more than the inference.
All counting runs on the event loop, so there are no locks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Literal

from kanarya_inference.features import FeatureReference
from kanarya_inference.registry import Artefact, OfflineReport
from kanarya_inference.server.bounds import LATENCY_BOUNDS

Status = Literal["ok", "invalid", "error", "limited", "fallback"]
STATUSES: tuple[Status, ...] = ("ok", "invalid", "error", "limited", "fallback")
ErrorType = Literal["inference", "budget", "injected", "integrity", "load"]
ERROR_TYPES: tuple[ErrorType, ...] = ("inference", "budget", "injected", "integrity", "load")
SCORE_BOUNDS = tuple(round(0.05 * step, 2) for step in range(1, 21))
PREDICTION_SCORE = "prediction_score"
"""Name under which the score's bins stand among those of the features."""
KEPT_VERSIONS = 8


class Histogram:
    """Counts between bounds; a value equal to a bound belongs below it, as `le` says."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class VersionCounts:
    """Counts of one version of the model."""

    def __init__(self, latency_bounds: Sequence[float] = LATENCY_BOUNDS) -> None:
        self.requests: dict[Status, int] = dict.fromkeys(STATUSES, 0)
        self.latency = Histogram(latency_bounds)
        self.scores = Histogram(SCORE_BOUNDS)
        self.extractions = 0
        self.references: list[tuple[str, FeatureReference]] = []
        self.bins: list[list[int]] = []
        self.score_bins: list[int] | None = None
        self.reference_sha256 = ""
        self._score_reference: FeatureReference | None = None

    def use(self, artefact: Artefact) -> None:
        """Count drift against an artefact's reference, from zero when it is another than before."""
        if artefact.reference_sha256 == self.reference_sha256:
            return
        self.reference_sha256 = artefact.reference_sha256
        self.references = [(name, artefact.reference.features[name]) for name in artefact.schema.drift_names]
        self.bins = [[0] * len(reference.counts) for _, reference in self.references]
        self._score_reference = artefact.reference.score
        self.score_bins = None if self._score_reference is None else [0] * len(self._score_reference.counts)

    def drift(self) -> Iterable[tuple[str, FeatureReference, list[int]]]:
        """Yield name, reference and counts of each watched feature, the score last."""
        for (name, reference), counts in zip(self.references, self.bins, strict=True):
            yield name, reference, counts
        if self._score_reference is not None and self.score_bins is not None:
            yield PREDICTION_SCORE, self._score_reference, self.score_bins

    def request(self, status: Status, milliseconds: float) -> None:
        """Count one prediction request, whatever its number of rows."""
        self.requests[status] += 1
        self.latency.observe(milliseconds)

    def features(self, rows: Sequence[Sequence[int]]) -> None:
        """Count the bins of each row, in the order of the watched columns."""
        self.extractions += len(rows)
        for row in rows:
            for counts, index in zip(self.bins, row, strict=True):
                counts[index] += 1

    def score(self, scores: Sequence[float]) -> None:
        """Count the score of each row."""
        histogram, bins, reference = self.scores, self.score_bins, self._score_reference
        for score in scores:
            histogram.observe(score)
            if reference is not None and bins is not None:
                bins[reference.bin_of(score)] += 1


class Counts:
    """Counts of one process; `more_bounds` are further ones of the latency histogram, in milliseconds."""

    def __init__(self, more_bounds: Sequence[float] = ()) -> None:
        self._latency_bounds = sorted({*LATENCY_BOUNDS, *more_bounds})
        self.integrity_errors = 0
        self.errors: dict[ErrorType, int] = dict.fromkeys(ERROR_TYPES, 0)
        self.queue_depth = 0
        self.active: Artefact | None = None
        self.report = OfflineReport()
        self.loaded: Sequence[str] = ()
        self.versions: OrderedDict[str, VersionCounts] = OrderedDict()
        self._before = VersionCounts(self._latency_bounds)

    def of(self, version: str | None) -> VersionCounts:
        """Return the counts of a version; of None, those of the time before any model."""
        return self._before if version is None else self.versions[version]

    def use(self, artefact: Artefact) -> VersionCounts:
        """Count for an artefact; every series of its version exists at 0 from here on.

        The first version takes over what was counted before it. Versions of long ago are forgotten, so that a server that is
        given a new one every hour does not grow.
        """
        counts = self.versions.get(artefact.version) or (VersionCounts(self._latency_bounds) if self.versions else self._before)
        counts.use(artefact)
        self.versions[artefact.version] = counts
        self.versions.move_to_end(artefact.version)
        for version in [v for v in self.versions if v not in self.loaded and v != artefact.version]:
            if len(self.versions) <= KEPT_VERSIONS:
                break
            del self.versions[version]
        return counts
