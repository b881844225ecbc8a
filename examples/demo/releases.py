"""Releasing a version, watching it to its end, and checking what it left behind."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from examples import lab
from examples.demo.screen import screen
from examples.demo.stages import StageFailed, Stages
from examples.demo.text import Harm, failed, harm
from examples.demo.watching import Weights, follow

AFTERMATH_SECONDS = 2.0
"""Answers that were on their way when the run ended are counted too."""


@dataclass(frozen=True)
class Ended:
    """How a release went.

    Attributes
    ----------
    run, version, outcome, reason
        As in the rollout's history.
    seconds
        From the beginning of `helm upgrade` to the outcome seen.
    highest
        The highest weight the candidate had.
    errors
        What went wrong for clients meanwhile, by any version.
    harm
        What the candidate did to clients.
    """

    run: str
    version: str
    outcome: str
    reason: str
    seconds: float
    highest: int
    errors: int
    harm: Harm


def release(service: lab.ModelService, stages: Stages, version: str, faults: Sequence[str] = (), *, limit: float = 300) -> Ended:
    """Release a version with Helm and show the run until it ends; raises `watching.NotEnded` after `limit` seconds."""
    known = frozenset(str(entry["run"]) for entry in service.status().get("history") or [])
    before = service.stats()
    skew = float(before["now"]) - time.time()
    started, began = float(before["now"]), time.monotonic()
    title = " ".join(("release", version, *faults))
    with Weights(service) as weights:
        stages.say(f"      helm upgrade {service.name} charts/inference --set model.version={version}{_arguments(faults)}")
        service.release(version, *faults)
        with screen(title, stages.say, stages.write) as view:
            entry = follow(service, version, known, view, limit)
            seconds = time.monotonic() - began
        time.sleep(AFTERMATH_SECONDS)
    seen = [(at + skew, weight) for at, weight in weights.seen]
    return Ended(
        run=str(entry["run"]),
        version=version,
        outcome=str(entry["outcome"]),
        reason=str(entry["reason"]),
        seconds=seconds,
        highest=max((weight for _, weight in seen), default=0),
        errors=failed(service.stats()) - failed(before),
        harm=harm(service.answers(started), version, seen),
    )


def _arguments(faults: Sequence[str]) -> str:
    return "" if not faults else f" --set 'extraArgs={{{','.join(faults)}}}'"


def evidence_commands(service: lab.ModelService, run: str) -> tuple[str, str]:
    """Give the commands that read a run's evidence, and that check it."""
    return f"kanarya evidence get {service.name} -n {service.namespace} --run {run}", "kanarya evidence verify -"


def verify(service: lab.ModelService, run: str) -> str:
    """Read a run's evidence from the cluster and check it; gives what the check says. Raises `StageFailed`."""
    said = ""
    for command in evidence_commands(service, run):
        try:
            done = subprocess.run(  # noqa: S603 -- our own module
                [sys.executable, "-m", "kanarya.cli.main", *command.split()[1:]],
                input=said,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise StageFailed(f"`{command}` did not end within 60 s") from late
        if done.returncode:
            raise StageFailed(f"`{command}`: {(done.stderr or done.stdout).strip()[-500:]}")
        said = done.stdout
    return said.strip()
