"""`kanarya status`: a rollout on the terminal, once or live."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from kanarya.cli.view import render
from kanarya.cluster.kubernetes import KubernetesApi
from kanarya.cluster.port import ROLLOUTS, ApiError


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    sub.add_argument("rollout")
    sub.add_argument("-n", "--namespace", default="default")
    sub.add_argument("-w", "--watch", action="store_true", help="go on showing changes until interrupted")
    sub.add_argument("-o", "--output", choices=("text", "json"), default="text")
    sub.add_argument("--kubeconfig", type=Path)
    sub.add_argument("--context")


def run(arguments: argparse.Namespace) -> int:
    """Show the rollout; exit code 1 when there is none."""
    try:
        return asyncio.run(_show(arguments))
    except ApiError as error:
        sys.stderr.write(f"kanarya status: {error}\n")
        return 1


async def _show(arguments: argparse.Namespace) -> int:
    api = await KubernetesApi.connect(kubeconfig=arguments.kubeconfig, context=arguments.context)
    try:
        shown = ""
        while True:
            rollout = await api.get(ROLLOUTS, arguments.namespace, arguments.rollout)
            if rollout is None:
                sys.stderr.write(f"kanarya status: no MLModelRollout {arguments.rollout} in namespace {arguments.namespace}\n")
                return 1
            text = _text(arguments, rollout)
            if text != shown:
                sys.stdout.write(text + "\n")
                sys.stdout.flush()
                shown = text
            if not arguments.watch:
                return 0
            await asyncio.sleep(1)
    finally:
        await api.close()


def _text(arguments: argparse.Namespace, rollout: dict[str, Any]) -> str:
    if arguments.output == "json":
        return json.dumps(rollout.get("status", {}), indent=1)
    return render(rollout, {}, time.time())
