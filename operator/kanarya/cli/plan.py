"""`kanarya plan`: is there enough traffic for a plan, how soon does it notice a fault, how often is it wrong."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from kanarya.api.rollout import RolloutSpec
from kanarya.cli.rollout_file import read_named, without_metrics
from kanarya.cli.simulate import natural, positive
from kanarya.cli.simulation.drift_needs import FEATURES, REFERENCE_ROWS, drift_need
from kanarya.cli.simulation.feasibility import MOST, SURE, Need, burst_correlation, needs
from kanarya.cli.simulation.planning import SPACING, outlook, work
from kanarya.cli.simulation.show import progress, table
from kanarya.cli.simulation.summary import duration, percent
from kanarya.cluster.objects import printable

DEFINITION = (
    f"Feasible: half the bad events that slo allows are Good when the step's time is over, with a probability of {SURE:.0%} or more."
)
EPILOG = f"""\
{DEFINITION}
That part is exact: binomial counts, expected numbers of requests, stable without bursts, each verdict the judge's own. Of latency,
all slow requests count as slower than abort, too. What drift needs, over the whole run, is near enough: a candidate without drift, its
features independent, {REFERENCE_ROWS:.0f} rows of reference. Times to notice a fault, and how often a run ends wrongly, come from simulated
runs with a fixed seed. Their looks are intervalSeconds apart, or {SPACING:.0%} of the step's age where that is more: a long soak takes
hardly longer than a short one. --runs 0 leaves them out.
"""
NAMES = {
    "healthy": "half the bad events of every slo",
    "atSlo": "exactly at every slo",
    "errorsAtAbort": "errors at abort",
    "latencyAtAbort": "latency at abort",
    "matchAtAbort": "mismatches at abort",
    "errorsAtAbortInLastStep": "errors at abort from the last step on",
    "latencyAtAbortInLastStep": "latency at abort from the last step on",
    "matchAtAbortInLastStep": "mismatches at abort from the last step on",
}


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    sub.formatter_class = argparse.RawDescriptionHelpFormatter
    sub.epilog = EPILOG
    sub.add_argument("file", type=Path, metavar="FILE", help="the MLModelRollout, YAML or JSON")
    rate = sub.add_mutually_exclusive_group(required=True)
    rate.add_argument("--rps", type=_rate, metavar="R", help="requests a second of all clients together")
    rate.add_argument("--prometheus", metavar="URL", help="measure them: what the rollout's routers counted in the last hour")
    sub.add_argument("-n", "--namespace", default="default", help="of the rollout, to measure (default: default)")
    sub.add_argument(
        "--features", type=natural, default=FEATURES, metavar="N", help=f"whose drift is counted (default: {FEATURES}); 0: none"
    )
    sub.add_argument(
        "--runs", type=natural, default=40, metavar="N", help="simulated runs of each kind, 0 for none (default: 40; 100 are minutes)"
    )
    sub.add_argument("--seed", type=natural, default=1, metavar="N", help="of the simulated runs (default: 1)")
    sub.add_argument("--jobs", type=positive, default=os.cpu_count() or 1, metavar="N", help="processes (default: one for each core)")
    sub.add_argument("-o", "--output", choices=("table", "json"), default="table")


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate <= 1e6:
        raise argparse.ArgumentTypeError("must be a number above 0, at most 1000000")
    return rate


def run(arguments: argparse.Namespace) -> int:
    """Tell; exit code 1 when the file cannot be used or nothing could be measured."""
    try:
        name, whole = read_named(arguments.file)
        spec = without_metrics(whole)
        rps = arguments.rps if arguments.prometheus is None else _measured(arguments.prometheus, arguments.namespace, name)
    except ValueError as error:
        sys.stderr.write(f"kanarya plan: {printable(str(error))}\n")
        return 1
    told = plan(spec, rps, runs=arguments.runs, seed=arguments.seed, jobs=arguments.jobs, features=arguments.features)
    sys.stdout.write(json.dumps(told, indent=1, allow_nan=False) + "\n" if arguments.output == "json" else text(told))
    return 0


def _measured(address: str, namespace: str, name: str) -> float:
    from kanarya.cli.simulation.measured import measure  # noqa: PLC0415 -- everything else works without an HTTP client

    return asyncio.run(measure(address, namespace, name))


def plan(spec: RolloutSpec, rps: float, *, runs: int, seed: int = 1, jobs: int = 1, features: int = FEATURES) -> dict[str, Any]:
    """Give the JSON form of what `kanarya plan` tells."""
    found, drift = needs(spec, rps), drift_need(spec, rps, features)
    told: dict[str, Any] = {
        "requestsPerSecond": rps,
        "feasible": all(need.feasible for need in found) and (drift is None or drift.feasible),
        "definition": DEFINITION,
        "steps": [need.as_json() for need in found],
        **({} if drift is None else {"drift": drift.as_json()}),
        "guaranteed": _guaranteed(spec, rps),
    }
    if runs:
        with progress("simulating", runs * len(work(spec, rps))) as done:
            told["simulated"] = outlook(spec, rps, runs=runs, seed=seed, jobs=jobs, progress=done)
    return told


def _guaranteed(spec: RolloutSpec, rps: float) -> dict[str, Any] | None:
    """Give the bounds that the method itself promises, and up to which correlation of the bad events within a look."""
    confidence = spec.analysis.confidence
    if spec.analysis.method != "Sequential":
        return None
    return {
        "rolledBackWithNoRateAboveAbort": round(1 - confidence.abort, 12),
        "advancedPerStepWithARateAtAbort": round(1 - confidence.advance, 12),
        "promotedWithARateAtAbortInTheLastStep": round(1 - max(confidence.advance, confidence.abort), 12),
        "upToBurstCorrelation": round(burst_correlation(spec, rps), 4),
    }


def text(told: dict[str, Any]) -> str:
    """Give what `plan` found as tables."""
    rows = [_need_row(Need(**{_FIELDS[key]: value for key, value in row.items() if key in _FIELDS})) for row in told["steps"]]
    headings = ("step", "weight", "metric", "expected", "needed", "after", "chance of Good in time", "feasible")
    parts = [table(f"{told['requestsPerSecond']:g} requests a second (exact)", headings, rows), DEFINITION + "\n"]
    if "drift" in told:
        parts.append(_drift(told["drift"]))
    bounds = told["guaranteed"]
    if bounds:
        *chances, correlation = bounds.values()
        back, advanced, promoted = map(percent, chances)
        parts.append(
            f"Guaranteed: rolled back as Bad though no rate is above abort: at most {back} of runs. A step passed with a rate at abort: at "
            f"most {advanced}, the last stage {promoted}. Bursts are allowed for up to a correlation of {correlation:.2g} between the "
            "requests of a look; stronger ones take back good candidates, and let bad ones pass, more often.\n"
        )
    else:
        parts.append("Method Threshold guarantees nothing: it compares points with limits.\n")
    if "simulated" in told:
        parts += _simulated(told["simulated"])
    return "\n".join(parts)


_FIELDS = {
    "step": "step",
    "weight": "weight",
    "metric": "metric",
    "expected": "expected",
    "needed": "needed",
    "neededSeconds": "seconds",
    "chanceOfGood": "chance",
}


def _need_row(need: Need) -> tuple[str, ...]:
    return (
        str(need.step),
        str(need.weight),
        need.metric,
        f"{need.expected:.0f}",
        f"over {MOST}" if need.needed is None else str(need.needed),
        duration(need.seconds),
        percent(need.chance),
        "yes" if need.feasible else "no: hold, or more traffic or time",
    )


def _drift(found: dict[str, Any]) -> str:
    need = f"over {MOST}" if found["needed"] is None else str(found["needed"])
    when = "no: hold, or more traffic or time" if not found["feasible"] else f"yes, after {duration(found['neededSeconds'])}"
    return (
        f"Drift of {found['features']} features has to be Good at the end of weight {found['weight']}: {need} requests needed, "
        f"{found['expected']:.0f} expected by then. Feasible: {when}.\n"
    )


def _simulated(found: dict[str, Any]) -> list[str]:
    runs = f"{found['runs']} simulated runs each, seed {found['seed']}"
    faults = [
        (
            fault["metric"],
            percent(fault["share"]),
            *(f"{duration(fault['seconds'][key])}, {_count(fault['candidateRequests'][key])}" for key in ("median", "p95")),
            percent(fault["rolledBack"]["share"]),
        )
        for fault in found["faults"]
    ]
    ends = [
        (NAMES[name], *(f"{percent(one['share'])} ({percent(one['low'])} to {percent(one['high'])})" for one in end.values()))
        for name, end in found["candidates"].items()
    ]
    return [
        table(
            f"A fault from the first step on is noticed after ({runs})", ("metric", "bad", "median", "95 % of runs", "taken back"), faults
        ),
        table(f"How runs end ({runs}; 95 % intervals)", ("candidate", "promoted", "taken back", "neither in its time"), ends),
    ]


def _count(requests: float | None) -> str:
    return "-" if requests is None else f"{requests:.0f} requests"
