"""The `kanarya` command, also `kubectl kanarya`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

COMMANDS = {
    "operator": ("operate", "run the operator"),
    "status": ("status", "show a rollout, once or live"),
    "evidence": ("evidence", "read and check the evidence of a run"),
    "judge": ("judge", "judge counts from standard input, line by line, as the operator would"),
    "plan": ("plan", "tell whether a plan has enough traffic, how soon it notices faults, how often it is wrong"),
    "simulate": ("simulate", "play a plan against described candidates, by chance, in virtual time"),
    "replay": ("replay", "what a plan would have done, or a run did, on what a Prometheus has stored"),
    "crd": ("crd", "print the CustomResourceDefinition"),
}
"""Module and help of each command."""


def parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Give the command line's grammar, of commands those that `arguments` name: a filter need not wait for Kubernetes' client."""
    top = argparse.ArgumentParser(prog="kanarya", description="Rolls new ML model versions out on evidence.")
    top.add_argument("--version", action="version", version=f"kanarya {version('kanarya')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module_name, text) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text)
        if name in arguments:
            module = import_module(f"kanarya.cli.{module_name}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    parsed = parser(given).parse_args(given)
    try:
        return int(parsed.run(parsed))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
