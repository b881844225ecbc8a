"""The closing words of the demo."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from examples import lab
from examples.demo.releases import Ended, evidence_commands
from examples.demo.story import abort_command, model_service, models_folder, next_steps, summary, unexpected
from examples.demo.text import Harm
from kanarya.api.rollout import RolloutSpec


def ended(version: str, outcome: str, errors: int = 0, to_zero: float | None = None) -> Ended:
    seen = Harm(errors=errors, served=9, to_zero=to_zero, to_last=None)
    return Ended("abc-1", version, outcome, "Because", seconds=61.4, highest=25, errors=3, harm=seen)


GOOD, BAD = ended("v1.8.1", "Succeeded"), ended("v1.8.2", "RolledBack", errors=2, to_zero=2.34)


def test_only_the_expected_outcomes_are_a_success() -> None:
    assert unexpected([GOOD, BAD]) is None
    assert unexpected([GOOD, ended("v1.8.2", "Succeeded")]) == ("v1.8.2 should have ended as RolledBack, but ended as Succeeded (Because).")
    assert "v1.8.1 should" in (unexpected([ended("v1.8.1", "RolledBack"), BAD]) or "")


def test_summary_has_a_row_for_each_release() -> None:
    lines = summary([GOOD, BAD, ended("v1.8.2", "RolledBack", errors=1)], 125).splitlines()
    assert lines[2].split() == ["v1.8.1", "Succeeded", "Because", "61", "s", "25", "%", "3", "no", "bad", "answer"]
    assert lines[3].endswith("2.3 s")
    assert lines[4].endswith("not seen")
    assert lines[-1] == "Total time 2:05."


def test_commands_name_the_service_and_the_runs() -> None:
    service = lab.ModelService("space", Path(), name="fraud")
    assert evidence_commands(service, "abc-1")[0] == "kanarya evidence get fraud -n space --run abc-1"
    assert abort_command(service).endswith("kanarya.dev/abort=$(kubectl get mlr fraud -n space -o jsonpath='{.status.run.id}')")
    text = next_steps(service, [GOOD])
    assert "uv run kanarya evidence get fraud -n space --run abc-1 | uv run kanarya evidence verify -" in text
    assert """--set-json 'extraArgs=["--fault-latency-ms","1500"]'""" in text
    assert "make cluster-down" in text


def test_the_service_and_the_folder_of_its_models_are_the_same_each_time() -> None:
    assert model_service() == model_service()
    assert models_folder().parent == lab.ROOT / "build/out/models"


@pytest.mark.parametrize("name", ["demo", "file"])
def test_specs_are_valid(name: str) -> None:
    document = yaml.safe_load((lab.ROOT / "examples/mlmodelrollout.yaml").read_text(encoding="utf-8"))
    references = {"targetRef": {"name": "fraud"}, "serviceRef": {"name": "fraud", "port": 80}}
    spec = document["spec"] if name == "file" else {**references, **model_service().spec}
    assert RolloutSpec.model_validate(spec).plan.steps[-1].weight == 100
