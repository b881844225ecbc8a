"""`python -m examples.demo`, and `python -m examples.demo release VERSION` for one more release on the same service."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from examples import lab
from examples.demo import story
from examples.demo.releases import release, verify
from examples.demo.stages import StageFailed, Stages
from examples.demo.trouble import dump
from examples.demo.watching import NotEnded

INTERRUPTED = 130
DUMPS = lab.ROOT / "build/out/dumps"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo, or one more release; 0 when everything ended as it should."""
    parsed = _parser().parse_args(arguments)
    one = parsed.command == "release"
    stages = Stages(1 if one else story.OWN_STAGES if parsed.ready else story.STAGES)
    service = story.model_service()
    try:
        return _release(stages, service, parsed) if one else _demo(stages, service, parsed)
    except KeyboardInterrupt:
        stages.say("Interrupted. The cluster stays as it is: `make demo` begins anew on it, `make cluster-down` removes it.")
        return INTERRUPTED
    except (StageFailed, NotEnded, TimeoutError, lab.CommandFailed) as problem:
        return _failed(stages, service, str(problem))


def _demo(stages: Stages, service: lab.ModelService, parsed: argparse.Namespace) -> int:
    ended = story.play(stages, ready=parsed.ready)
    stages.write("")
    stages.write(story.summary(ended, stages.now() - stages.began))
    problem = story.unexpected(ended)
    if problem:
        return _failed(stages, service, problem)
    stages.write("")
    stages.write(story.next_steps(service, ended))
    return 0


def _release(stages: Stages, service: lab.ModelService, parsed: argparse.Namespace) -> int:
    lab.cluster_environment()
    story.require_service(service)
    faults = [text for flag in ("latency_ms", "error_rate") for text in _flag(flag, getattr(parsed, f"fault_{flag}"))]
    with stages.stage(f"release {parsed.version}"):
        try:
            ended = story.tell(stages, release(service, stages, parsed.version, faults, limit=parsed.seconds))
        except NotEnded as open_end:  # a release may wait for a person as long as it takes: that is no failure to write a dump about
            stages.say(f"      {open_end}. To abort it: {story.abort_command(service)}")
            return 1
        stages.say(f"      {verify(service, ended.run)}")
    return 0


def _flag(name: str, value: float | None) -> list[str]:
    return [] if value is None else [f"--fault-{name.replace('_', '-')}", f"{value:g}"]


def _failed(stages: Stages, service: lab.ModelService, problem: str) -> int:
    stages.write("")
    stages.say(f"The demo did not end as it should: {problem}")
    folder = dump(service.namespace, DUMPS / f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    stages.say(f"What is in the cluster now was written to {folder}. The cluster stays; `make cluster-down` removes it.")
    return 1


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m examples.demo", description="A release that is promoted, and a failing one that is taken back."
    )
    top.add_argument("--ready", action="store_true", help="the cluster, its images and Prometheus are there: leave them as they are")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    one = commands.add_parser("release", help="release one more version on the demo's service, with the live view")
    one.add_argument("version", choices=sorted(lab.MODELS), metavar="VERSION", help=", ".join(sorted(lab.MODELS)))
    one.add_argument("--fault-error-rate", type=float, metavar="SHARE", help="share of requests that fail")
    one.add_argument("--fault-latency-ms", type=float, metavar="MS", help="milliseconds added to every answer")
    one.add_argument("--seconds", type=float, default=600, help="look this long at most (default: %(default)s)")
    return top


if __name__ == "__main__":
    sys.exit(main())
