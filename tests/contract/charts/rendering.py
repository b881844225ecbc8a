"""What helm makes of a chart."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
CHARTS = ROOT / "charts"
KANARYA = CHARTS / "kanarya"
INFERENCE = CHARTS / "inference"
MODEL: Mapping[str, Any] = {"model": {"version": "v1.8.0"}}
"""The smallest values that the chart `inference` takes."""

NAMESPACE = "shop"


class Refused(Exception):  # noqa: N818 -- reads as what happened
    """helm does not render the chart; the message is what it says."""


class Objects(list[dict[str, Any]]):
    """The objects of a rendered chart."""

    def one(self, kind: str, name: str | None = None) -> dict[str, Any]:
        """The only object of a kind, or the one of that name."""
        (found,) = [body for body in self if body["kind"] == kind and name in (None, body["metadata"]["name"])]
        return found

    def kinds(self) -> list[str]:
        """The kind of each object."""
        return [body["kind"] for body in self]


@dataclass(frozen=True)
class Helm:
    """The program."""

    program: Path

    def run(self, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        """Run helm with values from its standard input; `Refused` when it fails."""
        done = subprocess.run(
            [str(self.program), *arguments, "--values", "-"],
            input=json.dumps(values or {}), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise Refused(done.stderr + done.stdout)
        return done.stdout

    def template(
        self, chart: Path, values: Mapping[str, Any] | None = None, *, release: str = "fraud", options: Sequence[str] = ()
    ) -> Objects:
        """Render a chart; for `inference`, values without a model get one."""
        chosen = {**(MODEL if chart.name == "inference" else {}), **(values or {})}
        text = self.run("template", release, str(chart), "--namespace", NAMESPACE, "--kube-version", "1.34.0", *options, values=chosen)
        return Objects(body for body in yaml.safe_load_all(text) if body)


def pods(objects: Objects) -> list[dict[str, Any]]:
    """The pod templates of all Deployments."""
    return [body["spec"]["template"] for body in objects if body["kind"] == "Deployment"]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether a selector (`matchLabels`, `matchExpressions` with `NotIn`, or a Service's plain map) takes a pod with these labels."""
    equal = selector.get("matchLabels", {} if "matchExpressions" in selector else selector)
    if any(labels.get(key) != value for key, value in equal.items()):
        return False
    for term in selector.get("matchExpressions", ()):
        assert term["operator"] == "NotIn"
        if labels.get(term["key"]) in term["values"]:
            return False
    return True
