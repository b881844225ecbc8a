"""JSON merge patch and JSON patch, as the API server applies them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import jsonpatch
import jsonpointer

from kanarya.cluster.port import Object


def merge(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386); neither argument is changed."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def apply_json_patch(body: Object, operations: Sequence[Object]) -> Any:
    """Apply a JSON patch (RFC 6902) to a copy. Raises `ValueError` when it cannot be applied or a `test` does not hold."""
    patched: Any = copy.deepcopy(body)
    for operation in operations:
        try:
            patched = jsonpatch.JsonPatch([_as_served(patched, copy.deepcopy(operation))]).apply(patched)
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, KeyError) as error:
            raise ValueError(str(error)) from error
    return patched


def _as_served(body: Any, operation: Object) -> Object:
    """Replacing a member that a map does not have is an error by the RFC, but the API server adds it."""
    if operation.get("op") != "replace" or "/" not in str(operation.get("path")):
        return operation
    container, _, _ = str(operation["path"]).rpartition("/")
    if isinstance(jsonpointer.resolve_pointer(body, container, None), dict):
        return {**operation, "op": "add"}
    return operation
