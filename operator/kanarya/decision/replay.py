"""Checking evidence: the chain, and every verdict judged again from the counts beside it.

What a verdict only foretells (`need`, `etaSeconds`) or says for people (`detail`) is not compared: it decided nothing, and a later version
may say it better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from kanarya.api.rollout import LatchedSpec
from kanarya.decision.counts import Missing, counts_from_json, drift_from_json
from kanarya.decision.custom import values_from_json
from kanarya.decision.evidence import digest, first_break
from kanarya.decision.judge import Standard, judge, settled
from kanarya.decision.offline import PASSED, required
from kanarya.decision.streams import bases_from_json, is_last

DECIDED = ("verdict", "reason", "estimate", "slo", "abort", "have")


def first_difference(entries: Sequence[Mapping[str, Any]]) -> str | None:
    """Give a sentence on the first thing that does not hold, None when all does."""
    broken = first_break(entries)
    if broken:
        return broken
    spec: LatchedSpec | None = None
    proof: Mapping[str, Any] = {}
    for entry in entries:
        if entry["kind"] == "RunStarted":
            if digest(entry["spec"]) != entry["specDigest"]:
                return f"entry {entry['sequence']}: the spec does not have the digest beside it"
            try:
                spec = LatchedSpec.model_validate(entry["spec"])
            except ValidationError as error:
                return f"entry {entry['sequence']}: the spec is not readable: {error.errors(include_url=False)[0]['msg']}"
            proof = entry.get("offlineReport", {})
        elif "counts" in entry and entry.get("verdicts"):
            if spec is None:
                return f"entry {entry['sequence']}: verdicts before the run's spec"
            if entry.get("toStep") == 1 and required(spec.analysis) and proof.get("verdict") != PASSED:
                return f"entry {entry['sequence']}: the first step without the offline report that the spec requires"
            for metric, verdict in _judge_again(spec, entry).items():
                was, again = _decided(entry["verdicts"].get(metric, {})), _decided(verdict)
                if was != again:
                    return f"entry {entry['sequence']}: {metric} was {was}, judged again it is {again}"
    return None


def _judge_again(spec: LatchedSpec, entry: Mapping[str, Any]) -> dict[str, Any]:
    elapsed = float(entry["elapsed"])
    last = is_last(spec.plan, entry["stage"], int(entry["step"]) - 1)
    judged = judge(
        Standard(spec.analysis, spec.plan, last, forecast=False),
        counts_from_json(entry["counts"]),
        drift_from_json(entry["drift"]),
        {metric: Missing(reason) for metric, reason in entry["missing"].items()},
        elapsed=elapsed,
        run_elapsed=float(entry["runElapsed"]),
        settled=settled(spec.analysis, elapsed),
        bases=bases_from_json(entry.get("tests", {})),
        values=values_from_json(entry.get("values", {})),
    )
    return {metric: verdict.as_json() for metric, verdict in judged.verdicts.items()}


def _decided(verdict: Mapping[str, Any]) -> dict[str, Any]:
    return {key: verdict[key] for key in DECIDED if key in verdict}
