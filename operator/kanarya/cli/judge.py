"""`kanarya judge`: the operator's decision as a filter. Reads a line of counts, writes what it decides, line by line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from kanarya.api.rollout import RolloutSpec
from kanarya.cli.lines import Intake, Line, LineError
from kanarya.cli.rollout_file import read_rollout
from kanarya.cluster.objects import printable
from kanarya.decision.judge import ALL
from kanarya.decision.passage import Answer, Course, Passage
from kanarya.decision.verdict import Kind

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes; a line of 500 features has about 100 KiB."""

EPILOG = """\
Each line is a JSON object: the cumulative counts of the current step, and t, the seconds since it began. For example

  {"t": 120, "step": 0,
   "candidate": {"live": {"requests": 900, "errors": 4, "slower": {"80": 30, "120": 2}}, "mirror": {...},
                 "attempted": 17000, "compared": 16950, "mismatched": 210},
   "stable": {"requests": 17100, "errors": 70, "slower": {"80": 500, "120": 31}},
   "drift": {"spread_bp": {"reference": [...], "current": [...]}}}

in one line. For each, one line is written at once: the verdict on each metric, and "decision": Advance, Hold or Rollback.
After Advance the next step begins, with t and all counts from zero; Advance from the last step means promotion. Exit code 1
when a line cannot be used. The whole story: docs/reference/judge.md.
"""


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    sub.formatter_class = argparse.RawDescriptionHelpFormatter
    sub.epilog = EPILOG
    sub.add_argument(
        "--rollout", type=Path, required=True, metavar="FILE", help="the MLModelRollout, YAML or JSON: its plan and limits count"
    )


def run(arguments: argparse.Namespace) -> int:
    """Judge standard input; exit code 1 when the rollout or a line cannot be used."""
    try:
        spec = read_rollout(arguments.rollout)
    except ValueError as error:
        return _refuse(str(error))
    try:
        for text in judged(spec, sys.stdin.buffer):
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
    except ValueError as error:
        return _refuse(str(error))
    except BrokenPipeError:  # whoever reads has enough; nothing may be flushed to it at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _refuse(problem: str) -> int:
    sys.stderr.write(f"kanarya judge: {printable(problem)}\n")
    return 1


def judged(spec: RolloutSpec, source: IO[bytes]) -> Iterator[str]:
    """Judge line after line; gives the answers as JSON.

    Raises
    ------
    ValueError
        When a line cannot be used: names the line and the field.
    """
    passage, intake, ended = Passage.begin(spec), Intake(spec.analysis), 0
    number = 0
    while raw := source.readline(LONGEST_LINE):
        number += 1
        if not raw.strip():
            continue
        if passage.ended is not None and passage.ended.course is Course.ADVANCE:
            raise ValueError(f"line {number}: step: the run is over: line {ended} was answered with Advance from the last step: promotion")
        try:
            line = intake.read(_text(raw), passage.step)
        except LineError as error:
            raise ValueError(f"line {number}: {error}") from None
        if passage.ended is not None:
            yield _answered(line, passage.ended)
            continue
        following, answer = passage.look(line.reading)
        yield _answered(line, answer)
        if answer.course is Course.ADVANCE:
            intake = Intake(spec.analysis)
        passage, ended = following, number


def _text(raw: bytes) -> str:
    if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
        raise LineError("", f"is longer than {LONGEST_LINE} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise LineError("", "is not text in UTF-8") from None


def _answered(line: Line, answer: Answer) -> str:
    metrics: dict[str, Any] = {}
    for metric, verdict in answer.verdicts.items():
        if verdict.kind is Kind.NO_DATA and not verdict.detail:
            verdict = replace(verdict, detail=line.lacking.get(ALL, line.lacking.get(metric, "")))  # noqa: PLW2901
        metrics[metric] = verdict.as_json()
    told = {"t": line.t, "step": line.step, "metrics": metrics, "decision": answer.course.value, "reason": answer.reason}
    return json.dumps({**told, "message": answer.message}, allow_nan=False)
