"""`kanarya replay`: what a plan would have done, on what a Prometheus has stored; or whether a recorded run would be decided so again."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kanarya.api.rollout import parse_spec
from kanarya.cli.prometheus import source_at
from kanarya.cli.report import report
from kanarya.cli.rollout_file import read_object
from kanarya.cluster import names
from kanarya.cluster.objects import printable
from kanarya.decision.playback import Entry, Playback, decisions, looks_of
from kanarya.decision.replay import first_difference
from kanarya.decision.state import Identity
from kanarya.telemetry.past import Past, revisions_seen
from kanarya.telemetry.request import ReadRequest
from kanarya.telemetry.source import PrometheusSource, SourceConfig, SourceError

MOST_LOOKS = 200_000
"""Ten days at five seconds."""
PLACES = 24
"""Times at which the revisions of a span are looked for."""
MOST_CHARACTERS = 1000
_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

EPILOG = """\
Times are epoch seconds, ISO 8601 such as 2026-03-02T14:00:00Z, or a time ago such as 90m, 36h, 7d. Examples:

  kanarya replay --rollout rollout.yaml -n models --prometheus http://localhost:9090 --from 26h --to 2h
  kanarya evidence get fraud -n models > run.json
  kanarya replay --rollout rollout.yaml -n models --prometheus http://localhost:9090 --evidence run.json

The whole story: docs/reference/replay.md.
"""


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    sub.formatter_class = argparse.RawDescriptionHelpFormatter
    sub.epilog = EPILOG
    sub.add_argument(
        "--rollout", type=Path, required=True, metavar="FILE", help="the MLModelRollout, YAML or JSON: its name, and the plan to try"
    )
    sub.add_argument("-n", "--namespace", help="default: the one in the file, else `default`")
    sub.add_argument("--prometheus", required=True, metavar="URL", help="the Prometheus that has the metrics")
    sub.add_argument("--scrape-interval", type=float, default=15.0, metavar="SECONDS", help="how often it reads pods (default: 15)")
    sub.add_argument("--from", dest="start", metavar="TIME", help="when the plan's first step begins")
    sub.add_argument("--to", dest="end", metavar="TIME", help="when to stop looking (default: now)")
    sub.add_argument("--candidate", metavar="REVISION", help="the candidate's pod-template-hash; default: the one that was measured")
    sub.add_argument("--stable", metavar="REVISION", help="the same of stable")
    sub.add_argument("--evidence", type=Path, metavar="FILE", help="decide this recorded run again, look by look; - for standard input")
    sub.add_argument(
        "--write", type=Path, metavar="FILE", help="write the evidence of what was decided, as `kanarya evidence verify` reads it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Replay; exit code 1 when it cannot be done, or a recorded run is decided otherwise."""
    try:
        given = _read(arguments)
        entries = asyncio.run(_replay(given))
    except (ValueError, OSError, SourceError) as error:
        sys.stderr.write(f"kanarya replay: {printable(str(error)[:MOST_CHARACTERS])}\n")
        return 1
    if arguments.write is not None:
        arguments.write.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    difference = _difference(given.recorded, entries) if given.recorded else None
    lines = [
        *report(entries).split("\n"),
        *([] if not given.recorded else ["", difference or "every decision is that of the recorded run"]),
    ]
    sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))
    return 1 if difference else 0


@dataclass(frozen=True)
class _Given:
    """What is to be replayed."""

    rollout: dict[str, Any]
    namespace: str
    source: SourceConfig
    start: float
    end: float
    candidate: str
    stable: str
    recorded: Sequence[Entry]

    @property
    def name(self) -> str:
        return str(self.rollout["metadata"]["name"])


def _read(arguments: argparse.Namespace) -> _Given:
    rollout = read_object(arguments.rollout)
    metadata = rollout.get("metadata") or {}
    if not metadata.get("name"):
        raise ValueError(f"{arguments.rollout}: metadata.name is missing: series are found by it")
    if (arguments.start is None) == (arguments.evidence is None):
        raise ValueError("give either --from, to try a plan, or --evidence, to decide a recorded run again")
    if not 0 < arguments.scrape_interval <= 300:
        raise ValueError("--scrape-interval is a number of seconds, more than 0 and at most 300")
    now = time.time()
    recorded = _recorded(arguments.evidence) if arguments.evidence is not None else ()
    start = _time(arguments.start, now, "--from") if arguments.start is not None else 0.0
    end = _time(arguments.end, now, "--to") if arguments.end is not None else now
    if arguments.start is not None and not start < end <= now:
        raise ValueError("--from must be earlier than --to, and --to not later than now")
    return _Given(
        rollout=rollout,
        namespace=arguments.namespace or str(metadata.get("namespace") or "default"),
        source=source_at(arguments.prometheus, scrape_seconds=arguments.scrape_interval, timeout_seconds=30),
        start=start,
        end=end,
        candidate=arguments.candidate or "",
        stable=arguments.stable or "",
        recorded=recorded,
    )


def _recorded(path: Path) -> Sequence[Entry]:
    text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    try:
        entries: list[Entry] = json.loads(text)
        difference = first_difference(entries) if entries else "it has no entries"
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{path} is no evidence: {error}") from None
    if difference:
        raise ValueError(f"{path}: {difference}")
    return entries


def _time(text: str, now: float, option: str) -> float:
    ago = _AGO.fullmatch(text)
    if ago:
        return now - float(ago[1]) * _UNITS[ago[2]]
    try:
        return float(text) if math.isfinite(float(text)) else math.nan
    except ValueError:
        pass
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{option} {text}: epoch seconds, ISO 8601, or a time ago such as 90m or 7d") from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


async def _replay(given: _Given) -> list[Entry]:
    source = PrometheusSource(given.source)
    try:
        playback = await (_again(given, source) if given.recorded else _plan(given, source))
    finally:
        await source.close()
    return list(playback.entries)


async def _plan(given: _Given, source: PrometheusSource) -> Playback:
    spec = parse_spec(given.rollout.get("spec"))
    tick = spec.analysis.interval_seconds
    if (given.end - given.start) / tick > MOST_LOOKS:
        raise ValueError(f"that is more than {MOST_LOOKS} looks at analysis.intervalSeconds {tick}: choose a shorter span")
    span = [given.start + (given.end - given.start) * index / PLACES for index in range(1, PLACES + 1)]
    seen = await revisions_seen(source, given.namespace, given.name, span)
    candidate = given.candidate or _only(seen, "candidate", given)
    stable = given.stable or _only(seen, "stable", given)
    playback = Playback.planned(spec, stable=Identity(revision=stable), candidate=Identity(revision=candidate), at=given.start)
    past, at = Past(source), given.start
    while not playback.over and at < given.end:
        at = min(at + tick, given.end)
        playback.look(await past.read(_request(given, playback, spec.target_ref.name), at), at)
    return playback


async def _again(given: _Given, source: PrometheusSource) -> Playback:
    playback, past = Playback.recorded(given.recorded), Past(source)
    target = str(((given.rollout.get("spec") or {}).get("targetRef") or {}).get("name") or given.name)
    for look in looks_of(given.recorded):
        if playback.over:
            break
        reading = await past.read(_request(given, playback, target), look.until)
        playback.look(reading, look.now, ready=look.ready, raised_at=look.raised_at)
    return playback


def _request(given: _Given, playback: Playback, target: str) -> ReadRequest:
    run, stable = playback.run, playback.state.stable
    return ReadRequest.of(
        run,
        run.spec.analysis if run.spec else playback.spec.analysis,
        namespace=given.namespace,
        rollout=given.name,
        stable_revision=stable.revision if stable else "",
        router_pod_prefix=names.router_pods(given.name),
        candidate_pod_prefixes=(names.replicaset_pods(f"{target}-{run.candidate.revision}"),),
        stable_pod_prefix=names.stable_pods(given.name, stable.revision) if stable else "",
    )


def _only(seen: dict[str, set[str]], track: str, given: _Given) -> str:
    found = sorted(seen.get(track, ()))
    if len(found) == 1:
        return found[0]
    where = f"rollout {given.name} in namespace {given.namespace}"
    if not found:
        raise ValueError(f"Prometheus has no requests of a {track} of {where} in that time: is that the name, and was there a run?")
    raise ValueError(f"{where} had several revisions as {track} in that time: choose one with --{track}: {', '.join(found)}")


def _difference(recorded: Sequence[Entry], again: Sequence[Entry]) -> str | None:
    """Give a sentence on the first decision that is another, or made at another look."""
    before, after = decisions(recorded), decisions(again)
    for index, (at, what) in enumerate(before):
        when = datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
        if index >= len(after):
            return f"the recorded run decided at {when}: {what}; decided again, it had gone on"
        if after[index] != (at, what):
            return f"the recorded run decided at {when}: {what}; decided again {after[index][0] - at:+.1f} s: {after[index][1]}"
    return None if len(after) == len(before) else f"decided again there is more: {after[len(before)][1]}"
