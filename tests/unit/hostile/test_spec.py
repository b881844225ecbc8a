"""A spec with any value in any place of the schema: read, or refused in sentences that name the field. Nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from kanarya.api.crd import custom_resource_definition
from kanarya.api.rollout import DRIFT_WEIGHT, InvalidSpec, RolloutSpec, ServiceRef, TargetRef, parse_spec
from kanarya.controller.acceptance import Refused, check_name, salvaged
from kanarya.controller.status import Report, status_of
from kanarya.decision.state import State
from tests.unit.hostile import wrong
from tests.unit.hostile.wrong import Path

(VERSION,) = custom_resource_definition()["spec"]["versions"]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]["properties"]["spec"]
WHOLE: dict[str, Any] = RolloutSpec(target_ref=TargetRef(name="fraud"), service_ref=ServiceRef(name="fraud")).model_dump(
    mode="json", by_alias=True, exclude_none=True
)
WHOLE["analysis"]["metrics"] = [{"name": "own", "query": "up", "slo": 1.0, "abort": 2.0, "action": "Report"}]
REFS = {"targetRef": {"name": "fraud"}, "serviceRef": {"name": "fraud"}}
MIB = "x" * 2**20
LARGE: tuple[Any, ...] = (MIB, [MIB], {MIB: 1}, list(range(100_000)), 10**4000, "9" * 5000)


def schema_paths(schema: dict[str, Any], here: Path = ()) -> Iterator[Path]:
    """Give the path of every field of a schema; of lists, that of the first item."""
    if here:
        yield here
    for name, field in schema.get("properties", {}).items():
        yield from schema_paths(field, (*here, name))
    if "items" in schema:
        yield from schema_paths(schema["items"], (*here, 0))


PATHS = sorted(schema_paths(SCHEMA), key=str)


def sentence_of(spec: Any) -> str:
    """Read a spec; gives why it is refused, empty when it is not."""
    try:
        parse_spec(spec)
    except InvalidSpec as error:
        return str(error)
    return ""


def is_lax(value: Any) -> bool:
    """Whether the operator may read it as a number or a truth value; the API server, which sees it first, is stricter."""
    return isinstance(value, bool | str) or (isinstance(value, float) and value.is_integer())


def test_the_walk_sees_the_schema() -> None:
    assert len(PATHS) > 45
    assert ("plan", "steps", 0, "durationSeconds") in PATHS
    assert ("analysis", "missingData", "sourceDown", "afterSeconds") in PATHS


@pytest.mark.parametrize("path", PATHS, ids=wrong.written)
def test_any_value_in_any_field_is_read_or_named(path: Path) -> None:
    validator = jsonschema.Draft4Validator(SCHEMA)
    for value in (*wrong.WRONG, *LARGE):
        spec = wrong.replaced(WHOLE, path, value)
        sentence = sentence_of(spec)
        assert len(sentence) < 1200
        if sentence:
            # A rule between fields names the part that has both.
            assert any(wrong.written(("spec", *path[:depth])) in sentence for depth in range(len(path), 0, -1)) or DRIFT_WEIGHT in sentence
            assert "\n" not in sentence
        elif value is not None and not is_lax(value):
            assert validator.is_valid(spec), f"{value!r:.60} is refused by the API server and not by the operator"


@pytest.mark.parametrize("path", [path for path in PATHS if not {0, "steps"} & set(path)], ids=wrong.written)
def test_a_field_that_is_left_out_has_its_default_or_is_named(path: Path) -> None:
    sentence = sentence_of(wrong.without(WHOLE, path))
    required = path in {("targetRef",), ("serviceRef",), ("targetRef", "name"), ("serviceRef", "name")}
    # A policy is given whole: its time without its action, or the other way round, would be something else than was meant.
    policy = path[-2:-1] in {("noSeries",), ("sourceDown",)}
    assert bool(sentence) is (required or policy), sentence


@pytest.mark.parametrize("spec", [None, [], "", 5, math.nan, True, {}, wrong.DEEP, {"targetRef": wrong.DEEP}, MIB, {MIB: MIB}])
def test_what_is_no_spec_at_all(spec: Any) -> None:
    assert sentence_of(spec).startswith("spec")
    with pytest.raises(InvalidSpec):
        salvaged(spec)


def test_unknown_fields_of_any_depth_and_number_are_passed_over() -> None:
    nested: Any = {}
    for _ in range(300):
        nested = {"plan": nested, "x": [nested]}
    assert sentence_of({**REFS, "gates": nested["plan"], **{f"field{number}": number for number in range(10_000)}}) == ""


STEPS: dict[str, Any] = {
    "none": [],
    "thousands": [{"weight": weight} for weight in range(1, 5001)],
    "falling": [{"weight": 50}, {"weight": 5}, {"weight": 100}],
    "twice": [{"weight": 5}, {"weight": 5}, {"weight": 100}],
    "not to the total": [{"weight": 5}, {"weight": 99}],
    "beyond the total": [{"weight": 5}, {"weight": 101}],
    "below 0": [{"weight": -5}, {"weight": 100}],
    "no weight": [{"durationSeconds": 60}, {"weight": 100}],
    "a fraction": [{"weight": 0.5}, {"weight": 100}],
    "no step": [None],
    "a list": [[5, 100]],
    "no time": [{"weight": 100, "durationSeconds": 0}],
    "time run backwards": [{"weight": 100, "durationSeconds": -1800}],
    "time beyond number": [{"weight": 100, "durationSeconds": 10**30}],
    "longer than the run": [{"weight": weight, "durationSeconds": 604_800} for weight in (5, 100)],
}


@pytest.mark.parametrize("case", STEPS)
def test_steps_that_make_no_plan(case: str) -> None:
    assert sentence_of({**REFS, "plan": {"steps": STEPS[case]}}).startswith("spec.plan")


FRACTIONS: tuple[Any, ...] = (
    math.nan,
    math.inf,
    -math.inf,
    -0.0,
    0,
    1,
    1.5,
    -0.01,
    1e308,
    "NaN",
    "Infinity",
    "-0",
    "1e400",
    "one",
    "",
    None,
    [],
    {},
)


@pytest.mark.parametrize("field", ["latency.quantile", "errors.slo", "errors.abort", "match.slo", "match.abort"])
def test_fractions_that_are_none(field: str) -> None:
    part, name = field.split(".")
    for value in FRACTIONS:
        assert f"spec.analysis.{field}: " in sentence_of({**REFS, "analysis": {part: {name: value}}}), value


NAMES = ("", "Fraud", "frаud", "fraud\u200b", "fraud\u202e", "ﬁaud", "fraud\x00", "fraud\n", "a.b", "-a", "a-", "a/b", "..", "n" * 64, MIB)  # noqa: RUF001 -- a Cyrillic letter is the point


@pytest.mark.parametrize("reference", ["targetRef", "serviceRef"])
def test_names_that_only_look_like_names(reference: str) -> None:
    for name in NAMES:
        sentence = sentence_of({**REFS, reference: {"name": name}})
        assert sentence.startswith(f"spec.{reference}.name: ")
        assert name not in sentence or name in ("", "..", "-a", "a-")


@pytest.mark.parametrize("name", ["1fraud", "fraud.eu", "n" * 41, "ﬁaud", "fraud\n", ""])
def test_a_rollout_after_which_no_service_can_be_named_is_refused(name: str) -> None:
    with pytest.raises(Refused, match=r"metadata\.name must") as caught:
        check_name(name)
    assert caught.value.reason == "InvalidName"


def test_names_at_the_limits_are_accepted() -> None:
    check_name("n" * 40)
    check_name("f")
    assert sentence_of({"targetRef": {"name": "n" * 40}, "serviceRef": {"name": "n" * 63}}) == ""


# -- what a run under way still gets of a spec that is refused ------------------------------------------------------------


def test_what_is_salvaged_never_rises_and_keeps_the_size() -> None:
    spec = salvaged({**REFS, "replicas": 7, "scaleDownDelaySeconds": 5, "plan": {"steps": []}, "analysis": 5})
    assert (spec.paused, spec.replicas, spec.scale_down_delay_seconds) == (True, 7, 5)
    spec = salvaged({**REFS, "replicas": -7, "mode": "Observe"})
    assert (spec.paused, spec.replicas, spec.mode) == (True, None, "Observe")


def test_a_refusal_of_any_length_fits_into_status() -> None:
    rollout = {"metadata": {"name": "fraud", "generation": 1}}
    status = status_of(Report(rollout, State(uid="u"), 0.0, refusal=("InvalidSpec", MIB)))
    assert all(len(entry["message"]) <= 1024 for entry in status["conditions"])
