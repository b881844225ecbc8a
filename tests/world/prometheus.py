"""A Prometheus in virtual time: it scrapes the world's routers and model pods, and answers the operator's selectors."""

from __future__ import annotations

import ast
import asyncio
import math
import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from random import Random
from typing import Any, Literal

from kanarya.telemetry.counting import LAG_SECONDS
from kanarya.telemetry.source import PrometheusSource, Series, SourceConfig, SourceError
from tests.world.router import Labels, Router, Truth
from tests.world.traffic import ModelPod, Traffic

Trouble = Literal["", "refused", "hanging", "failing", "empty", "slow"]


@dataclass
class Stored:
    """One series: times by Prometheus' clock, values, and the times by the world's."""

    labels: dict[str, str]
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    truly: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Scrape:
    """What a scrape of a router found, for whoever checks what could have been known: cumulative truth by revision."""

    at: float
    time: float
    router: str
    began: float
    """When the router's process began, by the world's clock."""
    truth: dict[str, Truth]
    refused: frozenset[str]
    """Revisions whose series had later samples already."""
    spoiled: bool


@dataclass(frozen=True)
class Read:
    """What a query showed of the candidate's requests: when its newest sample that counts was really taken, and what was wrong with it."""

    at: float
    newest: dict[str, float]
    """By revision."""
    spoiled: str = ""
    twice: float = 0.0
    """When the newest sample was taken that the answer held twice and that was old enough to count; 0 when there was none."""


class Prometheus:
    """The server. `trouble` is what is wrong with its answers, the other attributes what is wrong with its scrapes."""

    def __init__(
        self, traffic: Traffic, *, namespace: str, scrape: float, random: Random, now: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self.config = SourceConfig(url="http://prometheus.test", scrape_interval_seconds=scrape)
        self.trouble: Trouble = ""
        self.blind = False
        """No target can be scraped."""
        self.spoiling = False
        """The candidate's samples are NaN."""
        self.doubling = False
        """A second job scrapes the same pods."""
        self.late = 0.0
        """Seconds that samples take to arrive."""
        self.down = False
        self.scrapes: list[Scrape] = []
        self._traffic, self._namespace, self._random, self._now, self._wall = traffic, namespace, random, now, wall
        self._series: dict[tuple[str, str, Labels], Stored] = {}
        self._selected: dict[str, tuple[int, list[Stored]]] = {}
        self._phase: dict[str, float] = {}

    def forget(self) -> None:
        """Lose the whole store."""
        self._series.clear()
        self._selected.clear()

    async def run(self) -> None:
        """Scrape every target at its own moments, for ever."""
        while True:
            due = min((self._due(target.name) for target in self._targets()), default=self._now() + 1.0)
            await asyncio.sleep(max(due - self._now(), 0.001))
            self._traffic.flow()
            for target in self._targets():
                if self._due(target.name) <= self._now():
                    self._phase[target.name] = self._due(target.name) + self.config.scrape_interval_seconds
                    if not (self.blind or self.down):
                        self._scrape(target)

    def _targets(self) -> list[Router | ModelPod]:
        return [*self._traffic.routers, *self._traffic.pods.values()]

    def _due(self, target: str) -> float:
        if target not in self._phase:
            self._phase[target] = self._now() + self._random.uniform(0, self.config.scrape_interval_seconds)
        return self._phase[target]

    def _scrape(self, target: Router | ModelPod) -> None:
        at, now, rows = self._wall(), self._now(), list(target.expose())
        spoiling = self.spoiling and isinstance(target, Router)
        truth = {key: value.copy() for key, value in target.truth.items()} if isinstance(target, Router) else {}
        jobs = ("pods", "again") if self.doubling else ("pods",)

        def arrive() -> None:
            if self.down:
                return
            refused: set[str] = set()
            for job in jobs:
                for labels, value in rows:
                    if not self._store(target.name, job, labels, at, now, value, spoiling=spoiling):
                        refused.add(dict(labels).get("revision", ""))
            if isinstance(target, Router):
                self.scrapes.append(Scrape(now, at, target.name, target.began, truth, frozenset(refused), spoiling))

        if self.late:
            asyncio.get_running_loop().call_later(self.late * self._random.uniform(0.3, 1.0), arrive)
        else:
            arrive()

    def _store(self, pod: str, job: str, labels: Labels, at: float, now: float, value: float, *, spoiling: bool) -> bool:
        key = (pod, job, labels)
        stored = self._series.get(key)
        if stored is None:
            whole = {**dict(labels), "namespace": self._namespace, "pod": pod, "job": job, "instance": f"{pod}:9090"}
            stored = self._series[key] = Stored(whole)
        if stored.times and at <= stored.times[-1]:
            return False  # out of order: refused, as Prometheus does
        if spoiling and stored.labels.get("track") == "candidate":
            value = math.nan
        stored.times.append(at)
        stored.values.append(value)
        stored.truly.append(now)
        return True

    # -- answers ----------------------------------------------------------------------------------------------------------

    def select(self, promql: str, at: float) -> tuple[list[Series], Read]:
        """Answer a selector of raw samples."""
        inside, seconds = promql[1:].rsplit("}[", 1)
        start = at - float(seconds[:-2])
        known = self._selected.get(inside)
        if known is None or known[0] != len(self._series):
            known = self._selected[inside] = (len(self._series), _matching(inside, list(self._series.values())))
        found: list[Series] = []
        newest: dict[str, float] = {}
        spoiled, twice = "", 0.0
        for stored in known[1]:
            begin, end = bisect_right(stored.times, start), bisect_right(stored.times, at)
            if begin == end:
                continue
            values = stored.values[begin:end]
            old_enough = bisect_right(stored.times, at - LAG_SECONDS) - begin
            found.append(Series(stored.labels, tuple(zip(stored.times[begin:end], values, strict=True))))
            if stored.labels.get("track") == "candidate" and stored.labels["__name__"].endswith("_bucket"):
                revision = stored.labels["revision"]
                if old_enough == 0:
                    continue
                last = begin + old_enough - 1
                newest[revision] = max(newest.get(revision, 0.0), stored.truly[last])
                recent = stored.times[last] > at - LAG_SECONDS - self.config.scrape_interval_seconds
                if recent and math.isnan(values[old_enough - 1]) and math.isnan(values[-1]):
                    spoiled = "not a number"
                elif recent and stored.labels["job"] == "again" and old_enough > 1:
                    twice = max(twice, stored.truly[last])
        return found, Read(self._now(), newest, spoiled, twice)


class Connection:
    """One operator's way to Prometheus, with the real source's comparison of clocks.

    `between` is awaited before and after each query: there the operator may die.
    """

    def __init__(
        self,
        server: Prometheus,
        *,
        clock: Callable[[], float],
        server_clock: Callable[[], float],
        random: Random,
        between: Callable[[str], None],
        told: Callable[[Read], None],
    ) -> None:
        self.config = server.config
        self._server, self._clock, self._server_clock, self._random = server, clock, server_clock, random
        self._between, self._told = between, told
        self._clocks = PrometheusSource(self.config, _NO_CLIENT, wall=clock)
        self.clock_ahead = self.clock_behind = 0.0

    async def query(self, promql: str, at: float, *, lookback_seconds: float | None = None) -> list[Series]:
        self._between("before a query")
        sent = self._clock()
        await asyncio.sleep(self._random.uniform(0.002, 0.03))
        trouble = "refused" if self._server.down else self._server.trouble
        if trouble == "slow":
            await asyncio.sleep(self._random.uniform(0.5, 4.5))
        if trouble == "hanging":
            await asyncio.sleep(self.config.timeout_seconds)
            raise self._failed(promql, SourceError("timeout", "Prometheus gave no full answer in 5 s."))
        if trouble == "refused":
            raise self._failed(promql, SourceError("unreachable", "Prometheus cannot be reached (ConnectError)."))
        if trouble == "failing":
            raise self._failed(promql, SourceError("5xx", "Prometheus failed to answer the query (503)."))
        series, read = self._server.select(promql, at)
        try:
            self._clocks._compare_clocks(formatdate(self._server_clock(), usegmt=True), sent, self._clock())
        except SourceError as error:
            raise self._failed(promql, error) from None
        self.clock_ahead, self.clock_behind = self._clocks.clock_ahead, self._clocks.clock_behind
        if trouble == "empty":
            series, read = [], Read(read.at, {}, "empty")
        if _of_requests(promql):
            self._told(read)
        self._between("after a query")
        return series

    def _failed(self, promql: str, error: SourceError) -> SourceError:
        if _of_requests(promql):
            self._told(Read(self._server._now(), {}, error.failure))
        self._between("after a query")
        return error

    async def close(self) -> None: ...


_NO_CLIENT: Any = object()


def _of_requests(promql: str) -> bool:
    """Whether the answer is what a rise rests on; drift is read apart, and holds back promotion alone."""
    return "kanarya_request" in promql


def _matching(inside: str, every: list[Stored]) -> list[Stored]:
    matchers = [(name, sign, ast.literal_eval(text)) for name, sign, text in re.findall(r'(\w+)(=~|!=)("(?:[^"\\]|\\.)*")', inside)]
    compiled = [(name, sign, re.compile(text) if sign == "=~" else text) for name, sign, text in matchers]
    return [stored for stored in every if all(_matches(stored.labels.get(name, ""), sign, want) for name, sign, want in compiled)]


def _matches(have: str, sign: str, want: str | re.Pattern[str]) -> bool:
    return have != want if isinstance(want, str) else want.fullmatch(have) is not None
