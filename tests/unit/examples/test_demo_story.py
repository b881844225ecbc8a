"""The closing words of the demo."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from examples import lab
from examples.demo.releases import Ended, evidence_commands
from examples.demo.story import ACTS, Act, abort_command, model_service, models_folder, next_steps, summary, unexpected
from examples.demo.text import Harm
from kanarya.api.rollout import RolloutSpec


def ended(version: str, outcome: str, errors: int = 0, to_zero: float | None = None) -> Ended:
    seen = Harm(errors=errors, served=9, to_zero=to_zero, to_last=None)
    return Ended("abc-1", version, outcome, "Because", seconds=61.4, highest=25, errors=3, harm=seen)


GOOD, BAD, CAUGHT = ended("v1.8.1", "Succeeded"), ended("v1.8.2", "RolledBack", errors=2, to_zero=2.34), ended("v1.8.2", "RolledBack")


def test_only_the_expected_outcomes_are_a_success() -> None:
    assert unexpected([GOOD, BAD, CAUGHT]) is None
    assert unexpected([GOOD, ended("v1.8.2", "Succeeded"), CAUGHT]) == (
        "v1.8.2 (failing with clients) should have ended as RolledBack, but ended as Succeeded (Because)."
    )
    assert "v1.8.1 (good) should" in (unexpected([ended("v1.8.1", "RolledBack"), BAD, CAUGHT]) or "")


def test_summary_has_a_row_for_each_release() -> None:
    lines = summary([GOOD, BAD, CAUGHT], 125).splitlines()
    assert lines[2].split() == ["v1.8.1", "good", "Succeeded", "Because", "61", "s", "25", "%", "3", "no", "bad", "answer"]
    assert lines[3].endswith("2.3 s")
    assert lines[4].endswith("no bad answer")
    assert lines[-1] == "Total time 2:05."
    assert "not seen" in summary([GOOD, ended("v1.8.2", "RolledBack", errors=1), CAUGHT], 1)


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


def test_the_example_is_valid() -> None:
    document = yaml.safe_load((lab.ROOT / "examples/mlmodelrollout.yaml").read_text(encoding="utf-8"))
    assert RolloutSpec.model_validate(document["spec"]).plan.steps[-1].weight == 100


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.label)
def test_the_spec_of_each_act_is_valid(act: Act) -> None:
    references = {"targetRef": {"name": "fraud"}, "serviceRef": {"name": "fraud", "port": 80}}
    RolloutSpec.model_validate({**references, **model_service().spec, **act.changes})
