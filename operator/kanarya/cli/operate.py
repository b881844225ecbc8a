"""`kanarya operator`: run the operator."""

from __future__ import annotations

import argparse
import asyncio
import sys
from importlib.metadata import version
from pathlib import Path

from kanarya.cluster.port import ApiError
from kanarya.controller.config import ConfigError, load_config
from kanarya.controller.shell import Options, configure_logging
from kanarya.controller.shell import run as run_operator


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    sub.add_argument("--config", type=Path, required=True, help="YAML file with the Prometheus sources")
    sub.add_argument("--namespace", action="append", default=[], help="work in this namespace only; may be repeated")
    sub.add_argument("--port", type=int, default=8080, help="port of /livez, /readyz and /metrics")
    sub.add_argument("--kubeconfig", type=Path)
    sub.add_argument("--context")


def run(arguments: argparse.Namespace) -> int:
    """Run until told to stop."""
    configure_logging()
    try:
        config = load_config(arguments.config)
        options = Options(config, version("kanarya"), tuple(arguments.namespace), arguments.port, arguments.kubeconfig, arguments.context)
        return asyncio.run(run_operator(options))
    except (ConfigError, ApiError) as error:
        sys.stderr.write(f"kanarya operator: {error}\n")
        return 1
