"""One answer of Prometheus, put in order once, so that each rollout only looks at its own series."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from kanarya.telemetry import profile
from kanarya.telemetry.counting import LAG_SECONDS, UNKNOWN_START, Starts
from kanarya.telemetry.source import Series

Target = tuple[str, str, str, str]
"""Who was scraped: namespace, pod, job, instance."""


def target_of(labels: Mapping[str, str]) -> Target:
    """Take the identity that the scraper gave, never one that the pod wrote."""
    return labels.get("namespace", ""), labels.get("pod", ""), labels.get("job", ""), labels.get("instance", "")


class Snapshot:
    """Samples of one moment.

    Attributes
    ----------
    at
        The moment, on our clock.
    start
        The window's far end.
    settled
        Up to here every sample is in: `at` less the lag, less what our clock is ahead.
    behind
        What our clock may be behind: a sample of the source's is that much older than its time says.
    known_from
        Time of the earliest sample in the answer, infinite when there is none.
    """

    def __init__(self, series: Sequence[Series], *, at: float, start: float, clock_ahead: float = 0.0, clock_behind: float = 0.0) -> None:
        self.at = at
        self.start = start
        self.behind = clock_behind
        self.settled = at - clock_ahead - LAG_SECONDS
        self.known_from = min((one.samples[0][0] for one in series if one.samples), default=math.inf)
        self._starts: dict[Target, Starts] = {}
        self._rollouts: dict[tuple[str, str], list[Series]] = {}
        self._pods: dict[str, dict[str, list[Series]]] = {}
        self._pod_starts: dict[tuple[str, str], list[Starts]] = {}
        for one in series:
            if one.samples:
                self._sort_in(one)

    def _sort_in(self, one: Series) -> None:
        target = target_of(one.labels)
        name = one.labels.get("__name__", "")
        if name == profile.PROCESS_START:
            starts = Starts(one.samples)
            self._starts[target] = starts
            self._pod_starts.setdefault(target[:2], []).append(starts)
        elif name in {profile.HISTOGRAM, profile.BUCKETS, profile.COMPARISONS, profile.BREAKER}:
            self._rollouts.setdefault((target[0], one.labels.get("rollout", "")), []).append(one)
        else:
            self._pods.setdefault(target[0], {}).setdefault(target[1], []).append(one)

    def starts(self, one: Series) -> Starts:
        """Start times of the process behind a series."""
        return self._starts.get(target_of(one.labels), UNKNOWN_START)

    def scrapes(self, namespace: str, pod: str) -> Iterable[float]:
        """Times at which a pod is known to have been scraped, whatever its other series say."""
        return (at for starts in self._pod_starts.get((namespace, pod), ()) for at in starts.times)

    def of_rollout(self, namespace: str, rollout: str) -> Sequence[Series]:
        """Series that name a rollout, from any pod of the namespace: the caller checks the pod."""
        return self._rollouts.get((namespace, rollout), ())

    def of_namespace(self, namespace: str) -> Mapping[str, Sequence[Series]]:
        """All other series of a namespace, by pod."""
        return self._pods.get(namespace, {})
