"""The server's metrics, counted in plain integers and turned into series at scrape time.

Counting a request costs a few list increments; a client-library counter for each feature would cost more than the inference.
All counting runs on the event loop, so there are no locks.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kanarya_inference.registry import Artefact

log = logging.getLogger(__name__)

Status = Literal["ok", "invalid", "error"]
STATUSES: tuple[Status, ...] = ("ok", "invalid", "error")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 120.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0)
MOST_BOUNDS = 100
SCORE_BOUNDS = tuple(round(0.05 * step, 2) for step in range(1, 21))


class _Settings(msgspec.Struct, rename="camel"):
    latency_buckets_milliseconds: tuple[float, ...]


def rollout_bounds(path: Path | None) -> tuple[float, ...]:
    """Read the bounds, in milliseconds, that the rollout asks of its router: at its latency limits both histograms then count exactly.

    `path` is the router's settings. Without a file, or with one that cannot be used, there are none: nothing is judged by this histogram.
    """
    if path is None or not path.exists():
        return ()
    try:
        bounds = msgspec.json.decode(path.read_bytes(), type=_Settings).latency_buckets_milliseconds
    except (OSError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
        log.warning("%s is left alone: %s", path, error)
        return ()
    if len(bounds) > MOST_BOUNDS or not all(math.isfinite(bound) and bound > 0 for bound in bounds):
        log.warning("%s is left alone: latencyBucketsMilliseconds must be at most %d positive numbers", path, MOST_BOUNDS)
        return ()
    return bounds


class _Histogram:
    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._labels = [*(f"{bound:g}" for bound in bounds), "+Inf"]
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1  # `le` includes the bound
        self._sum += value

    def samples(self) -> tuple[list[tuple[str, float]], float]:
        total, buckets = 0, []
        for label, count in zip(self._labels, self._counts, strict=True):
            total += count
            buckets.append((label, float(total)))
        return buckets, self._sum


class ServerMetrics(Collector):
    """Counts of one process, which serves one model for all its life."""

    def __init__(self, extra_bounds: Sequence[float] = ()) -> None:
        """Take further bounds of the latency histogram, in milliseconds."""
        self.integrity_errors = 0
        self._requests: dict[Status, int] = dict.fromkeys(STATUSES, 0)
        self._latency = _Histogram(sorted({*LATENCY_BOUNDS, *extra_bounds}))
        self._scores = _Histogram(SCORE_BOUNDS)
        # One attribute, so that a scrape beside `use` sees a model with its bins or no model.
        self._model: tuple[Artefact, list[list[int]]] | None = None
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def use(self, artefact: Artefact) -> None:
        """Name the model; every series exists at 0 from here on."""
        features = artefact.reference.features
        self._model = artefact, [[0] * len(features[name].counts) for name in artefact.schema.drift_names]

    def request(self, status: Status, milliseconds: float) -> None:
        """Count one prediction request."""
        self._requests[status] += 1
        self._latency.observe(milliseconds)

    def features(self, bins: Sequence[int]) -> None:
        """Count one row's bins, in the order of the watched columns of the schema of the model in use."""
        if self._model is not None:
            for counts, index in zip(self._model[1], bins, strict=True):
                counts[index] += 1

    def score(self, score: float) -> None:
        """Count one score."""
        self._scores.observe(score)

    def exposition(self) -> bytes:
        """Return the text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Turn the counts into series. Those that carry a version exist once the model is known."""
        yield CounterMetricFamily(
            "ml_model_integrity_error", "Artefacts refused because a file's sum was not the trained one", value=self.integrity_errors
        )
        if self._model is None:
            return
        artefact, bins = self._model
        version = artefact.version
        requests = CounterMetricFamily(
            "ml_predict_requests", "Prediction requests by outcome, mirrored ones included", labels=("model_version", "status")
        )
        for status, count in self._requests.items():
            requests.add_metric((version, status), count)
        yield requests
        latency = HistogramMetricFamily("ml_predict_latency_ms", "Server-side time in milliseconds", labels=("model_version",))
        latency.add_metric((version,), *self._latency.samples())
        yield latency
        scores = HistogramMetricFamily("ml_prediction_score", "Scores", labels=("model_version",))
        scores.add_metric((version,), *self._scores.samples())
        yield scores
        info = GaugeMetricFamily("ml_model_version_info", "The model in use", labels=("model_version", "sha256"))
        info.add_metric((version, artefact.model_sha256), 1)
        yield info
        labels = ("model_version", "feature", "bin")
        current = CounterMetricFamily("ml_feature_bin", "Requests by the bin their feature fell in", labels=labels)
        reference = GaugeMetricFamily("ml_feature_reference_bin", "Rows of the training reference in the same bin", labels=labels)
        for name, counts in zip(artefact.schema.drift_names, bins, strict=True):
            trained_bins = artefact.reference.features[name]
            for label, count, trained in zip(trained_bins.labels, counts, trained_bins.counts, strict=True):
                current.add_metric((version, name, label), count)
                reference.add_metric((version, name, label), trained)
        yield current
        yield reference
