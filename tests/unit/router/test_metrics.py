from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from kanarya_inference.router.breaker import Breaker
from kanarya_inference.router.metrics import GRACE_SECONDS, RouterMetrics
from kanarya_inference.router.model import Attempt
from kanarya_inference.router.settings import Settings, read_settings
from tests.unit.router.cluster import ROLLOUT, configmap, settings_document


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> RouterMetrics:
    return RouterMetrics(ROLLOUT, clock)


def settings(candidate: str | None = "5f6c8d", stable: str = "7d4b9c", **changes: Any) -> Settings:
    tracks = settings_document()["tracks"]
    tracks["candidate"]["revision"], tracks["stable"]["revision"] = candidate, stable
    return read_settings(configmap(tracks=tracks, **changes), ROLLOUT)


def samples(metrics: RouterMetrics, name: str, **labels: str) -> Iterable[Sample]:
    return [
        sample
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def revisions(metrics: RouterMetrics) -> set[tuple[str, str]]:
    return {(s.labels["track"], s.labels["revision"]) for s in samples(metrics, "kanarya_request_duration_seconds_count")}


def test_every_series_exists_at_zero(metrics: RouterMetrics) -> None:
    metrics.follow(settings())
    counts = list(samples(metrics, "kanarya_request_duration_seconds_count"))
    outcomes = ("success", "client_error", "server_error", "timeout", "unreachable", "cancelled")
    expected = set(itertools.product(("stable", "candidate"), ("live", "mirror"), outcomes))
    assert {(s.labels["track"], s.labels["exposure"], s.labels["outcome"]) for s in counts} == expected
    assert all(s.value == 0 and s.labels.keys() == {"rollout", "track", "revision", "exposure", "outcome"} for s in counts)
    compared = list(samples(metrics, "kanarya_comparisons_total", track="candidate", exposure="mirror", revision="5f6c8d"))
    assert {s.labels["outcome"]: s.value for s in compared} == {"match": 0, "mismatch": 0, "refused": 0, "not_compared": 0, "dropped": 0}
    reasons = {s.labels["reason"] for s in samples(metrics, "kanarya_fallbacks_total", track="candidate", revision="5f6c8d")}
    assert reasons == {"server_error", "timeout", "unreachable"}
    assert samples(metrics, "process_start_time_seconds")


def test_no_candidate_no_series_of_it(metrics: RouterMetrics) -> None:
    metrics.follow(settings(None))
    assert revisions(metrics) == {("stable", "7d4b9c")}
    assert not samples(metrics, "kanarya_comparisons_total")


def test_buckets_are_the_settings_in_seconds(metrics: RouterMetrics) -> None:
    metrics.follow(settings(latencyBucketsMilliseconds=[80, 120.5, 5000]))
    bounds = {s.labels["le"] for s in samples(metrics, "kanarya_request_duration_seconds_bucket")}
    assert bounds == {"0.08", "0.1205", "5.0", "+Inf"}


def test_attempt_at_a_bound_is_within_it(metrics: RouterMetrics) -> None:
    metrics.follow(settings())
    metrics.series("stable", "7d4b9c").observe("live", Attempt("success", 0.08))
    (within,) = samples(metrics, "kanarya_request_duration_seconds_bucket", track="stable", exposure="live", outcome="success", le="0.08")
    assert within.value == 1


@pytest.mark.parametrize("seconds", [0.04, 5.0, 15.0])
def test_timeouts_are_above_every_bucket(metrics: RouterMetrics, seconds: float) -> None:
    metrics.follow(settings())
    metrics.series("candidate", "5f6c8d").observe("mirror", Attempt("timeout", seconds))
    found = {
        s.labels["le"]: s.value
        for s in samples(metrics, "kanarya_request_duration_seconds_bucket", outcome="timeout", exposure="mirror", track="candidate")
    }
    assert found.pop("+Inf") == 1
    assert set(found.values()) == {0}


def test_left_revision_goes_after_the_grace(metrics: RouterMetrics, clock: Clock) -> None:
    metrics.follow(settings())
    metrics.watch_breaker("candidate", "5f6c8d", Breaker(clock))
    gone = metrics.series("candidate", "5f6c8d")
    metrics.follow(settings("next"))
    clock.now += GRACE_SECONDS - 1
    assert revisions(metrics) == {("stable", "7d4b9c"), ("candidate", "5f6c8d"), ("candidate", "next")}
    clock.now += 1
    assert revisions(metrics) == {("stable", "7d4b9c"), ("candidate", "next")}
    for name in ("kanarya_comparisons_total", "kanarya_fallbacks_total", "kanarya_mirror_breaker_open"):
        assert not samples(metrics, name, revision="5f6c8d")
    gone.observe("mirror", Attempt("success", 0.1))  # an attempt that ends late
    assert ("candidate", "5f6c8d") not in revisions(metrics)


def test_revision_that_comes_back_keeps_its_counts(metrics: RouterMetrics, clock: Clock) -> None:
    metrics.follow(settings())
    metrics.series("candidate", "5f6c8d").observe("live", Attempt("success", 0.1))
    metrics.follow(settings(None))
    clock.now += 10
    metrics.follow(settings())
    clock.now += GRACE_SECONDS * 2
    counts = samples(metrics, "kanarya_request_duration_seconds_count", revision="5f6c8d")
    assert sum(s.value for s in counts) == 1


def test_new_stable_revision(metrics: RouterMetrics, clock: Clock) -> None:
    metrics.follow(settings())
    metrics.follow(settings(None, "5f6c8d"))
    clock.now += GRACE_SECONDS
    assert revisions(metrics) == {("stable", "5f6c8d")}


def test_new_buckets_begin_anew(metrics: RouterMetrics) -> None:
    metrics.follow(settings())
    metrics.series("stable", "7d4b9c").observe("live", Attempt("success", 0.1))
    metrics.series("candidate", "5f6c8d").comparisons["match"].inc()
    metrics.follow(settings(latencyBucketsMilliseconds=[100, 200]))
    assert all(s.value == 0 for s in samples(metrics, "kanarya_request_duration_seconds_count"))
    metrics.series("stable", "7d4b9c").observe("live", Attempt("success", 0.1))
    assert sum(s.value for s in samples(metrics, "kanarya_request_duration_seconds_bucket", le="0.1")) == 1
    assert sum(s.value for s in samples(metrics, "kanarya_comparisons_total")) == 1
