"""The profile `kanarya`: what the metrics of ml-router and of the inference server are called, and what they count.

Errors are the outcomes of `ERRORS`; requests are all attempts but `cancelled` ones; attempts slower than T are requests minus those
in the bucket `le=T`, which the router has: it takes its edges from the rollout's thresholds. Identity is the target labels `namespace`
and `pod`. A label of the same name that a pod writes itself arrives as `exported_namespace` or `exported_pod` and is never looked at.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from kanarya.decision.offline import METRIC as OFFLINE_REPORT
from kanarya.telemetry import promql

HISTOGRAM: Final = "kanarya_request_duration_seconds"
"""As Prometheus names it when it keeps native histograms; the series of the classic one is `BUCKETS`."""
BUCKETS: Final = "kanarya_request_duration_seconds_bucket"
COMPARISONS: Final = "kanarya_comparisons_total"
BREAKER: Final = "kanarya_mirror_breaker_open"
PROCESS_START: Final = "process_start_time_seconds"
FEATURE_BINS: Final = "ml_feature_bin_total"
REFERENCE_BINS: Final = "ml_feature_reference_bin"

ERRORS: Final = frozenset({"server_error", "timeout", "unreachable"})
UNANSWERED: Final = frozenset({"timeout", "unreachable"})
NOT_COUNTED: Final = "cancelled"
COMPARED: Final = frozenset({"match", "mismatch"})
REFUSED: Final = "refused"
"""Both tracks refused the request as the client's fault: it says nothing about the candidate."""
MISMATCHED: Final = "mismatch"

MIN_BINS, MAX_BINS = 3, 50
"""Bins of a feature: those of a number lie between its distinct deciles, a category has one for each value, and `missing` is last."""

MAX_FEATURES: Final = 200
MAX_FEATURE_NAME: Final = 200
"""Names of features stand in the checkpoint, which has to stay below 1 MiB."""


def bins(count: int) -> tuple[str, ...]:
    """Name the bins of a feature that has `count` of them, in the order in which their counts stand; none when there cannot be so many."""
    return (*map(str, range(count - 1)), "missing") if MIN_BINS <= count <= MAX_BINS else ()


def edge(threshold_ms: int) -> float:
    """Bucket edge, in seconds, of a threshold in milliseconds."""
    return threshold_ms / 1000


def spellings(threshold_ms: int) -> set[str]:
    """Every way in which exporters and Prometheus write that edge: 1000 ms is `1` and `1.0`."""
    seconds = edge(threshold_ms)
    return {repr(seconds), f"{seconds:.15g}"}


def traffic_query(thresholds_ms: Collection[int], namespaces: Collection[str], pod_prefixes: Collection[str], seconds: int) -> str:
    """Everything the routers count, in one selector.

    One selector is one look of Prometheus at its store, so a scrape is in the answer whole or not at all: buckets, comparisons and
    the start of the process belong together. `le` is empty for all but the classic histogram, whose `+Inf` bucket counts the attempts.
    """
    edges = {"+Inf"}.union(*(spellings(threshold) for threshold in thresholds_ms))
    return promql.samples(
        [
            promql.one_of("__name__", {HISTOGRAM, BUCKETS, COMPARISONS, BREAKER, PROCESS_START}),
            promql.one_of("le", edges, or_absent=True),
            promql.unequal("outcome", NOT_COUNTED),
            promql.one_of("namespace", namespaces),
            promql.starting_with("pod", pod_prefixes),
        ],
        seconds,
    )


def attempts_query(namespace: str, rollout: str, seconds: int, *, exposures: Collection[str] = ("live", "mirror")) -> str:
    """All attempts that the routers of one rollout count, by track and revision."""
    return promql.samples(
        [
            promql.one_of("__name__", {BUCKETS}),
            promql.one_of("le", {"+Inf"}),
            promql.one_of("exposure", exposures),
            promql.one_of("namespace", {namespace}),
            promql.one_of("rollout", {rollout}),
        ],
        seconds,
    )


def drift_query(namespaces: Collection[str], pod_prefixes: Collection[str], seconds: int) -> str:
    """Feature bins and their reference, and the offline report of the model, of the pods of candidates."""
    return promql.samples(
        [
            promql.one_of("__name__", {FEATURE_BINS, REFERENCE_BINS, OFFLINE_REPORT, PROCESS_START}),
            promql.one_of("namespace", namespaces),
            promql.starting_with("pod", pod_prefixes),
        ],
        seconds,
    )
