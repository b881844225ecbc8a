"""Writes of the operators: up needs proof (1, 3), down needs nothing (2), and only what is its own (8)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import log, log1p
from typing import TYPE_CHECKING, Any

from kanarya.cluster import names
from kanarya.cluster.fake import Call
from kanarya.cluster.port import CONFIGMAPS, DEPLOYMENTS, EVENTS, HTTPROUTES, ROLLOUTS, SERVICES, Object
from kanarya.telemetry.counting import LAG_SECONDS
from tests.world.client import READS
from tests.world.operators import Operator, Pass
from tests.world.router import Truth
from tests.world.service import NAME, weight_of

if TYPE_CHECKING:
    from tests.world.oracle import Oracle

CATCH_UP_SECONDS = 60.0
"""All clocks are set back by less than this."""
SHARED_SECONDS = 1.0
"""An answer of Prometheus may be used again so long."""
FEWEST_BAD = 3
ADVANCE = 0.95
"""The default of confidence.advance."""
DOUBT_NATS = 170.0
"""The most that method Sequential asks for here: ln(1 / alpha) of one of its tests is 9, its choice of alternatives costs up to 5, and after
an outage of stable, whose failures come in bursts, counts are divided by a design effect of up to 12."""
WORSE_NATS = 100.0
"""The same for "worse than slo": ln(1 / 0.05) is 3, its choice of alternatives costs up to 5."""
BORDER = 1.5
"""When the weight changed in between, the operator has lost a scrape there: a rate near the limit may look different to it."""


Rate = tuple[str, int, int, float]
"""What it is of, how many bad, of how many, and the limit."""


class Writes:
    """Checks each call of an operator as it arrives, and each change of the route as it is made."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle, self._world = oracle, oracle.world
        self.weight_changed = 0.0
        """When the weight on the route last changed, whoever changed it."""
        self.counted_from = 0.0
        """The same, but for a foreign rise and its repair: the candidate has to answer for what was counted before."""
        self._own = 0
        """The weight that the operator has set, or that somebody has cut it to."""
        self._unseen = False
        """Whether somebody has cut the weight while no operator was there."""
        self._earlier = 0, 0.0
        """Own weight and begin of counting before the last rise."""
        self.raised: dict[str, int] = {}
        """By run: the highest weight that an operator has raised it to, with proof."""

    def reached(self, revision: str) -> int:
        """Give the highest weight that a run of a revision has had."""
        return max((weight for run, weight in self.raised.items() if run.rpartition("-")[0] == revision), default=0)

    # -- calls ------------------------------------------------------------------------------------------------------------

    def call_arrives(self, one: Pass | None, call: Call) -> None:
        if one is None:
            return
        if one.rolling_back and len(one.calls) == 1 and not self._lowers(call, 0):
            self._oracle.violated(2, f"a pass with a rollback due begins with {call.verb} {call.resource.plural}")
        if call.verb in READS:
            return
        self._check_owned(call)
        self._check_downward(one, call)

    def _lowers(self, call: Call, limit: int) -> bool:
        return (
            call.resource == HTTPROUTES and call.verb in ("merge_patch", "create", "replace") and _weight_in(call.body) in range(limit + 1)
        )

    def _check_downward(self, one: Pass, call: Call) -> None:
        present = self._world.weight() or 0
        if not present or not self._lowers(call, present - 1) or self._outdated_rise(one, call):
            return
        if (call.body.get("metadata") or {}).get("resourceVersion"):
            self._oracle.violated(2, "a downward write is guarded by a resourceVersion")
        earlier = next((other for other in one.calls[:-1] if other.verb not in READS and other.resource != HTTPROUTES), None)
        if earlier is not None:
            self._oracle.violated(2, f"{earlier.verb} {earlier.resource.plural} {earlier.name} comes before a downward write")

    def _outdated_rise(self, one: Pass, call: Call) -> bool:
        """Whether a guarded rise comes after somebody else has raised the weight still higher: it is going to be refused."""
        run = self._world.checkpoint().get("run") or {}
        guard = (call.body.get("metadata") or {}).get("resourceVersion")
        return (
            _weight_in(call.body) > int(run.get("weight", 0)) and guard == one.route_version and self._oracle.since_touched("route") < 10.0
        )

    def _check_owned(self, call: Call) -> None:
        """The rollout by its status, the target by its scale, and else objects with our label alone."""
        if call.resource == ROLLOUTS:
            if call.subresource != "status":
                self._oracle.violated(8, f"{call.verb} of the rollout's {call.subresource or 'spec'}")
        elif call.resource == DEPLOYMENTS and call.name == NAME:
            if call.subresource != "scale":
                self._oracle.violated(8, f"{call.verb} of the target other than through scale")
        elif call.resource != EVENTS:
            known = self._world.api.peek(call.resource, str(call.name))
            body: Any = call.body if call.verb == "create" else known
            ours = call.name in _own_names(NAME) or str(call.name).startswith((f"{NAME}-stable-", f"{NAME}-evidence-"))
            labelled = body is None or body["metadata"].get("labels", {}).get(names.ROLLOUT) == NAME
            stripped = self._oracle.since_touched(str(call.name)) < float("inf")
            if not ours or not (labelled or stripped) or call.resource not in (HTTPROUTES, SERVICES, DEPLOYMENTS, CONFIGMAPS):
                self._oracle.violated(8, f"{call.verb} {call.resource.plural} {call.name}, which is not the operator's")

    # -- the route --------------------------------------------------------------------------------------------------------

    def route_changed(self, operator: Operator | None, old: Object | None, new: Object | None) -> None:
        before, after = (0 if body is None else weight_of(body) for body in (old, new))
        if after == before:
            return
        if operator is None:
            self._oracle.touch("route")
        elif after > before:
            self._check_upward(operator, before, after)
        self.weight_changed = self._world.now()
        self._count_anew(operator, before, after)
        self._world.tell(f"{operator.name if operator else 'somebody'} sets weight {before} -> {after}")

    def _count_anew(self, operator: Operator | None, before: int, after: int) -> None:
        """Note from when on requests speak for the weight there is."""
        own, since = self._own, self.counted_from
        if operator is not None and after > before:
            self._earlier = own, since
            self._own, self.counted_from = after, self.weight_changed
        elif operator is not None and after == own < before:
            pass  # a foreign rise taken back: what was counted before still stands
        elif operator is not None and after == self._earlier[0] and self._unseen_rise(operator, before, after):
            self._own, self.counted_from = self._earlier
        elif operator is not None or after < own:
            self._own, self.counted_from = after, self.weight_changed
            self._unseen = not self._world.operators

    def _unseen_rise(self, operator: Operator, before: int, after: int) -> bool:
        """Whether the rise that an operator takes back is a foreign one to it, or to another: counts of the weight before it stand."""
        lost = operator.booted < self.counted_from and self._world.checkpoint().get("intent") == before
        return lost or (after > 0 and self._oracle.several)  # of several, a third may have seen neither rise nor end

    def stamped_from(self) -> float:
        """Give the time after which samples speak for the weight there is, where the operator's clock is or was wrong; 0 where it never was."""
        if "clock" not in self._oracle.touched and not self._oracle.several:
            return 0.0
        return float((self._world.checkpoint().get("run") or {}).get("weightSince", 0.0))

    def booted(self) -> None:
        """A weight that somebody cut while no operator was there is found now, and counts begin now."""
        if self._unseen:
            self._unseen, self.counted_from = False, self._world.now()

    def _check_upward(self, operator: Operator, before: int, after: int) -> None:
        one = operator.current
        if one is None or not one.calls:
            return self._oracle.violated(1, "an upward write outside of any pass")
        guard = (one.calls[-1].body.get("metadata") or {}).get("resourceVersion")
        if not guard or guard != one.route_version:
            self._oracle.violated(1, f"an upward write is guarded by {guard!r}, the pass had read {one.route_version!r}")
        document = self._world.checkpoint().get("run") or {}
        run = str(document.get("id", one.run))  # somebody may have deleted the checkpoint under the operator's hands
        self._check_order(run, after)
        self.raised[run] = max(after, self.raised.get(run, 0))
        candidate = self.candidate()
        if candidate is None and self._oracle.touched.get("candidate Service", 0.0) > one.began:
            return None  # somebody has deleted it under the operator's hands
        if candidate is None:
            return self._oracle.violated(1, "an upward write without a candidate")
        read = operator.last_read
        if read is None or read.at < one.began - SHARED_SECONDS:
            return self._oracle.violated(3, f"weight {after} without a look at Prometheus in its pass")
        if read.spoiled:
            self._oracle.violated(3, f"weight {after} on an answer that was {read.spoiled}")
        if read.twice > self._oracle.memory.began.get(run, 0.0):  # what was before the run does not count
            self._oracle.violated(3, f"weight {after} on an answer that was twice")
        newest = read.newest.get(candidate)
        if newest is None:
            return self._oracle.violated(3, f"weight {after} though Prometheus shows nothing of the candidate")
        # All clocks were set back a little, and nothing that the new process found was as late as its beginning.
        set_back = self._oracle.touched.get("clocks back", float("-inf")) > operator.booted - CATCH_UP_SECONDS
        since = self.counted_from if self._oracle.several else self.weight_changed
        if newest <= max(0.0 if set_back else operator.booted, since):
            self._oracle.violated(
                1,
                f"weight {after} on samples from {newest:.2f}; weight since {since:.2f}, process since {operator.booted:.2f}",
            )
        oldest = 3 * self._world.story.scrape + 3 + LAG_SECONDS + abs(self._world.operator_offset)
        if read.at - newest > oldest + (CATCH_UP_SECONDS if set_back else 0.0):
            self._oracle.violated(3, f"weight {after} on samples that were {read.at - newest:.1f} s old")
        self._check_asked_for(one, after)
        steps = document.get("step", -1) >= 0
        if steps:
            self._check_requests(candidate, read.at, after)
        self._check_good(run, candidate, read.at, after, steps=steps)
        return None

    def _check_asked_for(self, one: Pass, after: int) -> None:
        """Nobody has said no: not by pause, abort or mode."""
        rollout = self._world.api.peek(ROLLOUTS, NAME)
        run = self._world.checkpoint().get("run") or {}
        if rollout is None:
            return
        if rollout["spec"].get("paused") and self._oracle.touched.get("pause", 0.0) < one.began:
            self._oracle.violated(1, f"weight {after} while paused")
        if rollout["spec"].get("mode") == "Observe" and self._oracle.touched.get("mode", 0.0) < one.began:
            self._oracle.violated(6, f"weight {after} in mode Observe")
        annotations = rollout["metadata"].get("annotations", {})
        if annotations.get(names.ABORT) == run.get("id", "-") and self._oracle.touched.get("abort", 0.0) < one.began:
            self._oracle.violated(2, f"weight {after} after the abort")

    def _check_order(self, run: str, after: int) -> None:
        weights, reached = [step["weight"] for step in self.latched_plan()["steps"]], self.raised.get(run, 0)
        allowed = [weight for weight in weights if weight <= reached] + [weight for weight in weights if weight > reached][:1]
        if after not in allowed:
            self._oracle.violated(1, f"weight {after} is not the next of the plan {weights}")

    def _check_requests(self, candidate: str, seen_at: float, after: int) -> None:
        """The routers had really counted enough requests since the weight changed."""
        counted, _ = self.counted(candidate, self.counted_from, seen_at)
        total, needed = counted.live + counted.mirror, fewest(self.latched_analysis())
        if total < needed and not self._oracle.several:
            self._oracle.violated(1, f"weight {after} on {total} requests since the last weight change; {needed:.0f} are needed")

    def _check_good(self, run: str, candidate: str, seen_at: float, after: int, *, steps: bool) -> None:
        """What the routers had really counted since the weight changed, or in Preflight, shows no breach and nothing worse than slo."""
        limits = self.latched_analysis()
        began = self._oracle.memory.began.get(run, 0.0)  # a first step of weight 0 comes without a change of the route
        settled, spoiled = self.counted(candidate, max(self.counted_from, began), seen_at - LAG_SECONDS, stamped=self.stamped_from())
        margin = 1.0 if self.weight_changed == self.counted_from else BORDER
        worse = (steps and breach_of(settled, limits, margin=margin)) or worse_of(settled, limits)
        if worse and not spoiled:
            self._oracle.violated(1, f"weight {after} though {worse}")

    # -- what really was --------------------------------------------------------------------------------------------------

    def candidate(self) -> str | None:
        """Revision that the candidate Service selects."""
        service = self._world.api.peek(SERVICES, names.candidate_service(NAME))
        found = ((service or {}).get("spec", {}).get("selector") or {}).get(names.HASH)
        return None if found is None else str(found)

    def latched_plan(self) -> Object:
        return self._latched("plan")

    def latched_analysis(self) -> Object:
        return self._latched("analysis")

    def _latched(self, part: str) -> Object:
        run = self._world.checkpoint().get("run") or {}
        found: Object = (run.get("spec") or self._world.spec())[part]
        return found

    def counted(self, revision: str, since: float, until: float, *, stamped: float = 0.0) -> tuple[Truth, bool]:
        """Give what scrapes between two times had to show of a revision, and whether any of them was spoiled or lost.

        Those that Prometheus gives no later time than `stamped` are passed over.

        As for the operator, what came before the first scrape of a router that is older than the span, or before the first that shows the
        revision at all, belongs to nobody.
        """
        total, spoiled = Truth(), self._oracle.since_touched("scrapes") < self._world.now() - since
        by_router: dict[str, list[Truth]] = {}
        for scrape in self._world.prometheus.scrapes:
            shown = revision in scrape.truth and revision not in scrape.refused
            if shown and since < scrape.at <= until and scrape.time > stamped:
                seen = by_router.setdefault(scrape.router, [Truth()] if scrape.began > since else [])
                seen.append(scrape.truth[revision])
                spoiled = spoiled or scrape.spoiled
        for seen in by_router.values():
            total = total.plus(seen[-1].minus(seen[0]))
        return total, spoiled


def fewest(limits: Object) -> float:
    """Give the requests without which nobody may call a candidate good."""
    if limits["method"] == "Threshold":
        return float(limits["minSamples"])
    # Not one of so many going wrong is less likely than 1 - confidence.advance when the rate is at the abort level.
    return log(1 - limits.get("confidence", {}).get("advance", ADVANCE)) / log1p(-limits["errors"]["abort"])


def breach_of(truth: Truth, limits: Object, *, margin: float = 1.0) -> str:
    """Give what is beyond an abort level, by a factor `margin`, on enough requests; empty when nothing is.

    With method Sequential what is Good is Good by the pool, and few live requests alone keep nothing back until they prove the breach.
    """
    return _first(_aborts(truth, limits), limits, margin, lambda word, nats: not word.startswith("live ") or nats >= DOUBT_NATS)


def breach_beyond_doubt(truth: Truth, limits: Object) -> str:
    """Give a breach that nobody has to wait for more requests to be sure of; empty when there is none."""
    return _first(_aborts(truth, limits), limits, 1.0, lambda _, nats: nats >= DOUBT_NATS)


def worse_of(truth: Truth, limits: Object) -> str:
    """Give what is beyond doubt worse than slo; empty when nothing is."""
    return _first(_slos(truth, limits), limits, BORDER, lambda _, nats: nats >= WORSE_NATS)


def _first(rates: Iterable[Rate], limits: Object, margin: float, proven: Callable[[str, float], bool]) -> str:
    """Give the first rate beyond its limit that is also `proven`, by its name and its evidence in nats, where the method asks for proof."""
    for word, bad, total, limit in rates:
        beyond = total >= limits["minSamples"] and bad / total > margin * limit
        if beyond and (limits["method"] == "Threshold" or proven(word, total * _divergence(bad / total, limit))):
            return f"{word} were {bad} of {total}, limit {limit:g}"
    return ""


def _divergence(rate: float, limit: float) -> float:
    """Give the Kullback-Leibler divergence of two rates in nats: what each request adds to the evidence that it is not the limit."""
    rest = (1 - rate) * log((1 - rate) / (1 - limit)) if rate < 1 else 0.0
    return rate * log(rate / limit) + rest


def _aborts(truth: Truth, limits: Object) -> Iterator[Rate]:
    """Give each rate that an abort level limits and that enough requests spoil."""
    live, pool = truth.live, truth.live + truth.mirror
    errors, match = limits["errors"]["abort"], round(1 - limits["match"]["abort"], 12)
    slow = round(1 - limits["latency"]["quantile"], 12)
    rates = [
        ("live errors", truth.live_errors, live, errors),
        ("errors", truth.live_errors + truth.mirror_errors, pool, errors),
        ("live latency", truth.live_very_slow, live, slow),
        ("latency", truth.live_very_slow + truth.mirror_very_slow, pool, slow),
        ("mismatches", truth.mismatched, truth.compared, match),
    ]
    return (rate for rate in rates if rate[1] >= FEWEST_BAD)


def _slos(truth: Truth, limits: Object) -> Iterator[Rate]:
    """Give each rate that a slo limits, but for latency, which Preflight does not judge."""
    yield "errors", truth.live_errors + truth.mirror_errors, truth.live + truth.mirror, limits["errors"]["slo"]
    yield "mismatches", truth.mismatched, truth.compared, round(1 - limits["match"]["slo"], 12)


def _own_names(rollout: str) -> set[str]:
    services = {names.stable_service(rollout), names.candidate_service(rollout)}
    return {rollout, names.settings(rollout), names.checkpoint(rollout), *services}


def _weight_in(body: Any) -> int:
    """Give the candidate's weight in a body or patch of the route; -1 when it names none."""
    return weight_of(body) if isinstance(body, dict) and "rules" in (body.get("spec") or {}) else -1
