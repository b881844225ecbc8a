"""What all resource models share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, JsonValue
from pydantic.alias_generators import to_camel

GROUP = "kanarya.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class Model(BaseModel):
    """A frozen part of a resource; camelCase outside, snake_case inside. Fields of a newer API server are ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", allow_inf_nan=False)


def rule(expression: str, message: str) -> dict[str, str]:
    """Describe a CEL rule as `x-kubernetes-validations` wants it."""
    return {"rule": expression, "message": message}


def rules(*entries: dict[str, str]) -> ConfigDict:
    """Give the model configuration that puts CEL rules on a model's schema."""
    validations: list[JsonValue] = [dict(entry) for entry in entries]
    return ConfigDict(json_schema_extra={"x-kubernetes-validations": validations})
