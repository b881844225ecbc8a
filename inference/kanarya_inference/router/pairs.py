"""What follows from two answers to the same request."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from kanarya_inference.router.compare import Compared, compare
from kanarya_inference.router.mismatches import Mismatches
from kanarya_inference.router.model import BOTH_ANSWERED, Attempt, Comparison, Request
from kanarya_inference.router.plan import Plan


@dataclass(frozen=True, slots=True)
class Pair:
    """How the answers of the two tracks compare."""

    verdict: Comparison
    compared: Compared | None
    seconds: float | None
    """Candidate's time minus stable's, None unless both answered."""


class Pairs:
    """Compares, counts and samples."""

    def __init__(self, random: Random, mismatches: Mismatches) -> None:
        self._random = random
        self._mismatches = mismatches

    def judge(self, plan: Plan, stable: Attempt, candidate: Attempt) -> Pair:
        """Compare two attempts; counts nothing."""
        found = compare(stable, candidate, plan.match_rule)
        both = stable.outcome in BOTH_ANSWERED and candidate.outcome in BOTH_ANSWERED
        seconds = candidate.seconds - stable.seconds if both else None
        if isinstance(found, Compared):
            return Pair(found.verdict(self._random), found, seconds)
        return Pair(found, None, seconds)

    def count(self, plan: Plan, request: Request, stable: Attempt, candidate: Attempt) -> Pair:
        """Compare two attempts and count the outcome."""
        pair = self.judge(plan, stable, candidate)
        count(plan, pair.verdict)
        series = plan.candidate.series
        if series is not None and series.pairs is not None:
            series.pairs.observe(pair.verdict, pair.compared.delta if pair.compared else None, pair.seconds)
        if pair.verdict == "mismatch" and pair.compared is not None:
            self._mismatches.see(plan, request, stable, candidate, pair.compared)
        return pair


def count(plan: Plan, comparison: Comparison) -> None:
    """Count one request that was chosen for mirroring."""
    if plan.candidate.series is not None:
        plan.candidate.series.comparisons[comparison].inc()
