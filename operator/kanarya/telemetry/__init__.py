"""Prometheus: sources, queries, samples turned into counts."""

from kanarya.telemetry.collector import Collector
from kanarya.telemetry.request import ReadRequest
from kanarya.telemetry.source import PrometheusSource, SourceConfig, SourceError

__all__ = ["Collector", "PrometheusSource", "ReadRequest", "SourceConfig", "SourceError"]
