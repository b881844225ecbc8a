"""Metrics of the team's own against a real Prometheus: what is sent is understood, confined, and counted to the last event."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kanarya.api.rollout import CustomMetric
from kanarya.decision.counts import Missing
from kanarya.telemetry import PrometheusSource, SourceConfig
from kanarya.telemetry.custom import CustomReader, Seen
from kanarya.telemetry.request import CustomRequest
from tests.contract.prometheus.server import SCRAPE_SECONDS, Exporter, MissingProgramError, Prometheus, find_prometheus
from tests.unit.telemetry.fakes import Pod, request

PODS = '{pod=~"{{pods}}"}'
METRICS = [
    {"name": "memory", "query": f"max(memory_bytes{PODS})", "slo": 1, "abort": 2},
    {"name": "smooth", "query": f"avg(max_over_time(memory_bytes{PODS}[10s])) * 1", "slo": 1, "abort": 2},
    {"name": "low", "bad": 'seen_total{r="low", pod=~"{{pods}}"}', "total": f"seen_total{PODS}", "slo": 0.01, "abort": 0.02},
    {"name": "several", "query": "memory_bytes", "slo": 1, "abort": 2},
    {"name": "absent", "query": "no_such_metric", "slo": 1, "abort": 2},
    {"name": "nan", "query": f"sum(memory_bytes{PODS}) * NaN", "slo": 1, "abort": 2},
    {"name": "wrong", "query": 'label_replace(memory_bytes, "a b", "$1", "pod", "((")', "slo": 1, "abort": 2},
    {"name": "everywhere", "query": "sum(memory_bytes)", "slo": 1, "abort": 2},
]


@dataclass
class Model(Pod):
    """A pod with a gauge and two counters."""

    memory: float = 5.0
    low: float = 0.0
    high: float = 0.0

    def expose(self) -> Iterator[tuple[str, dict[str, str], float]]:
        yield "memory_bytes", {}, self.memory
        yield "seen_total", {"r": "low"}, self.low
        yield "seen_total", {"r": "high"}, self.high


async def test_metrics_of_the_teams_own(tmp_path: Path) -> None:
    try:
        server = Prometheus(find_prometheus(), tmp_path)
    except MissingProgramError as error:
        pytest.fail(str(error), pytrace=False)
    ours, stable = Model("fraud-new-a"), Model("fraud-old-a", memory=7.0, low=100.0)
    foreign = Model("fraud-new-a", namespace="other", memory=1000.0, low=1000.0)
    source = PrometheusSource(SourceConfig(url=server.url, scrape_interval_seconds=SCRAPE_SECONDS, timeout_seconds=5))
    reader = CustomReader(source, time.time, allowed=True)
    async with Exporter(ours).serving() as first, Exporter(stable).serving() as second, Exporter(foreign).serving() as third:
        server.scrape(first, second, third)
        try:
            await server.start()
            await first.scraped(3)
            await third.scraped(1)
            began = time.time()
            await first.scraped(2)
            ours.low, ours.high = 3.0, 40.0
            await first.scraped(5)
            seen = await look(reader, began)
            assert {name: sight.value for name, sight in seen.sights.items()} == {
                "memory": 5.0,
                "smooth": 5.0,
                "low": None,
                "everywhere": 12.0,
            }
            assert (seen.sights["low"].bad, seen.sights["low"].total) == (3.0, 43.0)
            assert seen.missing == {
                "several": Missing.SEVERAL_SERIES,
                "absent": Missing.NO_SERIES,
                "nan": Missing.NOT_A_NUMBER,
                "wrong": Missing.QUERY_REFUSED,
            }
            assert time.time() - seen.sights["smooth"].oldest == pytest.approx(10 + 5, abs=5)
            server.scrape(second, third)  # the candidate's pod is gone: its last number must not stand for it
            await second.scraped(9)
            assert (await look(reader, began)).missing["memory"] is Missing.NO_SERIES
        finally:
            await source.close()
            await server.stop()


async def look(reader: CustomReader, since: float) -> Seen:
    metrics = tuple(CustomRequest(CustomMetric.model_validate(metric), since) for metric in METRICS)
    return await reader.read(request(custom=metrics, since=since))
