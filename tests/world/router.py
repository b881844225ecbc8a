"""One process of ml-router: the real control decides what is in force, the counters are the world's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from kanarya.cluster.port import Object
from kanarya_inference.router.control import Control

Track = Literal["stable", "candidate"]
Labels = tuple[tuple[str, str], ...]
Row = tuple[Labels, float]
OUTCOMES = ("success", "client_error", "server_error", "timeout", "unreachable")
COMPARISONS = ("match", "mismatch", "refused", "not_compared", "dropped")


@dataclass
class Truth:
    """What really became of the requests to a revision, since the world began."""

    live: int = 0
    live_errors: int = 0
    live_slow: int = 0
    live_very_slow: int = 0
    mirror: int = 0
    mirror_errors: int = 0
    mirror_slow: int = 0
    mirror_very_slow: int = 0
    compared: int = 0
    mismatched: int = 0

    def copy(self) -> Truth:
        return Truth(**vars(self))

    def minus(self, other: Truth) -> Truth:
        return Truth(**{key: value - getattr(other, key) for key, value in vars(self).items()})

    def plus(self, other: Truth) -> Truth:
        return Truth(**{key: value + getattr(other, key) for key, value in vars(self).items()})


class _Pool:
    """Stands in for the router's pool of endpoints: the world does the sending."""

    ready = True
    synced = True


class _NoMetrics:
    """Stands in for the router's metrics: the world counts by itself."""

    def follow(self, settings: Any) -> None: ...
    def series(self, track: str, revision: str) -> None: ...
    def watch_breaker(self, track: str, revision: str, suspended: Any) -> None: ...
    def in_force(self, generation: int, weights: Any) -> None: ...


@dataclass(eq=False)
class Router:
    """One process of ml-router: its control, its counters."""

    name: str
    rollout: str
    started: float
    began: float
    clock: Callable[[], float]
    attempts: dict[tuple[Track, str, str, str], list[int]] = field(default_factory=dict)
    comparisons: dict[str, dict[str, int]] = field(default_factory=dict)
    open_until: dict[tuple[Track, str], float] = field(default_factory=dict)
    truth: dict[str, Truth] = field(default_factory=dict)
    edges: tuple[str, str] = ("0.08", "0.12")
    _labels: dict[Any, Labels] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pool: Any = lambda _: _Pool()  # noqa: E731
        metrics: Any = _NoMetrics()
        self.control = Control(self.rollout, pool, metrics, self.clock)

    @property
    def candidate(self) -> str | None:
        """Revision of the candidate by the settings in force."""
        plan = self.control.plan
        return None if plan is None else plan.candidate.revision

    def share(self) -> float:
        """Give the candidate's share of live requests, as this router has it in force."""
        plan = self.control.plan
        return 0.0 if plan is None else 1 - plan.stable_weight / plan.total_weight

    def follow(self, route: Object | None, settings: Object | None) -> None:
        """Take note of the route and the settings."""
        self.control.see_settings(settings)
        self.control.see_route(route)
        plan = self.control.plan
        if plan is None or plan.stable.revision is None:
            return
        self._name("stable", plan.stable.revision)
        if plan.candidate.revision is not None:
            self._name("candidate", plan.candidate.revision)
            self.comparisons.setdefault(plan.candidate.revision, dict.fromkeys(COMPARISONS, 0))

    def _name(self, track: Track, revision: str) -> None:
        """Make every series of a revision exist at 0."""
        self.truth.setdefault(revision, Truth())
        self.open_until.setdefault((track, revision), 0.0)
        for exposure in ("live", "mirror"):
            for outcome in OUTCOMES:
                self.attempts.setdefault((track, revision, exposure, outcome), [0, 0, 0])

    def suspended(self, track: Track, revision: str) -> bool:
        return self.open_until.get((track, revision), 0.0) != 0.0

    def count(self, track: Track, revision: str, exposure: str, outcome: str, numbers: tuple[int, int, int]) -> None:
        """Count attempts: within the SLO, within the abort level, all."""
        row = self.attempts.setdefault((track, revision, exposure, outcome), [0, 0, 0])
        for index, number in enumerate(numbers):
            row[index] += number

    def expose(self) -> Iterator[Row]:
        yield self._key("process_start_time_seconds"), self.started
        for (track, revision, exposure, outcome), row in self.attempts.items():
            for edge, value in zip((*self.edges, "+Inf"), row, strict=True):
                key = self._key("kanarya_request_duration_seconds_bucket", track, revision, exposure, outcome, edge)
                yield key, float(value)
        for revision, row_of in self.comparisons.items():
            for outcome, value in row_of.items():
                yield self._key("kanarya_comparisons_total", "candidate", revision, "mirror", outcome), float(value)
        for track, revision in self.open_until:
            yield self._key("kanarya_mirror_breaker_open", track, revision), float(self.suspended(track, revision))

    def _key(self, name: str, *values: str) -> Labels:
        known = self._labels.get((name, *values))
        if known is None:
            keys = ("track", "revision", "exposure", "outcome", "le")
            labels = {"__name__": name, **dict(zip(keys, values, strict=False))}
            if values:
                labels["rollout"] = self.rollout
            known = self._labels[name, *values] = tuple(sorted(labels.items()))
        return known
