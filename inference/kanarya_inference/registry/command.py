"""`kanarya-ml registry`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kanarya_inference.training.guard import guarded

if TYPE_CHECKING:
    from kanarya_inference.registry.store import Registry

STAGES = ("candidate", "staging", "production", "archived")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder of the registry, for example on a volume")
    parser.add_argument("--name", required=True, help="of the model")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="copy an artefact in, as a candidate")
    add.add_argument("artefact", type=Path)
    add.add_argument("--parent", metavar="VERSION", help="version that it descends from")
    add.add_argument("--report", type=Path, metavar="FILE", help="its offline_report.json")
    actions.add_parser("list", help="every version with its stage")
    show = actions.add_parser("show", help="one version as JSON, with its lineage")
    show.add_argument("version")
    promote = actions.add_parser("promote", help="move a version to a stage; production archives the one before")
    promote.add_argument("version")
    promote.add_argument("--stage", choices=STAGES, default="production", help="default: %(default)s")
    promote.add_argument("--report", type=Path, metavar="FILE", help="its offline_report.json")
    promote.add_argument("--unevaluated", action="store_true", help="promote to production without a report that passed")
    actions.add_parser("verify", help="check the sums and the scores of every version")


def main(args: argparse.Namespace) -> int:
    """Run one action; 1 when it was refused or something does not verify."""

    def run() -> int:
        from kanarya_inference.registry.store import Registry  # noqa: PLC0415

        actions = {"add": _add, "list": _list, "show": _show, "promote": _promote, "verify": _verify}
        return actions[args.action](Registry(args.root, args.name), args)

    return guarded("registry", run)


def _add(registry: Registry, args: argparse.Namespace) -> int:
    version = registry.add(args.artefact, parent=args.parent)
    verdict = f", offline report {registry.attach(version, args.report)}" if args.report else ""
    return _say(f"{args.name} {version} is in {registry.path(version)}{verdict}")


def _list(registry: Registry, _: argparse.Namespace) -> int:
    rows = [("VERSION", "STAGE", "PARENT", "OFFLINE", "MODEL")]
    for version, entry in registry.versions().items():
        verdict = (entry["evaluation"] or {}).get("verdict", "-")
        rows.append((version, entry["stage"], entry["parent"] or "-", verdict, entry["sha256"]["model.onnx"][:12]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return _say("\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows))


def _show(registry: Registry, args: argparse.Namespace) -> int:
    return _say(json.dumps({"version": args.version, **registry.entry(args.version), "lineage": registry.lineage(args.version)}, indent=1))


def _promote(registry: Registry, args: argparse.Namespace) -> int:
    if args.report:
        registry.attach(args.version, args.report)
    replaced = registry.promote(args.version, args.stage, unevaluated=args.unevaluated)
    return _say(f"{args.name} {args.version} is in stage {args.stage}" + (f"; archived: {', '.join(replaced)}" if replaced else ""))


def _verify(registry: Registry, _: argparse.Namespace) -> int:
    problems = registry.verify()
    for version in registry.versions():
        _say(f"{version}: {problems.get(version, 'ok')}")
    return 1 if problems else 0


def _say(text: str) -> int:
    sys.stdout.write(text + "\n")
    return 0
