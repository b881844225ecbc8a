"""Schema files: the columns of a user's own table, in JSON or YAML.

    schemaVersion: 1
    columns:
    - {name: amount}                                                  # a number; a missing value becomes the median
    - {name: age_days, missing: 0}                                    # becomes 0
    - {name: channel, type: category, categories: [web, app, branch]} # anything else is `other`
    - {name: ts, drift: false}                                        # time: a missing value is refused, drift is not watched

`field` is the column of the table and the key in a request, `name` where it is left out; `drift` is true where it is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from kanarya_inference.features.schema import FeatureSchema, SchemaError

MAX_BYTES = 1 << 20
KEYS = {"name", "field", "constant", "type", "categories", "missing", "drift"}


def read_schema_file(path: Path) -> FeatureSchema:
    """Read a schema file. Raises `SchemaError`, `OSError`."""
    if path.stat().st_size > MAX_BYTES:
        raise SchemaError(f"{path} has more than {MAX_BYTES} bytes: no schema is that long")
    document = _parse(path)
    if not isinstance(document, Mapping) or not isinstance(document.get("columns"), list):
        raise SchemaError(f"{path}: a schema is an object with `schemaVersion: {1}` and a list `columns`")
    columns = [_with_defaults(column, f"columns[{index}]") for index, column in enumerate(document["columns"])]
    return FeatureSchema.from_json({**document, "columns": columns})


def _with_defaults(column: Any, where: str) -> Any:
    if not isinstance(column, Mapping):
        return column
    if unknown := sorted(map(str, set(column) - KEYS)):
        raise SchemaError(f"{where}: unknown key `{unknown[0]}`; there are {', '.join(sorted(KEYS))}")
    given: dict[str, Any] = dict(column)
    if given.get("constant") is None:
        given.setdefault("field", given.get("name"))
    given.setdefault("drift", given.get("constant") is None)
    return given


def _parse(path: Path) -> Any:
    content = path.read_bytes()
    if path.suffix.lower() in {".yaml", ".yml"}:
        try:
            import yaml  # noqa: PLC0415 -- only those who write YAML need it
        except ModuleNotFoundError:
            raise SchemaError(f"{path}: PyYAML is not installed: pip install pyyaml, or write the schema as JSON") from None
        try:
            return yaml.safe_load(content)
        except yaml.YAMLError as error:
            raise SchemaError(f"{path} is not YAML: {error}") from None
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(f"{path} is not JSON: {error}") from None
