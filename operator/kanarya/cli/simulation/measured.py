"""The rate of clients' requests of a rollout, as its routers counted them in the last hour."""

from __future__ import annotations

import time
from itertools import pairwise

from kanarya.cli.prometheus import source_at
from kanarya.telemetry import profile
from kanarya.telemetry.source import PrometheusSource, Series, SourceError

SECONDS = 3600


async def measure(address: str, namespace: str, rollout: str) -> float:
    """Give the requests a second.

    Raises
    ------
    ValueError
        When the address is none, Prometheus does not answer, or has no such series.
    """
    source = PrometheusSource(source_at(address, scrape_seconds=15, timeout_seconds=10))
    query = profile.attempts_query(namespace, rollout, SECONDS, exposures=("live",))
    try:
        series = await source.query(query, time.time())
    except SourceError as error:
        raise ValueError(f"--prometheus: {error}") from None
    finally:
        await source.close()
    rate = rate_of(series)
    if rate is None:
        raise ValueError(f"--prometheus: no requests of rollout {rollout} in namespace {namespace} in the last hour; say --rps instead")
    return rate


def rate_of(series: list[Series]) -> float | None:
    """Give requests a second over the time that the samples span; None when they span none."""
    times = [at for one in series for at, _ in one.samples]
    if not times or max(times) <= min(times):
        return None
    grown = sum(later - earlier if later >= earlier else later for one in series for (_, earlier), (_, later) in pairwise(one.samples))
    return grown / (max(times) - min(times))
