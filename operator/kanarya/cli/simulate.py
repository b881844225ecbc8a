"""`kanarya simulate`: what a plan would do to candidates that are described, by chance, in virtual time."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from kanarya.cli.rollout_file import read_rollout, without_metrics
from kanarya.cli.simulation.runs import simulate
from kanarya.cli.simulation.scenario import check, read_scenarios
from kanarya.cli.simulation.show import progress, table
from kanarya.cli.simulation.summary import duration, percent, summary
from kanarya.cluster.objects import printable

EPILOG = """\
A candidate is described in YAML, for example:

  name: errors at 4 % from the third step on
  rps: 20                                        # requests a second of all clients
  candidate: {errors: 0.002, latency: {median: 30, p95: 60}, mismatches: 0.01}
  stable: {errors: 0.002}
  burstCorrelation: 0.05                         # requests of a look fail together
  scrapeGaps: 0.01                               # share of looks without new samples
  inputs: {features: 20, shifted: 1, deviations: 0.5}
  changes:
  - {step: 2, seconds: 600, candidate: {errors: 0.04}}

Several documents in a file are several candidates. Each run is the operator's own decision, from the first step on; nothing is
deployed, nothing is asked. The same seed gives the same runs. The whole story: docs/how-to/try-a-plan.md.
"""


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    sub.formatter_class = argparse.RawDescriptionHelpFormatter
    sub.epilog = EPILOG
    sub.add_argument("--rollout", type=Path, required=True, metavar="FILE", help="the MLModelRollout, YAML or JSON")
    sub.add_argument(
        "--candidate", type=Path, required=True, action="append", metavar="FILE", help="described candidates; may be given several times"
    )
    sub.add_argument("--runs", type=positive, default=200, metavar="N", help="runs of each candidate (default: 200)")
    sub.add_argument("--seed", type=natural, default=1, metavar="N", help="of all randomness (default: 1)")
    sub.add_argument("--jobs", type=positive, default=os.cpu_count() or 1, metavar="N", help="processes (default: one for each core)")
    sub.add_argument("-o", "--output", choices=("table", "json"), default="table")


def positive(text: str) -> int:
    """Read a number of at least 1."""
    number = natural(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def natural(text: str) -> int:
    """Read a number of at least 0."""
    if not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError("must be a whole number")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Simulate; exit code 1 when a file cannot be used."""
    try:
        spec = without_metrics(read_rollout(arguments.rollout))
        scenarios = [scenario for path in arguments.candidate for scenario in read_scenarios(path)]
        for scenario in scenarios:
            check(spec, scenario)
    except ValueError as error:
        sys.stderr.write(f"kanarya simulate: {printable(str(error))}\n")
        return 1
    jobs = min(arguments.jobs, -(-arguments.runs * len(scenarios) // 10))
    with progress("simulating", arguments.runs * len(scenarios)) as done:
        found = simulate([(spec, one) for one in scenarios], runs=arguments.runs, seed=arguments.seed, jobs=jobs, progress=done)
    results = [
        {"name": scenario.name, "scenario": scenario.model_dump(mode="json", by_alias=True, exclude_none=True), **summary(outcomes)}
        for scenario, outcomes in zip(scenarios, found, strict=True)
    ]
    if arguments.output == "json":
        sys.stdout.write(json.dumps({"seed": arguments.seed, "candidates": results}, indent=1, allow_nan=False) + "\n")
    else:
        sys.stdout.write(_told(results, arguments.runs, arguments.seed))
    return 0


def _told(results: list[dict[str, Any]], runs: int, seed: int) -> str:
    rows = []
    for result in results:
        for outcome, found in result["outcomes"].items():
            if not found["runs"]:
                continue
            reasons = ", ".join(f"{reason} {count}" for reason, count in found["reasons"].items()) if outcome == "RolledBack" else ""
            rows.append(
                (
                    printable(result["name"]),
                    outcome,
                    percent(found["share"]),
                    f"{percent(found['low'])} to {percent(found['high'])}",
                    f"{duration(found['seconds']['median'])} ({duration(found['seconds']['p95'])})",
                    f"{duration(found['reactionSeconds']['median'])} ({duration(found['reactionSeconds']['p95'])})",
                    f"{found['reactionRequests']['median']:.0f} ({found['reactionRequests']['p95']:.0f})",
                    reasons,
                )
            )
    headings = ("candidate", "outcome", "runs", "95 % interval", "length", "since change", "its requests", "why")
    title = f"{runs} runs each, seed {seed}; times and requests: median (95 % of the runs)"
    return table(title, headings, rows)
