"""A stand-in for Prometheus: the series that the routers and model pods of many rollouts would have, from formulas.

It answers the operator's two queries with as many series as two routers and two model pods of each rollout have. All are scraped at
the same instants, so a breach becomes visible for every rollout at once: the worst case.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from kanarya.telemetry import profile

SCRAPE_SECONDS = 5.0
REQUESTS_PER_SECOND = 80.0
"""Of one rollout, at both its routers together."""
CANDIDATE_SHARE = 0.25
ROUTERS, MODEL_PODS = 2, 2
OUTCOMES = ("success", "client_error", "server_error", "timeout", "unreachable")
FEATURES = ("mid", "spread_bp", "vol1m", "rsi14")
THRESHOLDS_MILLISECONDS = (80, 120)
_WINDOW = re.compile(r"\[(\d+)s\]")

Count = Callable[[float], float]
"""A counter's value at a time (epoch seconds)."""


@dataclass
class Pair:
    """The two revisions of one rollout, and since when they are counted."""

    stable: str = ""
    candidate: str = ""
    replicaset: str = ""
    began: float = 0.0


@dataclass
class PrometheusStandIn:
    """The server; `breach` makes every candidate fail from the next moment on."""

    namespace: str
    pairs: dict[str, Pair] = field(default_factory=dict)
    breached: float = float("inf")
    queries: int = 0
    _bodies: dict[tuple[str, int, int], bytes] = field(default_factory=dict)
    _runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen on a free port of this machine; gives the address."""
        app = web.Application()
        app.router.add_post("/api/v1/query", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    def name_stable(self, rollout: str, revision: str) -> None:
        """Have a rollout's stable revision counted."""
        self.pairs.setdefault(rollout, Pair()).stable = revision
        self._bodies.clear()

    def name_candidate(self, rollout: str, revision: str, replicaset: str) -> None:
        """Have a rollout's candidate counted from now on."""
        pair = self.pairs.setdefault(rollout, Pair())
        if pair.candidate != revision:
            pair.candidate, pair.replicaset, pair.began = revision, replicaset, time.time()
            self._bodies.clear()

    def breach(self) -> float:
        """Let every request of every candidate fail from now on; gives the time of the first scrape that shows it."""
        self.breached = time.time()
        return (self.breached // SCRAPE_SECONDS + 1) * SCRAPE_SECONDS

    async def _answer(self, request: web.Request) -> web.Response:
        form = await request.post()
        query, at = str(form["query"]), float(str(form["time"]))
        self.queries += 1
        window = _WINDOW.search(query)
        if window is None:
            return web.Response(status=400)
        kind = "traffic" if profile.BUCKETS in query else "drift"
        return web.Response(body=self.body(kind, at, int(window[1])), content_type="application/json")

    def body(self, kind: str, at: float, window: int) -> bytes:
        """Give the answer to a query at a time; the same bytes until the next scrape."""
        last = int(at // SCRAPE_SECONDS)
        key = (kind, last, window)
        if key not in self._bodies:
            if len(self._bodies) > 8:
                self._bodies.clear()
            times = [number * SCRAPE_SECONDS for number in range(last - int(window // SCRAPE_SECONDS), last + 1)]
            times = [moment for moment in times if at - window < moment <= at]
            series = self._traffic(times) if kind == "traffic" else self._drift(times)
            self._bodies[key] = ('{"status":"success","data":{"resultType":"matrix","result":[' + ",".join(series) + "]}}").encode()
        return self._bodies[key]

    def _traffic(self, times: list[float]) -> Iterator[str]:
        for rollout, pair in self.pairs.items():
            if not (pair.stable and pair.candidate):
                continue
            for pod in range(ROUTERS):
                target = {"namespace": self.namespace, "pod": f"{rollout}-router-7c9d4f5b6d-rtr{pod}x", "job": "pods"}
                target["instance"] = f"10.0.{pod}.1:9090"
                yield _series({"__name__": profile.PROCESS_START, **target}, _values(times, lambda _: 1.0e9))
                for track, exposure, outcome, count in self._attempts(pair):
                    values = _values(times, count)
                    revision = pair.stable if track == "stable" else pair.candidate
                    labels = {**target, "rollout": rollout, "track": track, "revision": revision, "exposure": exposure, "outcome": outcome}
                    for edge in (*(repr(profile.edge(limit)) for limit in THRESHOLDS_MILLISECONDS), "+Inf"):
                        yield _series({"__name__": profile.BUCKETS, **labels, "le": edge}, values)
                for outcome, count in self._comparisons(pair):
                    labels = {**target, "rollout": rollout, "track": "candidate", "revision": pair.candidate, "exposure": "mirror"}
                    yield _series({"__name__": profile.COMPARISONS, **labels, "outcome": outcome}, _values(times, count))

    def _attempts(self, pair: Pair) -> Iterator[tuple[str, str, str, Count]]:
        whole = REQUESTS_PER_SECOND / ROUTERS
        shares = {
            ("stable", "live"): 1 - CANDIDATE_SHARE,
            ("stable", "mirror"): CANDIDATE_SHARE,
            ("candidate", "live"): CANDIDATE_SHARE,
            ("candidate", "mirror"): 1 - CANDIDATE_SHARE,
        }
        for (track, exposure), share in shares.items():
            good, bad = self._good_and_bad(pair, whole * share)
            for outcome in OUTCOMES:
                if track == "stable":
                    yield track, exposure, outcome, _sum(good, bad) if outcome == "success" else _nothing
                else:
                    yield track, exposure, outcome, {"success": good, "server_error": bad}.get(outcome, _nothing)

    def _comparisons(self, pair: Pair) -> Iterator[tuple[str, Count]]:
        good, bad = self._good_and_bad(pair, REQUESTS_PER_SECOND / ROUTERS)
        for outcome in ("match", "mismatch", "refused", "not_compared", "dropped"):
            yield outcome, {"match": good, "not_compared": bad}.get(outcome, _nothing)

    def _good_and_bad(self, pair: Pair, rate: float) -> tuple[Count, Count]:
        began, breached = pair.began, self.breached

        def good(at: float) -> float:
            return float(int(rate * max(min(at, breached) - began, 0.0)))

        def bad(at: float) -> float:
            return float(int(rate * max(at - breached, 0.0)))

        return good, bad

    def _drift(self, times: list[float]) -> Iterator[str]:
        for pair in self.pairs.values():
            if not pair.candidate:
                continue
            counted = _values(times, _spread(REQUESTS_PER_SECOND / MODEL_PODS / len(profile.bins(11)), pair.began))
            for pod in range(MODEL_PODS):
                target = {
                    "namespace": self.namespace,
                    "pod": f"{pair.replicaset}-mdl{pod}x",
                    "job": "pods",
                    "instance": f"10.1.{pod}.1:4010",
                }
                yield _series({"__name__": profile.PROCESS_START, **target}, _values(times, lambda _: 1.0e9))
                for feature in FEATURES:
                    for name, values in ((profile.FEATURE_BINS, counted), (profile.REFERENCE_BINS, _values(times, lambda _: 1000.0))):
                        for label in profile.bins(11):
                            labels = {**target, "model_version": "v2", "feature": feature, "bin": label}
                            yield _series({"__name__": name, **labels}, values)


def _sum(one: Count, other: Count) -> Count:
    return lambda at: one(at) + other(at)


def _nothing(_: float) -> float:
    return 0.0


def _spread(rate: float, began: float) -> Count:
    return lambda at: float(int(rate * max(at - began, 0.0)))


def _values(times: list[float], count: Count) -> str:
    return "[" + ",".join(f'[{moment:.3f},"{count(moment):g}"]' for moment in times) + "]"


def _series(labels: Mapping[str, str], values: str) -> str:
    return f'{{"metric":{json.dumps(labels)},"values":{values}}}'
