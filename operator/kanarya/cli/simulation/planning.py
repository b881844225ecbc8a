"""What `kanarya plan` asks of the simulation: how soon faults are noticed, and how often a run ends wrongly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from kanarya.api.rollout import RolloutSpec
from kanarya.cli.simulation.feasibility import RATES
from kanarya.cli.simulation.runs import Outcome, Work, play, simulate
from kanarya.cli.simulation.scenario import Behaviour, Change, Scenario, Slower
from kanarya.cli.simulation.summary import share_json, spread
from kanarya.decision.judge import limits_of
from kanarya.decision.sequential import Limits
from kanarya.decision.verdict import Metric

TIMES_ABORT = (2.0, 5.0)
LARGE = (0.5, 1.0)
"""Sizes of faults: so many times the abort limit, and half and all of the requests."""
SPACING = 0.01
"""Between two looks, by the age of the step: a soak of 24 h has 8,640 looks, and forty runs of each kind took a quarter of an hour."""
LONGEST = 1.5
"""A simulated run ends, unfinished, after so many times the plan's length, its longest hold apart."""


def behaviour(metric: Metric, share: float, base: Behaviour | None = None) -> Behaviour:
    """Give a behaviour whose share of bad events, against the abort limit, is `share` for a metric."""
    news = {
        "errors": Behaviour(errors=share),
        "latency": Behaviour(slower=Slower(slo=share, abort=share)),
        "match": Behaviour(mismatches=share),
    }
    return (base or Behaviour()).changed(news[metric])


def healthy(limits: Mapping[Metric, Limits], share: float = 0.5) -> Behaviour:
    """Give a behaviour with so many times the bad events that every slo allows; of the slow ones a quarter is slower than abort, too."""
    slow = share * limits["latency"].slo
    return Behaviour(errors=share * limits["errors"].slo, slower=Slower(slo=slow, abort=slow / 4), mismatches=share * limits["match"].slo)


def faults(limits: Limits) -> list[float]:
    """Give sizes of faults above the abort limit."""
    sizes = {round(min(times * limits.abort, 1.0), 6) for times in TIMES_ABORT} | set(LARGE)
    return sorted(size for size in sizes if size > limits.abort)


def shortened(spec: RolloutSpec) -> RolloutSpec:
    """Give the plan with an end to runs that only hold."""
    plan = spec.plan
    length = sum(step.duration_seconds for step in plan.steps) + plan.soak_seconds
    longest = min(plan.max_run_seconds, int(LONGEST * length) + plan.max_hold_seconds)
    return spec.model_copy(update={"plan": plan.model_copy(update={"max_run_seconds": longest})})


def work(spec: RolloutSpec, rps: float) -> dict[str, Work]:
    """Give what is simulated, by name."""
    limits, spec = limits_of(spec.analysis), shortened(spec)
    good, last = healthy(limits), len(spec.plan.steps) - 1 + (spec.plan.soak_seconds > 0)

    def against(candidate: Behaviour, *changes: Change) -> Work:
        return spec, Scenario(rps=rps, candidate=candidate, stable=good, changes=changes)

    found = {"healthy": against(good), "atSlo": against(healthy(limits, 1.0))}
    for metric in RATES:
        bad = behaviour(metric, limits[metric].abort, good)
        found[f"{metric}AtAbort"] = against(bad)
        found[f"{metric}AtAbortInLastStep"] = against(good, Change(step=last, candidate=bad))
        for size in faults(limits[metric]):
            found[f"{metric}={size:g}"] = against(behaviour(metric, size, good))
    return found


def outlook(spec: RolloutSpec, rps: float, *, runs: int, seed: int, jobs: int, progress: Callable[[int], None]) -> dict[str, Any]:
    """Simulate; gives the JSON form of what came out."""
    cells, playing = work(spec, rps), partial(play, spacing=SPACING)
    found = simulate(list(cells.values()), runs=runs, seed=seed, jobs=jobs, progress=progress, playing=playing)
    outcomes = dict(zip(cells, found, strict=True))
    limits = limits_of(spec.analysis)
    noticed = [
        {"metric": metric, "share": size, **_noticed(outcomes[f"{metric}={size:g}"])} for metric in RATES for size in faults(limits[metric])
    ]
    ended = {name: _ends(outcomes[name]) for name in cells if "=" not in name}
    return {"runs": runs, "seed": seed, "faults": noticed, "candidates": ended}


def _noticed(outcomes: list[Outcome]) -> dict[str, Any]:
    back = [one for one in outcomes if one.outcome == "RolledBack"]
    return {
        "rolledBack": share_json(len(back), len(outcomes)),
        "seconds": spread([one.seconds for one in back]),
        "candidateRequests": spread([one.requests for one in back]),
    }


def _ends(outcomes: list[Outcome]) -> dict[str, Any]:
    """Give how often the runs were promoted, were taken back, and did neither in their time."""
    told = {name: sum(one.outcome in kinds for one in outcomes) for name, kinds in ENDS.items()}
    return {name: share_json(count, len(outcomes)) for name, count in told.items()}


ENDS = {"promoted": ("Promoted",), "takenBack": ("RolledBack", "Interrupted"), "unfinished": ("Expired",)}
