"""Values, their schema, their documentation and the code they are meant for say the same."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from kanarya.api.rollout import RolloutSpec
from kanarya.telemetry.source import SourceConfig
from tests.unit.charts.chart import ROOT, Chart, rows

CHARTS = [Chart("kanarya"), Chart("inference")]
each_chart = pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)


@each_chart
def test_description(chart: Chart) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart.description["name"] == chart.name
    assert chart.description["apiVersion"] == "v2"
    assert chart.description["appVersion"] == project["version"]
    assert chart.description["kubeVersion"] == ">=1.30.0-0"
    assert chart.description["annotations"]["artifacthub.io/license"] == project["license"]


@each_chart
def test_the_schema_is_a_schema_and_takes_the_defaults(chart: Chart) -> None:
    validator = jsonschema.Draft7Validator
    validator.check_schema(chart.schema)
    assert [error.message for error in validator(chart.schema).iter_errors(chart.values)] == []


@each_chart
def test_every_value_has_a_schema_and_every_schema_a_value(chart: Chart) -> None:
    def compare(values: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[str]:
        known = schema["properties"].keys() - {"global"}
        yield from (f"{path}{name} has no schema" for name in values.keys() - known)
        yield from (f"{path}{name} has no default" for name in known - values.keys())
        for name in values.keys() & known:
            child = schema["properties"][name]
            if "properties" in child and f"{path}{name}" != "rollout.spec":
                yield from compare(values[name], child, f"{path}{name}.")

    assert sorted(compare(chart.values, chart.schema, "")) == []


@each_chart
def test_objects_refuse_unknown_keys_and_everything_is_described(chart: Chart) -> None:
    def faults(schema: Any, path: str) -> Iterator[str]:
        if "properties" in schema:
            if schema.get("additionalProperties") is not False:
                yield f"{path} takes unknown keys"
            for name, child in schema["properties"].items():
                if child is True:
                    continue
                if not child.get("description"):
                    yield f"{path}.{name} has no description"
                yield from faults(child, f"{path}.{name}")

    assert list(faults(chart.schema, "")) == []


@each_chart
def test_the_readme_lists_every_value_with_its_default(chart: Chart) -> None:
    assert chart.documented() == chart.described()


def test_the_reference_page_says_the_same_as_the_charts() -> None:
    page = (ROOT / "docs/reference/charts.md").read_text()
    known = [value for chart in CHARTS for value in chart.described()]
    listed = rows(page)
    assert listed
    assert [value for value in listed if value not in known] == []


def test_rollout_spec_has_the_resources_fields() -> None:
    """`targetRef` and `serviceRef` are the chart's to fill in; anything misspelt at the top is refused before it is sent."""
    fields = {field.alias for field in RolloutSpec.model_fields.values()}
    spec = Chart("inference").schema["properties"]["rollout"]["properties"]["spec"]
    assert set(spec["properties"]) == fields - {"targetRef", "serviceRef"}


def test_sources_have_the_fields_that_the_operator_reads() -> None:
    source = Chart("kanarya").schema["properties"]["sources"]["additionalProperties"]
    fields = SourceConfig.model_json_schema(by_alias=True)
    assert set(source["properties"]) - {"mount"} == set(fields["properties"])
    assert source["required"] == fields["required"]


def test_a_source_behind_tls_takes_files_and_no_secrets() -> None:
    validator = jsonschema.Draft7Validator(Chart("kanarya").schema)

    def faults(**source: Any) -> list[str]:
        values = {"sources": {"default": {"url": "https://prometheus", "scrapeIntervalSeconds": 5, **source}}}
        return [error.message for error in validator.iter_errors(values)]

    token = {"serviceAccountToken": {"path": "token", "audience": "thanos", "expirationSeconds": 600}}
    assert (
        faults(caFile="/ca", headers={"X-Scope-OrgID": "a"}, mount=[{"secret": {"name": "x"}}, {"configMap": {"name": "y"}}, token]) == []
    )
    refused: list[dict[str, Any]] = [
        {"bearerToken": "secret"},
        {"password": "secret"},
        {"insecureSkipVerify": True},
        {"caFile": "ca.pem"},
        {"mount": [{"secret": {"name": "x"}, "configMap": {"name": "y"}}]},
        {"mount": [{"hostPath": {"path": "/"}}]},
        {"mount": [{"secret": {}}]},
    ]
    for wrong in refused:
        assert faults(**wrong), wrong


def test_people_are_told_to_make_a_configmap_of_the_whole_folder() -> None:
    """A file that metadata.json has a sum of, and that is not there, leaves the pods not ready: parity.json is easily forgotten."""
    notes = (Chart("inference").folder / "templates/NOTES.txt").read_text()
    assert re.findall(r"--from-file=(\S+)", notes) == ["FOLDER"]
