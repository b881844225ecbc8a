"""What a look at Prometheus is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from kanarya.api.rollout import Analysis, CustomMetric
from kanarya.decision.offline import required
from kanarya.decision.state import Run, Stage, counted_to

_REPLICA = re.compile(r"[a-z0-9]+(-[a-z0-9]+)?")
"""What a ReplicaSet or a StatefulSet puts behind a pod's name: `6c9f8d-x2x4z`, or `0`."""
_POD = re.compile(r"[a-z0-9]+")
"""What Kubernetes puts behind the name of a pod's ReplicaSet."""


@dataclass(frozen=True)
class CustomRequest:
    """A metric of the team's own, and up to where it is counted already (epoch seconds)."""

    metric: CustomMetric
    watermark: float


@dataclass(frozen=True)
class ReadRequest:
    """One look for one rollout. Times are epoch seconds.

    Attributes
    ----------
    namespace, rollout
        Whose series: the target label `namespace` and the router's label `rollout`.
    candidate_revision, stable_revision
        The revisions whose series count; those of others are left alone.
    thresholds_ms
        Latencies, in milliseconds, above which attempts are counted as slower.
    router_pod_prefix
        What the names of the rollout's router pods begin with (`fraud-router-`): only their word counts for traffic.
    candidate_pod_prefixes
        What the names of the candidate's pods begin with (`fraud-5f6c8d-`): only their word counts for drift.
    stable_pod_prefix
        What the names of stable's pods begin with (`fraud-stable-7d4b9c-`), for profiles that read model servers.
    profile
        Whose metrics errors and latency are counted from: `kanarya`, or a name of `servers.PROFILES`.
    since, watermark
        Start of the span, and up to where it is counted already (`watermark` >= `since`).
    drift_since, drift_watermark
        The same for drift.
    tick_seconds
        Longest usual time between two looks.
    tells_queries
        Whether the reading is to name what was asked: evidence wants it once, when a run begins.
    custom
        Metrics of the team's own.
    wants_report
        Whether the reading is to hold the offline reports of the candidate's model: Preflight may ask for them.
    """

    namespace: str
    rollout: str
    candidate_revision: str
    stable_revision: str
    thresholds_ms: tuple[int, ...]
    router_pod_prefix: str
    candidate_pod_prefixes: tuple[str, ...]
    since: float
    watermark: float
    drift_since: float
    drift_watermark: float
    tick_seconds: float
    stable_pod_prefix: str = ""
    profile: str = "kanarya"
    custom: tuple[CustomRequest, ...] = ()
    tells_queries: bool = True
    wants_report: bool = False

    @classmethod
    def of(
        cls,
        run: Run,
        analysis: Analysis,
        *,
        namespace: str,
        rollout: str,
        stable_revision: str,
        router_pod_prefix: str,
        candidate_pod_prefixes: tuple[str, ...],
        stable_pod_prefix: str,
    ) -> Self:
        """Give the request for the next look at a run."""
        return cls(
            namespace=namespace,
            rollout=rollout,
            candidate_revision=run.candidate.revision,
            stable_revision=stable_revision,
            thresholds_ms=(analysis.latency.slo_milliseconds, analysis.latency.abort_milliseconds),
            router_pod_prefix=router_pod_prefix,
            candidate_pod_prefixes=candidate_pod_prefixes,
            since=run.weight_since,
            watermark=run.watermark,
            drift_since=run.drift_since,
            drift_watermark=run.drift_watermark,
            tick_seconds=float(analysis.interval_seconds),
            stable_pod_prefix=stable_pod_prefix,
            profile=analysis.profile,
            custom=tuple(CustomRequest(metric, counted_to(run, metric.name)) for metric in analysis.metrics),
            tells_queries=run.spec is None,
            wants_report=required(analysis) and run.stage is Stage.PREFLIGHT,
        )

    def is_router(self, pod: str) -> bool:
        """Tell a router pod of this rollout from, say, a model pod of a rollout that is called `fraud-router-eu`."""
        return pod.startswith(self.router_pod_prefix) and _REPLICA.fullmatch(pod, len(self.router_pod_prefix)) is not None

    def is_candidate(self, pod: str) -> bool:
        """Tell the candidate's pods from, say, those of a Deployment that is called `fraud-5f6c8d`."""
        return any(prefix and pod.startswith(prefix) and _POD.fullmatch(pod, len(prefix)) for prefix in self.candidate_pod_prefixes)

    def is_stable(self, pod: str) -> bool:
        """Tell stable's pods from others; their names hold the hash of their own ReplicaSet, too."""
        prefix = self.stable_pod_prefix
        return bool(prefix) and pod.startswith(prefix) and _REPLICA.fullmatch(pod, len(prefix)) is not None
