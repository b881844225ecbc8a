"""The CRD that the models generate is structural, and what is in the repository is what they generate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kanarya.api.crd import custom_resource_definition, structural
from kanarya.api.rollout import RolloutSpec, latched, parse_spec
from kanarya.api.status import RolloutStatus
from tools.generate import outputs

SCHEMA: dict[str, Any] = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
FORBIDDEN = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "title", "const", "discriminator", "additionalProperties", "prefixItems"}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Give each schema with its path; the names of properties are not keywords."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def test_every_node_is_structural() -> None:
    for path, node in nodes(SCHEMA):
        assert not FORBIDDEN & set(node), f"{path} has {FORBIDDEN & set(node)}"
        assert node.get("type") in {"object", "array", "string", "integer", "number", "boolean"}, f"{path} has no type"


def test_lists_and_strings_of_the_spec_are_bounded() -> None:
    for path, node in nodes(SCHEMA["properties"]["spec"], "spec"):
        if node["type"] == "array":
            assert "maxItems" in node, path
        if node["type"] == "string":
            assert "maxLength" in node or "enum" in node, path
        if node["type"] in {"integer", "number"}:
            assert {"minimum", "maximum"} <= set(node), path


def test_exclusive_bounds_are_flags_as_openapi_3_0_wants_them() -> None:
    slo = SCHEMA["properties"]["spec"]["properties"]["analysis"]["properties"]["errors"]["properties"]["slo"]
    assert (slo["minimum"], slo["exclusiveMinimum"], slo["maximum"], slo["exclusiveMaximum"]) == (0, True, 1, True)


def test_defaults_have_no_null_and_required_fields_no_default() -> None:
    def no_null(value: Any, path: str) -> None:
        assert value is not None, path
        for key, child in value.items() if isinstance(value, dict) else ():
            no_null(child, f"{path}.{key}")

    for path, node in nodes(SCHEMA):
        no_null(node.get("default", ""), path)
        for name in node.get("required", []):
            assert "default" not in node["properties"][name], f"{path}.{name}"


def test_only_targetref_and_serviceref_are_required() -> None:
    required = {f"{path}.{name}" for path, node in nodes(SCHEMA["properties"]["spec"], "spec") for name in node.get("required", [])}
    assert required == {
        "spec.targetRef",
        "spec.targetRef.name",
        "spec.serviceRef",
        "spec.serviceRef.name",
        "spec.plan.steps[].weight",
        "spec.analysis.metrics[].name",
        "spec.analysis.metrics[].slo",
        "spec.analysis.metrics[].abort",
    }


def test_status_has_no_defaults() -> None:
    assert not [path for path, node in nodes(structural(RolloutStatus, defaults=False)) if "default" in node]


def test_names_of_fields_are_in_camel_case() -> None:
    for path, _ in nodes(structural(RolloutSpec, defaults=True)):
        assert "_" not in path


@pytest.mark.parametrize("path", sorted(outputs()), ids=lambda path: path.name)
def test_the_repository_holds_what_the_models_generate(path: Any) -> None:
    assert path.read_text(encoding="utf-8") == outputs()[path], "run `make generate`"


def test_what_a_run_latches_reads_back_as_it_was() -> None:
    spec = parse_spec({"targetRef": {"name": "fraud"}, "serviceRef": {"name": "fraud"}})
    assert set(latched(spec)) == {"plan", "analysis", "mode", "traffic"}
    again = parse_spec({**latched(spec), "targetRef": {"name": "fraud"}, "serviceRef": {"name": "fraud"}})
    assert again == spec
