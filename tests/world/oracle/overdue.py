"""Down within bounds (2): what asks for weight 0 has it before long, while somebody could do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kanarya.cluster import names
from kanarya.cluster.port import DEPLOYMENTS, ROLLOUTS
from kanarya.controller.reconcile import SAVE_SECONDS
from kanarya.telemetry.look import STALE_SCRAPES, STALE_SLACK_SECONDS
from kanarya.telemetry.source import DATE_SECONDS, MAX_SKEW_SECONDS
from tests.world.oracle.writes import breach_beyond_doubt
from tests.world.service import NAME

if TYPE_CHECKING:
    from tests.world.oracle import Oracle

TICK_SECONDS = 0.5
BOUND_SECONDS = 12.0
"""For a pass under way, which may wait for Prometheus, then the next one."""
DEAF_SECONDS = 80.0
"""After watch events were lost, a rollout without a run is looked at within a minute or so."""


class Overdue:
    """Counts the seconds in which a weight stands that should not, and an operator could have lowered it."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle, self._world = oracle, oracle.world
        self._asked: dict[str, float] = {}

    def tick(self) -> None:
        reasons = self._reasons() if self._world.weight() else {}
        able = self._able()
        self._asked = {reason: self._asked.get(reason, 0.0) + TICK_SECONDS * able for reason in reasons}
        for reason, seconds in self._asked.items():
            if seconds > reasons[reason]:
                self._oracle.violated(
                    2, f"{reason}, and weight {self._world.weight()} stood for {seconds:.0f} s that an operator was able to lower it"
                )

    def _able(self) -> bool:
        """Whether some operator has been up for a moment, with an API server that answers."""
        now = self._world.now()
        return not self._world.weather and any(now - operator.booted > 1.0 for operator in self._world.operators)

    def _storm(self) -> bool:
        """Whether stable fails as well: method Sequential then asks whether the candidate is worse."""
        fails = not self._world.stable_is_sound() or self._world.traffic.ready("stable") == 0
        return fails and self._oracle.writes.latched_analysis()["method"] == "Sequential"

    def _clocks_apart(self) -> bool:
        """Whether the operator's clock is so far off that it believes no sample."""
        return abs(self._world.operator_offset) > MAX_SKEW_SECONDS - 1

    def _time_comes_again(self) -> bool:
        """Whether Prometheus may still show what it stored before its clock was set back: until that is stale nobody goes by its samples."""
        stale = STALE_SCRAPES * self._world.story.scrape + STALE_SLACK_SECONDS
        return self._world.wall() < self._world.latest_wall + stale + DATE_SECONDS

    def _reasons(self) -> dict[str, float]:
        """Give what asks for weight 0 now, and how long it may take."""
        writes, prometheus = self._oracle.writes, self._world.prometheus
        rollout, target = self._world.api.peek(ROLLOUTS, NAME), self._world.api.peek(DEPLOYMENTS, NAME)
        run = self._world.checkpoint().get("run")
        slow = 15.0 if prometheus.trouble in ("hanging", "slow") else 0.0
        bound = BOUND_SECONDS + slow + (DEAF_SECONDS if self._oracle.since_touched("events") < DEAF_SECONDS else 0.0)
        found: dict[str, float] = {}
        if rollout is None:
            return {"the rollout is gone": bound}
        if run is None and self._oracle.lenient and self._world.status().get("summary") == "Refused":
            return {}  # known: nothing is repaired for a rollout that is refused; no router sends anything to a candidate then
        if run is None and self._oracle.since_touched("checkpoint") < SAVE_SECONDS + BOUND_SECONDS:
            return {}  # the operator goes by what it remembers, and writes it again at its next save
        if run is None:
            return {"no run is on": bound}
        if rollout["metadata"].get("annotations", {}).get(names.ABORT) == run["id"]:
            found["the run is aborted"] = bound
        if target is None:
            found["the target is gone"] = bound
        elif self._world.revision(self._world.desired) != run["candidate"]["revision"] and run["stage"] != "Promoting":
            found["the target has another revision"] = bound
        candidate = run["candidate"]["revision"]
        blind = prometheus.trouble or prometheus.down or self._clocks_apart() or self._time_comes_again()
        if run["stage"] in ("Stepping", "Soaking") and not blind:
            counted, spoiled = writes.counted(candidate, writes.counted_from, self._world.now() - 2.5, stamped=writes.stamped_from())
            breach = breach_beyond_doubt(counted, writes.latched_analysis())
            if breach and not spoiled and not self._storm():
                found["the candidate is beyond its limits"] = bound
        return found
