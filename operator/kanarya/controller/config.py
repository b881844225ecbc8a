"""The operator's own configuration: which Prometheus servers there are. Never taken from a resource."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from kanarya.telemetry.source import SourceConfig


class ConfigError(Exception):
    """The configuration cannot be used; the message says what to change."""


class OperatorConfig(BaseModel):
    """What `--config` names.

    `allow_custom_queries` is whether rollouts may bring queries of their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)
    sources: Mapping[str, SourceConfig]
    allow_custom_queries: bool = False


def load_config(path: Path) -> OperatorConfig:
    """Read the configuration file; raises `ConfigError`."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    try:
        return OperatorConfig.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ConfigError(f"{path}: {place}: {first['msg']}") from error
