"""Profiles of other servers: what their metrics are called, and what they count. docs/reference/profiles.md has them as a table.

Each is data. What a server does not tell is measured at ml-router, which sees every attempt of both tracks; `notes` say so. Mismatches
are only known to ml-router. Names and labels are those of the fixtures in `tests/unit/telemetry/expositions`, which say where they come
from.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from kanarya.telemetry import promql
from kanarya.telemetry.profile import PROCESS_START

Check = Literal["errors", "latency"]
Outcome = Literal["good", "error"]

UP: Final = "up"
"""Prometheus' own series of each target: 1 for each scrape that it got."""


@dataclass(frozen=True)
class ServerProfile:
    """How to read requests, errors and durations of one kind of server.

    Attributes
    ----------
    name, title
        As in `analysis.profile`, and for people.
    carries
        The checks that its metrics carry.
    notes
        For each other check, what is measured instead and why.
    histogram, seconds
        Histogram of durations without `_bucket`, and the seconds in its unit. Its count is the count of requests.
    counters
        Counters of requests, where there is no histogram.
    failures
        Those of `counters` that count failed requests only.
    only, never
        Labels and patterns: a series counts if each of `only` matches the label's whole value and none of `never` does. A label that is
        not there is empty.
    errors
        Label and pattern that mark failed requests.
    own_process
        Whether `process_start_time_seconds` of the same target is of the process that counts. A sidecar passes on the model's.
    """

    name: str
    title: str
    carries: frozenset[Check]
    notes: tuple[str, ...] = ()
    histogram: str = ""
    seconds: float = 1.0
    counters: frozenset[str] = frozenset()
    failures: frozenset[str] = frozenset()
    only: Mapping[str, str] = field(default_factory=dict)
    never: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[str, str] | None = None
    own_process: bool = True

    @property
    def series(self) -> frozenset[str]:
        """Names of the series that are counted."""
        return self.counters | ({self.histogram, f"{self.histogram}_bucket"} if self.histogram else frozenset())

    def outcome(self, labels: Mapping[str, str]) -> Outcome | None:
        """Tell what a series counts, None when nothing that matters."""
        name = labels.get("__name__", "")
        if name not in self.series or not all(re.fullmatch(pattern, labels.get(label, "")) for label, pattern in self.only.items()):
            return None
        if any(re.fullmatch(pattern, labels.get(label, "")) for label, pattern in self.never.items()):
            return None
        failed = name in self.failures or (self.errors is not None and re.fullmatch(self.errors[1], labels.get(self.errors[0], "")))
        return "error" if failed else "good"

    def query(self, namespaces: Collection[str], pod_prefixes: Collection[str], seconds: int) -> str:
        """Ask for all that is counted, with every bucket edge: which ones there are is the server's choice."""
        return promql.samples(
            [
                promql.one_of("__name__", {*self.series, UP, *([PROCESS_START] if self.own_process else [])}),
                promql.one_of("namespace", namespaces),
                promql.starting_with("pod", pod_prefixes),
            ],
            seconds,
        )


_BOTH: Final = frozenset[Check]({"errors", "latency"})

_PROFILES: Final = (
    ServerProfile(
        "kserve",
        "KServe's Python server",
        frozenset({"latency"}),
        ("errors are measured at ml-router: KServe's Python server has no counter of them",),
        histogram="request_predict_seconds",
    ),
    ServerProfile(
        "mlserver",
        "MLServer",
        _BOTH,
        # Its counters by model take a request for an unknown model, or with unusable content, for a failure, and have no histogram.
        histogram="rest_server_request_duration_seconds",
        only={"path": r".*/(infer|infer_stream|generate|generate_stream)"},
        errors=("status_code", "5.."),
    ),
    ServerProfile(
        "triton",
        "Triton",
        frozenset({"errors"}),
        ("latency is measured at ml-router: Triton only adds durations up (nv_inference_request_duration_us)",),
        counters=frozenset({"nv_inference_request_success", "nv_inference_request_failure"}),
        failures=frozenset({"nv_inference_request_failure"}),
        never={"reason": "CANCELED"},
    ),
    ServerProfile(
        "bentoml",
        "BentoML",
        _BOTH,
        histogram="bentoml_service_request_duration_seconds",
        never={"endpoint": "/|/livez|/readyz|/healthz|/metrics|/docs.json"},
        errors=("http_response_code", "5.."),
    ),
    ServerProfile(
        "istio",
        "the Istio sidecar of the model's pods",
        _BOTH,
        histogram="istio_request_duration_milliseconds",
        seconds=0.001,
        only={"reporter": "destination"},
        never={"response_code": "0"},  # the caller went away; if ml-router did for lack of an answer, it counts that itself
        errors=("response_code", "5.."),
        own_process=False,
    ),
    ServerProfile(
        "envoy-gateway",
        "Envoy Gateway",
        frozenset(),
        (
            "errors are measured at ml-router: Envoy Gateway counts both tracks in one cluster",
            "latency is measured at ml-router: Envoy Gateway counts both tracks in one cluster",
        ),
    ),
)

PROFILES: Final[Mapping[str, ServerProfile]] = {profile.name: profile for profile in _PROFILES}
"""All but `kanarya`, by name."""
