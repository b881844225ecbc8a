"""A rollout whose router and candidate a Prometheus in memory scrapes."""

from __future__ import annotations

from typing import Any

from kanarya.decision.counts import Reading
from kanarya.telemetry.collector import Collector
from tests.unit.telemetry.fakes import Clock, FakePrometheus, Model, Router, request

ROUTER = "fraud-router-6c9f8d-x2x4z"


class World:
    """A router and a candidate, scraped every five seconds from 990 on."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.prometheus = FakePrometheus()
        self.collector = Collector(self.prometheus, self.clock)
        self.router = Router(ROUTER)
        self.model = Model("fraud-new-abcde")
        self.routers = [self.router]
        self.scraped = 985.0

    def run_to(self, time: float) -> None:
        while self.scraped + 5 <= time:
            self.scraped += 5
            self.prometheus.scrape(self.scraped, *self.routers, self.model)
        self.clock.now = time

    async def read(self, **changes: Any) -> Reading:
        return await self.collector.read(request(**changes))
