"""Reading an `MLModelRollout` from a file, as `kubectl apply -f` would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from kanarya.api.rollout import RolloutSpec, parse_spec

GROUP, KIND = "kanarya.dev/", "MLModelRollout"


def read_documents(path: Path) -> list[Any]:
    """Read the documents of a YAML or JSON file.

    Raises
    ------
    ValueError
        When the file cannot be read, or is neither.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return [document for document in yaml.safe_load_all(file) if document is not None]
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"{path} is neither YAML nor JSON: {' '.join(str(error).split())}") from None


def read_rollout(path: Path) -> RolloutSpec:
    """Read the spec of a rollout; see `read_object`."""
    return parse_spec(read_object(path).get("spec"))


def without_metrics(spec: RolloutSpec) -> RolloutSpec:
    """Give the spec without metrics of the team's own: nobody knows how they would behave."""
    return spec.model_copy(update={"analysis": spec.analysis.model_copy(update={"metrics": ()})})


def read_named(path: Path) -> tuple[str, RolloutSpec]:
    """Read name and spec of a rollout; see `read_object`."""
    rollout = read_object(path)
    metadata = rollout.get("metadata")
    name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
    return name, parse_spec(rollout.get("spec"))


def read_object(path: Path) -> dict[str, Any]:
    """Read the one `MLModelRollout` in a file, which may hold other objects, too.

    Raises
    ------
    ValueError
        With a sentence that says what to change.
    """
    found = [document for document in read_documents(path) if isinstance(document, dict) and document.get("kind") == KIND]
    if len(found) != 1:
        many = "no" if not found else f"{len(found)}"
        raise ValueError(f"{path} has {many} {KIND}{'' if len(found) == 0 else 's'}: one is expected, with `kind: {KIND}`")
    rollout = found[0]
    if not str(rollout.get("apiVersion", "")).startswith(GROUP):
        raise ValueError(f"{path}: apiVersion is {rollout.get('apiVersion')}: kanarya.dev/v1alpha1 is expected")
    return rollout
