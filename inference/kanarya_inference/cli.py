"""`kanarya-ml`: from a table to a served model, and the load and the router around it.

Each command's module is imported only when it is asked for: serving needs no training library, and the inference server none of
Kubernetes.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "demo-data": ("kanarya_inference.training.demo_command", "write a labelled table whose best possible quality is known"),
    "features": ("kanarya_inference.features.command", "add the market features to a table of quotes"),
    "golden": ("kanarya_inference.training.golden_command", "set rows aside that every version is measured by"),
    "train": ("kanarya_inference.training.command", "train a model and write its artefact"),
    "evaluate": ("kanarya_inference.training.evaluate_command", "measure a model on the golden set: PASS or FAIL"),
    "registry": ("kanarya_inference.registry.command", "keep versions, stages and lineage in a folder"),
    "batch": ("kanarya_inference.batch.command", "score a CSV or Parquet file"),
    "serve": ("kanarya_inference.server.command", "serve an artefact over HTTP"),
    "router": ("kanarya_inference.router.main", "split, mirror and compare requests between two tracks"),
    "load": ("kanarya_inference.load", "send a steady load and count every error"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in COMMANDS:
        parser = argparse.ArgumentParser(prog="kanarya-ml", description="The model side of Kanarya.")
        commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
        for name, (_, text) in COMMANDS.items():
            commands.add_parser(name, help=text)
        parser.parse_args(arguments)  # prints help or what is wrong, and exits
    module_name, text = COMMANDS[arguments[0]]
    module = importlib.import_module(module_name)
    parser = argparse.ArgumentParser(prog=f"kanarya-ml {arguments[0]}", description=f"{text[0].upper()}{text[1:]}.")
    module.add_arguments(parser)
    status: int = module.main(parser.parse_args(arguments[1:]))
    return status


if __name__ == "__main__":
    sys.exit(main())
