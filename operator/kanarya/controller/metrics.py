"""The operator's own metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from kanarya.controller.queue import Key
from kanarya.decision.draft import Decision
from kanarya.decision.state import Run
from kanarya.decision.verdict import METRICS, Kind


class Metrics:
    """What `/metrics` of the operator shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._own: dict[Key, set[str]] = {}
        """Metrics of the teams' own that are shown now."""
        ProcessCollector(registry=self.registry)
        rollout = ["namespace", "rollout"]
        metric = [*rollout, "metric"]
        self.reconciles = Counter("kanarya_reconciles_total", "Passes over a rollout.", ["result"], registry=self.registry)
        self.duration = Histogram("kanarya_reconcile_duration_seconds", "Time of one pass.", registry=self.registry)
        self.queue = Gauge("kanarya_queue_overdue", "Rollouts whose pass should have begun by now.", registry=self.registry)
        self.weight = Gauge("kanarya_rollout_weight", "The candidate's weight as last carried out.", rollout, registry=self.registry)
        self.verdict = Gauge("kanarya_rollout_verdict", "1 for the verdict that holds now.", [*metric, "verdict"], registry=self.registry)
        self.value = Gauge("kanarya_rollout_value", "Observed value of a metric, in its own unit.", metric, registry=self.registry)
        self.limit = Gauge("kanarya_rollout_limit", "Limit of a metric.", [*metric, "limit"], registry=self.registry)
        self.samples = Gauge("kanarya_rollout_samples", "Samples of the step.", metric, registry=self.registry)
        self.age = Gauge("kanarya_rollout_data_age_seconds", "Age of the newest sample of the candidate.", rollout, registry=self.registry)
        self.rollback = Histogram(
            "kanarya_rollback_seconds",
            "From the decision to roll back until weight 0 is on the route.",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self.registry,
        )

    def show(self, key: Key, decision: Decision, run: Run | None, now: float, newest: float | None) -> None:
        """Show what was decided of one rollout, and its run as that left it."""
        self.weight.labels(*key).set(0 if run is None else run.weight)
        if newest is not None:
            self.age.labels(*key).set(max(now - newest, 0.0))
        elif run is None:
            self.age.remove(*key)
        own = {name for name in decision.verdicts if name not in METRICS}
        for name in self._own.pop(key, set()) - own:
            self._remove(key, name)
        if own:
            self._own[key] = own
        for name in (*METRICS, *sorted(own)):
            verdict = decision.verdicts.get(name)
            for kind in Kind:
                self.verdict.labels(*key, name, kind.value).set(verdict is not None and verdict.kind is kind)
            if verdict is None:  # no run is judged: yesterday's numbers would only mislead
                self.samples.remove(*key, name)
                self.value.remove(*key, name)
                for limit in ("slo", "abort"):
                    self.limit.remove(*key, name, limit)
                continue
            self.samples.labels(*key, name).set(verdict.have)
            for limit, value in (("slo", verdict.slo), ("abort", verdict.abort)):
                if value is not None:
                    self.limit.labels(*key, name, limit).set(value)
            if verdict.estimate is not None:
                self.value.labels(*key, name).set(verdict.estimate)

    def _remove(self, key: Key, metric: str) -> None:
        """Remove the series of a metric of the team's own."""
        for family in (self.verdict, self.value, self.limit, self.samples):
            for labels in [labels for labels in _children(family) if labels[:3] == (*key, metric)]:
                family.remove(*labels)

    def forget(self, key: Key) -> None:
        """Remove the series of a rollout that is gone."""
        self._own.pop(key, None)
        for family in (self.weight, self.verdict, self.value, self.limit, self.samples, self.age):
            for labels in [labels for labels in _children(family) if labels[:2] == key]:
                family.remove(*labels)

    def exposition(self) -> bytes:
        """Give the text that Prometheus scrapes."""
        return generate_latest(self.registry)


def _children(family: Gauge) -> list[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for metric in family.collect():
        found |= {tuple(sample.labels.values()) for sample in metric.samples}
    return sorted(found)
