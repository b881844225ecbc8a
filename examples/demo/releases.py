"""Releasing a version, watching it to its end, and checking what it left behind."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from examples import lab
from examples.demo.screen import screen
from examples.demo.stages import StageFailed, Stages
from examples.demo.text import Harm, harm
from examples.demo.watching import Turning, Weights, follow, look

VERIFY_SECONDS = 90.0
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


def release(
    service: lab.ModelService,
    stages: Stages,
    version: str,
    faults: Sequence[str] = (),
    turns: Mapping[str, float] | None = None,
    *,
    limit: float = 420,
) -> Ended:
    """Release a version with Helm and show the run until it ends; raises `watching.NotEnded` after `limit` seconds.

    `turns` are faults that begin once the version has a weight; they need `--fault-control` among `faults`.
    """
    first = look(service)
    known, before = first.endings(), first.stats
    if not before:
        raise StageFailed(f"the load in namespace {service.namespace} does not answer")
    skew = float(before["now"]) - time.time()
    started, began = float(before["now"]), time.monotonic()
    title = " ".join(("release", version, *faults))
    with Weights(service) as weights:
        stages.say(f"      helm upgrade {service.name} charts/inference --set model.version={version}{_arguments(faults)}")
        service.release(version, *faults)
        with screen(title, stages.say, stages.write) as view:
            shown = Turning(view, lambda: turn(service, stages, version, turns)) if turns else view
            entry = follow(service, version, known, shown, limit)
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
        errors=int(service.stats()["error_count"]) - int(before["error_count"]),
        harm=harm(service.answers(started), version, seen),
    )


def turn(service: lab.ModelService, stages: Stages, version: str, faults: Mapping[str, float]) -> None:
    """Let a version turn bad under way, and say so."""
    stages.say(f"      now {version} turns bad: POST /ml/faults {json.dumps(faults)} to each of its pods")
    service.switch_faults(version, faults)


def _arguments(faults: Sequence[str]) -> str:
    return f" --set-json 'extraArgs={json.dumps(list(faults))}'" if faults else ""


def evidence_commands(service: lab.ModelService, run: str) -> tuple[str, str]:
    """Give the commands that read a run's evidence, and that check it."""
    return f"kanarya evidence get {service.name} -n {service.namespace} --run {run}", "kanarya evidence verify -"


def verify(service: lab.ModelService, run: str) -> str:
    """Read a run's evidence from the cluster and check it; gives what the check says. Raises `StageFailed`."""
    get, check = ([sys.executable, "-m", "kanarya.cli.main", *command.split()[1:]] for command in evidence_commands(service, run))
    reader = subprocess.Popen(get, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 -- our own module
    try:
        done = subprocess.run(check, stdin=reader.stdout, capture_output=True, text=True, timeout=VERIFY_SECONDS, check=False)  # noqa: S603
        _, problem = reader.communicate(timeout=VERIFY_SECONDS)
    except subprocess.TimeoutExpired as late:
        raise StageFailed(f"the evidence of run {run} was not read and checked within {VERIFY_SECONDS:.0f} s") from late
    finally:
        reader.kill()
    if reader.returncode or done.returncode:
        raise StageFailed(f"the evidence of run {run} does not hold: {(problem or done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout.strip()
