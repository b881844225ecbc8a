"""`kanarya evidence`: read the evidence of a run, check it and tell it, offline."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from kanarya.cli.report import report
from kanarya.cluster.kubernetes import KubernetesApi
from kanarya.cluster.objects import printable
from kanarya.cluster.port import ROLLOUTS, ApiError
from kanarya.cluster.store import read_evidence
from kanarya.decision.replay import first_difference

MOST_CHARACTERS = 1000
"""Longest message: what stands in a file may be part of it."""


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    actions = sub.add_subparsers(dest="action", required=True, metavar="ACTION")
    get = actions.add_parser("get", help="print the entries of a run as JSON")
    get.add_argument("rollout")
    get.add_argument("--run", dest="run_id", help="run id; default: the latest")
    get.add_argument("-n", "--namespace", default="default")
    get.add_argument("--kubeconfig", type=Path)
    get.add_argument("--context")
    verify = actions.add_parser("verify", help="check the chain and judge every entry again")
    told = actions.add_parser("report", help="tell what was decided when, and on which numbers")
    for command in (verify, told):
        command.add_argument("file", help="what `evidence get` printed; - for standard input")


def run(arguments: argparse.Namespace) -> int:
    """Read or check; exit code 1 when something does not hold."""
    try:
        if arguments.action == "get":
            entries = asyncio.run(_get(arguments))
            sys.stdout.write(json.dumps(entries, indent=1) + "\n")
            return 0
        text = sys.stdin.read() if arguments.file == "-" else Path(arguments.file).read_text(encoding="utf-8")
        answer = _answer(arguments.action, json.loads(text))
        sys.stdout.write("".join(f"{printable(line)}\n" for line in answer.split("\n")))
    except RecursionError:
        sys.stderr.write("kanarya evidence: this is no evidence: its brackets are nested without end\n")
        return 1
    except (ApiError, OSError, ValueError) as error:
        sys.stderr.write(f"kanarya evidence: {printable(str(error)[:MOST_CHARACTERS])}\n")
        return 1
    return 0


def _answer(action: str, entries: Any) -> str:
    """Check what came from a file, where anything may stand, and tell it if that is what was asked; raises `ValueError`."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries) or not entries:
        raise ValueError("this is no evidence: a list of entries is expected, as `evidence get` prints it")
    try:
        difference = first_difference(entries)
        story = report(entries) if action == "report" and difference is None else ""
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"this is no evidence: an entry is not as it should be ({type(error).__name__}: {error})") from error
    if difference:
        raise ValueError(difference)
    checked = f"{len(entries)} entries, chain unbroken, every verdict the same when judged again; head {entries[-1]['hash']}"
    return f"{story}\n{checked}" if story else checked


async def _get(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    api = await KubernetesApi.connect(kubeconfig=arguments.kubeconfig, context=arguments.context)
    try:
        run_id = arguments.run_id
        if run_id is None:
            rollout = await api.get(ROLLOUTS, arguments.namespace, arguments.rollout)
            status = (rollout or {}).get("status", {})
            history = status.get("history") or [{}]
            run_id = (status.get("run") or {}).get("id") or history[-1].get("run")
        if run_id is None:
            raise ValueError(f"rollout {arguments.rollout} in namespace {arguments.namespace} has had no run")
        entries = await read_evidence(api, arguments.namespace, arguments.rollout, run_id)
        if not entries:
            raise ValueError(f"no evidence of run {run_id} of {arguments.rollout} in namespace {arguments.namespace}")
        return entries
    finally:
        await api.close()
