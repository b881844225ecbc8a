"""`python -m benchmarks.reaction`: how long a bad candidate keeps its traffic. What it measures and what came out: docs/benchmarks.md.

Needs the cluster of `make cluster`, with the images of this checkout loaded. Progress goes to standard error, tables and JSON to
standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import fanout, live, runs
from benchmarks.runs import Kind
from examples import lab


def main() -> int:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reaction", description=__doc__)
    parser.add_argument("--errors", type=int, default=0, metavar="N", help="runs in which the candidate begins to fail")
    parser.add_argument("--latency", type=int, default=0, metavar="N", help="runs in which the candidate becomes slow")
    parser.add_argument("--seed", type=int, default=1, help="of the moments at which candidates turn bad")
    parser.add_argument("--fan-out", type=int, nargs="+", default=[], metavar="N", help="rollouts that breach at once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON here instead")
    arguments = parser.parse_args()
    wanted: dict[Kind, int] = {"errors": arguments.errors, "latency": arguments.latency}
    kinds = [kind for kind, count in wanted.items() for _ in range(count)]
    if not kinds and not arguments.fan_out:
        parser.error("nothing to measure: give --errors, --latency or --fan-out")
    lab.cluster_environment()
    found: dict[str, Any] = {}
    if kinds:
        reactions = live.measure(kinds, arguments.seed)
        sys.stdout.write(f"{runs.report(reactions)}\n\n")
        found["reaction"] = [one.as_json() for one in reactions]
    if arguments.fan_out:
        results = fanout.measure(arguments.fan_out)
        sys.stdout.write(f"{fanout.report(results)}\n\n")
        found["fanOut"] = [one.as_json() for one in results]
    text = json.dumps(found, indent=1) + "\n"
    if arguments.json is None:
        sys.stdout.write(text)
    else:
        arguments.json.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
