"""The stand-in is only worth something if the operator's own telemetry reads it as it would read the real thing."""

from __future__ import annotations

import time

from benchmarks.prometheus_standin import REQUESTS_PER_SECOND, PrometheusStandIn
from kanarya.decision.counts import Reading
from kanarya.telemetry.collector import Collector, ReadRequest
from kanarya.telemetry.source import PrometheusSource, SourceConfig


async def look(standin: PrometheusStandIn, address: str, since: float, now: float) -> Reading:
    config = SourceConfig.model_validate({"url": address, "scrapeIntervalSeconds": 5})
    collector = Collector(PrometheusSource(config, wall=time.time), lambda: now)
    try:
        return await collector.read(
            ReadRequest(
                namespace="shop",
                rollout="fraud",
                candidate_revision="c1",
                stable_revision="s1",
                thresholds_ms=(80, 120),
                router_pod_prefix="fraud-router-",
                candidate_pod_prefixes=("fraud-c1-",),
                since=since,
                watermark=since,
                drift_since=since,
                drift_watermark=since,
                tick_seconds=5.0,
            )
        )
    finally:
        await collector.close()


async def test_telemetry_reads_a_good_candidate_and_then_a_breach() -> None:
    standin = PrometheusStandIn("shop")
    address = await standin.start()
    try:
        standin.name_stable("fraud", "s1")
        standin.name_candidate("fraud", "c1", "fraud-c1")
        began = standin.pairs["fraud"].began = 1_700_000_000.0
        good = await look(standin, address, began + 1, began + 18)
        assert good.missing == {}
        assert good.counts.candidate.requests == 10 * REQUESTS_PER_SECOND
        assert good.counts.candidate.errors == 0
        assert good.counts.compared == good.counts.candidate.requests
        assert good.drift.reference.keys() == {"mid", "spread_bp", "vol1m", "rsi14"}
        standin.breached = began + 12.5
        standin.name_stable("fraud", "s1")  # forgets the answers given before
        bad = await look(standin, address, began + 1, began + 18)
        assert bad.counts.candidate.errors == 2.5 * REQUESTS_PER_SECOND
        assert bad.counts.candidate_live.errors == 2.5 * REQUESTS_PER_SECOND / 4
    finally:
        await standin.stop()


async def test_a_breach_is_seen_from_the_next_scrape_on() -> None:
    standin = PrometheusStandIn("shop")
    seen = standin.breach()
    assert standin.breached < seen <= standin.breached + 5
    assert seen % 5 == 0
