"""The server's counts as Prometheus series."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kanarya_inference.server.counts import PREDICTION_SCORE, Counts, Histogram
from kanarya_inference.server.feature_log import FeatureLog
from kanarya_inference.server.outcomes import Outcomes

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_VERSION = ("model_version",)


class ServerMetrics(Collector):
    """Turns counts into series. Those that carry a version exist once the model is known."""

    def __init__(self, counts: Counts, outcomes: Outcomes, feature_log: FeatureLog | None) -> None:
        self._counts = counts
        self._outcomes = outcomes
        self._feature_log = feature_log
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def exposition(self) -> bytes:
        """Return the text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._of_the_process()
        if self._counts.active is not None:
            yield from self._of_models()
            yield from self._of_requests()
            yield from self._of_drift()
            yield from self._of_outcomes()

    def _of_the_process(self) -> Iterator[Metric]:
        counts = self._counts
        help_text = "Artefacts refused because a file's sum or a score was not the trained one"
        yield CounterMetricFamily("ml_model_integrity_error", help_text, value=counts.integrity_errors)
        errors = CounterMetricFamily("ml_model_errors", "Errors of the server's own, by kind", labels=("error_type",))
        for kind, count in counts.errors.items():
            errors.add_metric((kind,), count)
        yield errors
        yield GaugeMetricFamily("ml_queue_depth", "Prediction requests in progress", value=counts.queue_depth)
        if self._feature_log is not None:
            lines = CounterMetricFamily("ml_feature_log_lines", "Lines of the feature log, by what became of them", labels=("result",))
            lines.add_metric(("written",), self._feature_log.written)
            lines.add_metric(("dropped",), self._feature_log.dropped)
            yield lines

    def _of_models(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("ml_model_version_info", "The active model", labels=("model_version", "sha256"))
        if (active := self._counts.active) is not None:
            info.add_metric((active.version, active.model_sha256), 1)
        yield info
        labels = ("model_version", "sha256", "verdict", "report_sha256")
        report = GaugeMetricFamily("ml_model_offline_report_info", "The offline report of the active model", labels=labels)
        if active is not None:
            told = self._counts.report
            report.add_metric((active.version, active.model_sha256, told.verdict, told.sha256), 1)
        yield report
        loaded = GaugeMetricFamily("ml_model_loaded", "Versions in memory", labels=_VERSION)
        for version in list(self._counts.loaded):
            loaded.add_metric((version,), 1)
        yield loaded

    def _of_requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "ml_predict_requests", "Prediction requests by outcome, mirrored ones included", labels=("model_version", "status")
        )
        latency = HistogramMetricFamily("ml_predict_latency_ms", "Server-side time in milliseconds", labels=_VERSION)
        scores = HistogramMetricFamily("ml_prediction_score", "Scores", labels=_VERSION)
        extractions = CounterMetricFamily("ml_feature_extractions", "Rows that became feature vectors", labels=_VERSION)
        for version, counts in list(self._counts.versions.items()):
            for status, count in counts.requests.items():
                requests.add_metric((version, status), count)
            latency.add_metric((version,), *_samples(counts.latency))
            scores.add_metric((version,), *_samples(counts.scores))
            extractions.add_metric((version,), counts.extractions)
        yield from (requests, latency, scores, extractions)

    def _of_drift(self) -> Iterator[Metric]:
        labels = ("model_version", "feature", "bin")
        current = CounterMetricFamily("ml_feature_bin", "Rows by the bin their feature fell in", labels=labels)
        reference = GaugeMetricFamily("ml_feature_reference_bin", "Rows of the training reference in the same bin", labels=labels)
        each = GaugeMetricFamily("ml_feature_drift_score", "PSI since the process began", labels=("model_version", "feature"))
        overall = GaugeMetricFamily("ml_psi_score", "Mean PSI over features since the process began", labels=_VERSION)
        for version, counts in list(self._counts.versions.items()):
            values = []
            for name, trained, found in counts.drift():
                for label, count, before in zip(trained.labels, found, trained.counts, strict=True):
                    current.add_metric((version, name, label), count)
                    reference.add_metric((version, name, label), before)
                value = psi(trained.counts, found)
                each.add_metric((version, name), value)
                if name != PREDICTION_SCORE:
                    values.append(value)
            if values:
                overall.add_metric((version,), sum(values) / len(values))
        yield from (current, reference, each, overall)

    def _of_outcomes(self) -> Iterator[Metric]:
        outcomes = CounterMetricFamily(
            "ml_outcomes", "Outcomes by predicted and true label", labels=("model_version", "predicted", "label")
        )
        squared = CounterMetricFamily("ml_outcome_squared_error", "Sum of (score - label)^2 over outcomes", labels=_VERSION)
        f1 = GaugeMetricFamily("ml_rolling_f1", "F1 over the last outcomes", labels=_VERSION)
        brier = GaugeMetricFamily("ml_rolling_brier", "Mean squared error of the score over the last outcomes", labels=_VERSION)
        window = GaugeMetricFamily("ml_rolling_outcomes", "Outcomes that the rolling figures rest on", labels=_VERSION)
        for version, rolling in self._outcomes.rolling():
            for (predicted, label), count in rolling.confusion.items():
                outcomes.add_metric((version, str(predicted), str(label)), count)
            squared.add_metric((version,), rolling.squared_error)
            figures = rolling.figures()
            f1.add_metric((version,), figures.f1)
            brier.add_metric((version,), figures.brier)
            window.add_metric((version,), figures.outcomes)
        refused = CounterMetricFamily("ml_outcomes_refused", "Outcomes that could not be counted", labels=("reason",))
        refused.add_metric(("unknown",), self._outcomes.unknown)
        refused.add_metric(("duplicate",), self._outcomes.duplicate)
        yield from (outcomes, squared, f1, brier, window, refused)


def psi(reference: Sequence[int], current: Sequence[int]) -> float:
    """Return the population stability index of two sets of bin counts, +1/2 in every bin of both; NaN without a current row.

    sum over bins of (q - p) ln(q / p), with shares p of the reference and q of the current rows.
    """
    if not sum(current) or not sum(reference):
        return math.nan
    p_total, q_total = sum(reference) + len(reference) / 2, sum(current) + len(current) / 2
    total = 0.0
    for before, found in zip(reference, current, strict=True):
        p, q = (before + 0.5) / p_total, (found + 0.5) / q_total
        total += (q - p) * math.log(q / p)
    return total


def _samples(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    total, buckets = 0, []
    for label, count in zip([*(f"{bound:g}" for bound in histogram.bounds), "+Inf"], histogram.counts, strict=True):
        total += count
        buckets.append((label, float(total)))
    return buckets, histogram.sum
