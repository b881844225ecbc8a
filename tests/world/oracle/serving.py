"""Who answers live requests: only revisions that were judged (10), and the pinned stable (7), which is always there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kanarya.cluster import names
from kanarya.cluster.port import Object
from tests.world.router import Track
from tests.world.service import NAME
from tests.world.traffic import Pod

if TYPE_CHECKING:
    from tests.world.oracle import Oracle

REPAIR_SECONDS = 45.0
"""What somebody else broke may be broken so long: an event may be lost, pods have to start."""


HINDERED_SECONDS = 120.0


class Serving:
    """Told of every live request."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle, self._world = oracle, oracle.world
        self.proven: set[str] = set()
        """Revisions that may be stable: the one adopted, and those that went all the way."""
        self.trusted: set[str] = set()
        """Revisions that were found first, and so never judged."""
        self._refused_at = float("-inf")
        """When the rollout last waited for its owner, by the requests that came meanwhile."""

    def served(self, track: Track, pod: Pod, number: int) -> None:
        if track == "candidate":
            judged = self._world.oracle.writes.reached(pod.revision) or pod.revision in self.proven
            if not judged and not self._excused("route", "settings", "candidate Service"):
                self._oracle.violated(10, f"{number} live requests reached {pod.name} before its revision was judged")
        elif self.proven and pod.revision not in self.proven and not self._excused("stable Service", "stable"):
            self._oracle.violated(7, f"{number} live requests for stable reached {pod.name}, which was never shown good")
        elif self._foreign(pod) and not (self._excused("stable") or self._refused()):
            self._oracle.violated(7, f"{pod.name} of revision {pod.revision} serves image {pod.image}")

    def _foreign(self, pod: Pod) -> bool:
        """Whether somebody has given a pod another image than its revision has."""
        return self._world.revision(pod.image.partition(":")[2]) != pod.revision

    def _refused(self) -> bool:
        """Whether the rollout has been told what its owner must change first, or was until a moment ago: the repair takes its time."""
        if self._world.status().get("summary") == "Refused":
            self._refused_at = self._world.now()
        return self._world.now() - self._refused_at < REPAIR_SECONDS

    def deployment_changed(self, old: Object | None, new: Object | None) -> None:
        """The operator has written a Deployment: when it takes the target away, stable has to serve what it is adopted as."""
        if old is None or new is None or new["metadata"]["name"] != NAME or new["spec"]["replicas"] or not old["spec"]["replicas"]:
            return
        for pod in self._world.traffic.serving("stable"):
            if self._foreign(pod) and not self._excused("stable"):
                self._oracle.violated(7, f"the target goes while {pod.name} of revision {pod.revision} has image {pod.image}")

    def unserved(self, number: int) -> None:
        """Live requests came for stable, and it had no ready pod."""
        if self._world.checkpoint().get("stable") and not self._excused("stable", "stable Service", "stable pods", "settings"):
            self._oracle.violated(10, f"{number} live requests found no ready pod of stable")

    def service_changed(self, service: Object, *, late: bool) -> None:
        """The operator has written a Service; `late`: the server has only now come to it, at whatever weight there is by now."""
        if service["metadata"]["name"] != names.stable_service(NAME):
            return
        revision = (service["spec"].get("selector") or {}).get(names.REVISION)
        if revision is None or revision in self.proven:
            return
        # Somebody has deleted the rollout and stable's Deployment: the next rollout begins with what there is.
        anew = {"rollout", "stable deleted"} <= self._oracle.touched.keys()
        if not self._world.checkpoint().get("stable") or anew:  # what is found first is trusted
            self.proven.add(revision)
            self.trusted.add(revision)
            return
        total = self._world.oracle.writes.latched_plan().get("weightTotal", 100)
        at_full_weight = late or self._world.weight() == total
        if not at_full_weight or self._world.oracle.writes.reached(revision) != total:
            self._oracle.violated(7, f"stable goes to revision {revision} at weight {self._world.weight()}")
        self.proven.add(revision)

    def _excused(self, *things: str) -> bool:
        """Whether somebody broke one of these a while ago; longer ago when the operator was kept from seeing or repairing it."""
        broken = self._oracle.since_touched(*things)
        hindered = self._oracle.since_touched("api") < broken + REPAIR_SECONDS
        return broken < (HINDERED_SECONDS if hindered else REPAIR_SECONDS)
