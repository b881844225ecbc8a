"""A Prometheus in memory, and routers and model pods for it to scrape."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kanarya.telemetry.collector import ReadRequest
from kanarya.telemetry.source import Series, SourceConfig, SourceError

Labels = tuple[tuple[str, str], ...]
EDGES = ("0.08", "0.12", "1.0", "+Inf")


EXPOSITIONS = Path(__file__).parent / "expositions"
"""What other servers expose; each file begins with what it is from."""


def exposition(page: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Read a page. The client library's own parser calls counters `_total` that are not called so."""
    for line in (EXPOSITIONS / f"{page}.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            name, _, labels = series.partition("{")
            yield name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)


class FakePrometheus:
    """Keeps samples and answers selectors as Prometheus does; `fail` is raised instead when set, and `nothing` is all it shows."""

    def __init__(self, scrape: float = 5.0) -> None:
        self.config = SourceConfig(url="http://prometheus.test", scrape_interval_seconds=scrape)
        self.clock_ahead = 0.0
        self.clock_behind = 0.0
        self.samples: dict[Labels, list[tuple[float, float]]] = {}
        self.asked: list[tuple[str, float]] = []
        self.fail: BaseException | None = None
        self.nothing = False
        self.closed = False

    def put(self, at: float, value: float, **labels: str) -> None:
        labels["__name__"] = labels.pop("name")
        self.samples.setdefault(tuple(sorted(labels.items())), []).append((at, value))

    def scrape(self, at: float, *pods: Pod, job: str = "pods") -> None:
        for pod in pods:
            target = {"namespace": pod.namespace, "pod": pod.name, "job": job, "instance": f"{pod.name}:9090"}
            for name, labels, value in pod.expose():
                self.put(at, value, name=name, **labels, **target)

    async def query(self, promql: str, at: float, *, lookback_seconds: float | None = None) -> list[Series]:
        self.asked.append((promql, at))
        if self.fail is not None:
            raise self.fail
        found = re.fullmatch(r"\{(.*)\}\[(\d+)s\]", promql)
        assert found is not None, promql
        start = at - int(found[2])
        matchers = [(name, sign, ast.literal_eval(text)) for name, sign, text in re.findall(r'(\w+)(=~|!=)("(?:[^"\\]|\\.)*")', found[1])]
        result: list[Series] = []
        if self.nothing:
            return result
        for key, samples in self.samples.items():
            labels = dict(key)
            visible = tuple(sample for sample in samples if start < sample[0] <= at)
            if visible and all(_matches(labels.get(name, ""), sign, value) for name, sign, value in matchers):
                result.append(Series(labels, visible))
        return result

    async def close(self) -> None:
        self.closed = True


def _matches(have: str, sign: str, want: str) -> bool:
    return have != want if sign == "!=" else re.fullmatch(want, have) is not None


def down() -> SourceError:
    return SourceError("unreachable", "Prometheus cannot be reached (ConnectError).")


@dataclass
class Pod:
    """A pod that exposes metrics."""

    name: str
    namespace: str = "shop"
    started: float | None = 500.0

    def expose(self) -> Iterator[tuple[str, dict[str, str], float]]:
        if self.started is not None:
            yield "process_start_time_seconds", {}, self.started


@dataclass
class Router(Pod):
    """An ml-router of the rollout `fraud`."""

    rollout: str = "fraud"
    edges: tuple[str, ...] = EDGES
    attempts: dict[tuple[str, str, str, str], dict[str, float]] = field(default_factory=dict)
    comparisons: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("match", "mismatch", "refused", "not_compared", "dropped"), 0.0)
    )
    breaker: dict[tuple[str, str], float] = field(default_factory=lambda: {("stable", "old"): 0.0, ("candidate", "new"): 0.0})

    def __post_init__(self) -> None:
        for track, revision in (("stable", "old"), ("candidate", "new")):
            for exposure in ("live", "mirror"):
                for outcome in ("success", "client_error", "server_error", "timeout", "unreachable", "cancelled"):
                    self.attempts[track, revision, exposure, outcome] = dict.fromkeys(self.edges, 0.0)

    def answer(self, track: str, exposure: str = "live", outcome: str = "success", seconds: float = 0.01, times: int = 1) -> None:
        row = self.attempts[track, {"stable": "old", "candidate": "new"}[track], exposure, outcome]
        for edge in row:
            if seconds <= float(edge):
                row[edge] += times

    def expose(self) -> Iterator[tuple[str, dict[str, str], float]]:
        yield from super().expose()
        for (track, revision, exposure, outcome), row in self.attempts.items():
            labels = {"rollout": self.rollout, "track": track, "revision": revision, "exposure": exposure, "outcome": outcome}
            for edge, value in row.items():
                yield "kanarya_request_duration_seconds_bucket", {**labels, "le": edge}, value
            yield "kanarya_request_duration_seconds_count", labels, row.get("+Inf", 0.0)
        for outcome, value in self.comparisons.items():
            labels = {"rollout": self.rollout, "track": "candidate", "revision": "new", "exposure": "mirror", "outcome": outcome}
            yield "kanarya_comparisons_total", labels, value
        for (track, revision), value in self.breaker.items():
            yield "kanarya_mirror_breaker_open", {"rollout": self.rollout, "track": track, "revision": revision}, value


@dataclass
class Model(Pod):
    """A pod of the candidate with one feature or more."""

    bins: dict[str, list[float]] = field(default_factory=lambda: {"amount": [0.0] * 11})
    reference: dict[str, list[float]] = field(default_factory=lambda: {"amount": [100.0] * 10 + [3.0]})
    labels: tuple[str, ...] = (*map(str, range(10)), "missing")

    def expose(self) -> Iterator[tuple[str, dict[str, str], float]]:
        yield from super().expose()
        for name, rows in (("ml_feature_bin_total", self.bins), ("ml_feature_reference_bin", self.reference)):
            for feature, row in rows.items():
                for label, value in zip(self.labels, row, strict=False):
                    yield name, {"model_version": "v2", "feature": feature, "bin": label}, value


@dataclass
class Clock:
    """Epoch seconds that tests set."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def request(**changes: object) -> ReadRequest:
    """A look of the rollout `fraud`, from 1000 on."""
    values: dict[str, object] = {
        "namespace": "shop",
        "rollout": "fraud",
        "candidate_revision": "new",
        "stable_revision": "old",
        "thresholds_ms": (80, 120),
        "router_pod_prefix": "fraud-router-",
        "candidate_pod_prefixes": ("fraud-new-",),
        "since": 1000.0,
        "watermark": 1000.0,
        "drift_since": 1000.0,
        "drift_watermark": 1000.0,
        "tick_seconds": 5.0,
    }
    values.update(changes)
    return ReadRequest(**values)  # type: ignore[arg-type]


def assert_nothing(values: Mapping[str, float] | tuple[float, ...]) -> None:
    """Check that no count is anything but 0."""
    assert not any(values.values() if isinstance(values, Mapping) else values)
    assert not any(math.isnan(value) for value in (values.values() if isinstance(values, Mapping) else values))
