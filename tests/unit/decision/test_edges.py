"""Latency judged where the histogram has no edge at a threshold: what is known speaks against, what is possible speaks for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jsonschema
import pytest

from kanarya.decision.counts import Attempts, Counts, Drift, Reading, attempts_from_json, attempts_json
from kanarya.decision.judge import Standard, judge
from kanarya.decision.replay import first_difference
from kanarya.decision.schema import evidence_schema
from kanarya.decision.verdict import Kind, Verdict
from tests.unit.decision.play import B, Play, Traffic, spec

METHODS = ("Threshold", "Sequential")


@dataclass
class Coarse(Play):
    """A play whose histogram has edges at 50, 100 and 250 ms; `between` of the requests lie in each gap around a threshold."""

    between: float = 0.0

    def reading(self) -> Reading | None:
        found = super().reading()
        if found is None:
            return None
        return replace(
            found,
            counts=replace(
                found.counts,
                candidate_live=self.loose(found.counts.candidate_live),
                candidate_mirror=self.loose(found.counts.candidate_mirror),
            ),
            edges={"80": (50.0, 100.0), "120": (100.0, 250.0)},
            queries=('{__name__="x"}[20s]',),
            notes=("errors are measured at ml-router",),
        )

    def loose(self, attempts: Attempts) -> Attempts:
        more = attempts.requests * self.between
        return replace(attempts, slower_at_most={key: count + more for key, count in attempts.slower.items()})


def latency(method: str, attempts: Attempts) -> Verdict:
    analysis = spec(analysis={"method": method, "minSamples": 50}).analysis
    counts = Counts(candidate_mirror=attempts, stable=Attempts(attempts.requests), attempted=attempts.requests, compared=attempts.requests)
    judged = judge(Standard(analysis), counts, Drift(), {}, elapsed=60, run_elapsed=60, settled=True)
    return judged.verdicts["latency"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("slower", "at_most", "kind", "reason"),
    [
        ({"80": 10, "120": 2}, {}, Kind.GOOD, "LatencyWithinSlo"),
        ({"80": 10, "120": 2}, {"80": 20, "120": 12}, Kind.GOOD, "LatencyWithinSlo"),
        ({"80": 10, "120": 2}, {"80": 300, "120": 12}, Kind.INSUFFICIENT, "LatencyBetweenEdges"),
        ({"80": 300, "120": 2}, {"80": 400, "120": 300}, Kind.WITHIN, "LatencyAboveSlo"),
        ({"80": 300, "120": 200}, {"80": 400, "120": 300}, Kind.BAD, "LatencyAboveAbort"),
    ],
)
def test_known_is_held_against_and_possible_keeps_from_being_good(
    method: str, slower: dict[str, float], at_most: dict[str, float], kind: Kind, reason: str
) -> None:
    verdict = latency(method, Attempts(2000, 0, slower, at_most))
    assert (verdict.kind, verdict.reason) == (kind, reason)


def test_good_of_method_sequential_needs_what_is_possible_below_abort() -> None:
    assert latency("Sequential", Attempts(400, 0, {"80": 2, "120": 0}, {"120": 0})).kind is Kind.GOOD
    assert latency("Sequential", Attempts(400, 0, {"80": 2, "120": 0}, {"120": 19})).kind is Kind.INSUFFICIENT


@pytest.mark.parametrize("method", METHODS)
def test_slow_ones_are_counted_among_those_that_were_timed(method: str) -> None:
    attempts = Attempts(20_000, 0, {"80": 300, "120": 200})
    assert latency(method, attempts).kind is Kind.GOOD
    assert latency(method, replace(attempts, timed=2000)).kind is Kind.BAD


def test_the_json_form_comes_back_as_it_was() -> None:
    for attempts in (
        Attempts(3, 1, {"80": 1}),
        Attempts(3, 1, {"80": 1, "120": 0}, {"80": 2}, timed=2.0),
        Attempts(3, 1, {"80": 1}, timed=0.0),
    ):
        assert attempts_from_json(attempts_json(attempts)) == attempts
    assert attempts_json(Attempts(3, 1, {"80": 1})) == {"requests": 3, "errors": 1, "slower": {"80": 1}}


@pytest.mark.parametrize("method", METHODS)
def test_a_release_by_coarse_edges_says_so_and_leaves_evidence_that_holds(method: str) -> None:
    play = Coarse(spec=spec(analysis={"method": method, "intervalSeconds": 1, "minSamples": 50}), traffic=Traffic(rate=400))
    play.adopted()
    play.release(B)
    play.between = 0.01
    assert play.ended() == "Succeeded"
    (notice,) = [one for decision in play.decisions for one in decision.notices if one.reason == "MeasuredOtherwise"]
    assert "120 ms: at most 100 ms counts as faster and more than 250 ms as slower" in notice.message
    assert "errors are measured at ml-router" in notice.message
    assert first_difference(play.entries) is None
    begun = play.entries[0]
    assert (begun["queries"], begun["notes"]) == (['{__name__="x"}[20s]'], ["errors are measured at ml-router"])
    decided = next(entry for entry in play.entries if entry["kind"] == "Decision" and entry["step"])
    assert decided["edges"] == {"80": [50.0, 100.0], "120": [100.0, 250.0]}
    assert decided["counts"]["candidate"]["mirror"]["slowerAtMost"]["80"] > 0
    part = {"schemaVersion": 1, "rollout": "fraud", "namespace": "shop", "run": "bbb-1", "part": 1, "closed": True, "operatorVersion": "1"}
    jsonschema.validate({**part, "entries": play.entries}, evidence_schema())


def test_a_candidate_between_two_edges_waits_and_is_not_taken_back_as_slow() -> None:
    play = Coarse(traffic=Traffic())
    play.adopted()
    play.release(B)
    play.between = 0.2
    play.until(lambda play: play.weight == 5)
    for _ in range(100):
        play.tick()
    assert (play.weight, play.decisions[-1].reason) == (5, "LatencyBetweenEdges")
    assert "no edge near enough" in play.decisions[-1].message
