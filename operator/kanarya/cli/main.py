"""The `kanarya` command, also `kubectl kanarya`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from kanarya.cli import crd, evidence, operate, status


def parser() -> argparse.ArgumentParser:
    """Give the command line's grammar."""
    top = argparse.ArgumentParser(prog="kanarya", description="Rolls new ML model versions out on evidence.")
    top.add_argument("--version", action="version", version=f"kanarya {version('kanarya')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module, name, text in (
        (operate, "operator", "run the operator"),
        (status, "status", "show a rollout, once or live"),
        (evidence, "evidence", "read and check the evidence of a run"),
        (crd, "crd", "print the CustomResourceDefinition"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parsed = parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
