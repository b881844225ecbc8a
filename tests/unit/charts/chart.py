"""A chart as files: its description, values, schema and README."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Value:
    """One value of a chart, as its schema has it."""

    path: str
    default: Any


@dataclass(frozen=True)
class Chart:
    """A chart under `charts/`."""

    name: str

    @property
    def folder(self) -> Path:
        return ROOT / "charts" / self.name

    @cached_property
    def description(self) -> dict[str, Any]:
        return dict(yaml.safe_load((self.folder / "Chart.yaml").read_text()))

    @cached_property
    def values(self) -> dict[str, Any]:
        return dict(yaml.safe_load((self.folder / "values.yaml").read_text()))

    @cached_property
    def schema(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "values.schema.json").read_text()))

    def documented(self) -> list[Value]:
        """The rows of the README's table, in its order."""
        return rows((self.folder / "README.md").read_text())

    def described(self) -> list[Value]:
        """Every value that the schema describes, with its default in values.yaml, in the schema's order."""
        return list(_leaves(self.schema, self.values, ""))


def rows(markdown: str) -> list[Value]:
    """The rows `| value | default | …` of a Markdown page."""
    return [Value(path, json.loads(default)) for path, default in re.findall(r"^\| `([^`]+)` \| `(.+?)` \|", markdown, re.MULTILINE)]


def _leaves(schema: dict[str, Any], values: Any, path: str) -> Iterator[Value]:
    for name, child in schema["properties"].items():
        here = f"{path}.{name}".removeprefix(".")
        entries = child.get("additionalProperties")
        if here == "global":
            continue
        if here == "rollout.spec":  # documented by the resource's own reference
            yield Value(here, values[name])
        elif "properties" in child:
            yield from _leaves(child, values[name], here)
        elif isinstance(entries, dict) and "properties" in entries:
            yield from _leaves(entries, values[name]["default"], f"{here}.NAME")
        else:
            yield Value(here, values[name])
