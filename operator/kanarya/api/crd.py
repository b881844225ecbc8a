"""The CustomResourceDefinition, generated from the models."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from kanarya.api.base import GROUP, VERSION, rule
from kanarya.api.rollout import NAME_LIMIT, RolloutSpec
from kanarya.api.status import RolloutStatus

NAME_TOO_LONG = f"metadata.name must have at most {NAME_LIMIT} characters: names of other objects are made from it"
NAME_NOT_LABEL = "metadata.name must be lower-case letters, digits and '-', beginning with a letter: Services are named after it"
_DROPPED = ("title", "discriminator", "additionalProperties", "exclusiveMinimum", "exclusiveMaximum")


def structural(model: type[BaseModel], *, defaults: bool) -> dict[str, Any]:
    """Give a model's JSON schema in the structural form that Kubernetes asks for (no `$ref`, no `anyOf` with null)."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    result = _inline(schema, schema.get("$defs", {}), defaults=defaults)
    if not isinstance(result, dict):
        raise TypeError(model.__name__)
    return result


def _inline(node: Any, definitions: dict[str, Any], *, defaults: bool) -> Any:
    if isinstance(node, list):
        return [_inline(item, definitions, defaults=defaults) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        node = {**definitions[node["$ref"].rsplit("/", 1)[1]], **{key: value for key, value in node.items() if key != "$ref"}}
    if "anyOf" in node:
        (real,) = [option for option in node["anyOf"] if option.get("type") != "null"]
        return _inline(
            {**real, **{key: value for key, value in node.items() if key not in ("anyOf", "default")}}, definitions, defaults=defaults
        )
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key == "const":
            result["enum"] = [value]
        elif key == "exclusiveMinimum":  # OpenAPI 3.0 says it with a flag
            result |= {"minimum": value, "exclusiveMinimum": True}
        elif key == "exclusiveMaximum":
            result |= {"maximum": value, "exclusiveMaximum": True}
        elif key == "properties":
            result[key] = {name: _inline(child, definitions, defaults=defaults) for name, child in value.items()}
        elif key == "default":
            if defaults:
                result[key] = _inline(value, definitions, defaults=defaults) if not isinstance(value, dict) else _without_none(value)
        elif key not in ("$defs", *_DROPPED):
            result[key] = _inline(value, definitions, defaults=defaults)
    return result


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(child) for key, child in value.items() if child is not None}
    return value


def _column(name: str, path: str, kind: str = "string", *, wide: bool = False, description: str = "") -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    if description:
        column["description"] = description
    if wide:
        column["priority"] = 1
    return column


COLUMNS = [
    _column("State", ".status.summary"),
    _column("Step", ".status.stepSummary", description="Step of the plan, of how many."),
    _column("Weight", ".status.run.weight", "integer", description="The candidate's share of the traffic."),
    _column("Reason", ".status.reason"),
    _column("Age", ".metadata.creationTimestamp", "date"),
    _column("Stable", ".status.stable.version", wide=True),
    _column("Candidate", ".status.run.version", wide=True),
    _column("Run", ".status.run.id", wide=True),
    _column("Since", ".status.run.since", wide=True),
    _column("Ready", ".status.conditions[?(@.type=='Ready')].status", wide=True),
    _column("Released", ".status.conditions[?(@.type=='Released')].reason", wide=True),
]


def custom_resource_definition() -> dict[str, Any]:
    """Give the whole CRD as the API server takes it."""
    spec = structural(RolloutSpec, defaults=True)
    spec.pop("default", None)
    status = structural(RolloutStatus, defaults=False)
    status["properties"]["conditions"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    schema = {
        "type": "object",
        "required": ["spec"],
        "description": "MLModelRollout rolls new versions of one model service out on evidence.",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": [
            rule(f"self.metadata.name.size() <= {NAME_LIMIT}", NAME_TOO_LONG),
            rule("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')", NAME_NOT_LABEL),
        ],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"mlmodelrollouts.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": "MLModelRollout",
                "listKind": "MLModelRolloutList",
                "plural": "mlmodelrollouts",
                "singular": "mlmodelrollout",
                "shortNames": ["mlr"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": COLUMNS,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }
