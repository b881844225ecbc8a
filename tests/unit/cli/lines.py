"""Lines for `kanarya judge`, from rates that hold exactly."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kanarya.api.rollout import parse_spec
from kanarya.cli.judge import judged

Answers = list[dict[str, Any]]

REFERENCE = [100.0] * 10 + [0.0]


def rollout(**spec: Any) -> dict[str, Any]:
    """Give a rollout with two steps of 60 s, a look each 5 s."""
    plan = {"steps": [{"weight": 10, "durationSeconds": 60}, {"weight": 100, "durationSeconds": 60}]}
    analysis = {"method": "Sequential", "intervalSeconds": 5, **spec.pop("analysis", {})}
    whole = {"targetRef": {"name": "fraud"}, "serviceRef": {"name": "fraud"}, "plan": plan, "analysis": analysis, **spec}
    return {"apiVersion": "kanarya.dev/v1alpha1", "kind": "MLModelRollout", "metadata": {"name": "fraud"}, "spec": whole}


def write_rollout(path: Path, **spec: Any) -> Path:
    file = path / "rollout.json"
    file.write_text(json.dumps(rollout(**spec)), encoding="utf-8")
    return file


def attempts(requests: float, *, errors: float = 0.0, slow: float = 0.0, very_slow: float = 0.0) -> dict[str, Any]:
    return {"requests": requests, "errors": requests * errors, "slower": {"80": requests * (slow + very_slow), "120": requests * very_slow}}


def line(
    t: float, step: float = 0, *, rate: float = 200.0, live: float = 0.1, mismatches: float = 0.0, stable_errors: float = 0.0, **bad: float
) -> dict[str, Any]:
    """Give the line at `t` of a step at `rate` requests a second, of which the share `live` reaches the candidate."""
    total = rate * t
    return {
        "t": t,
        "step": step,
        "candidate": {
            "live": attempts(total * live, **bad),
            "mirror": attempts(total * (1 - live), **bad),
            "attempted": total,
            "compared": total,
            "mismatched": total * mismatches,
        },
        "stable": attempts(total, errors=stable_errors),
        "drift": {"spread_bp": {"reference": REFERENCE, "current": [total / 10] * 10 + [0.0]}},
    }


def judge(lines: Iterable[Any], **spec: Any) -> Answers:
    text = "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines)
    return [json.loads(answer) for answer in judged(parse_spec(rollout(**spec)["spec"]), io.BytesIO(text.encode()))]
