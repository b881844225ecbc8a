from typing import Any

import msgspec
import numpy as np
import pytest

from kanarya_inference.features import (
    DriftReference,
    FeatureReference,
    FeatureSchema,
    MalformedRequestError,
    RequestReader,
    SchemaError,
    SnapshotError,
    snapshot_schema,
)
from kanarya_inference.features.bins import MISSING
from tests.unit.inference.support import SNAPSHOT

EDGES = tuple(float(edge) for edge in range(10, 100, 10))
REFERENCE = DriftReference(
    {name: FeatureReference(EDGES, (1,) * 11, median) for name, median in zip(snapshot_schema().drift_names, (1, 2, 3, 4), strict=True)}
)
READER = RequestReader(snapshot_schema(), REFERENCE)


def read(**changes: Any) -> tuple[np.ndarray, list[int]]:
    return READER.read(msgspec.json.encode({"snapshot": {**SNAPSHOT, **changes}}))


def test_vector_has_the_six_dimensions_in_order() -> None:
    assert snapshot_schema().names == ("ts", "mid", "spread_bp", "vol1m", "rsi14", "bias")
    assert snapshot_schema().drift_names == ("mid", "spread_bp", "vol1m", "rsi14")
    row, bins = read()
    assert row.dtype == np.float32
    assert row.tolist() == [[np.float32(SNAPSHOT["ts"]), 101.25, np.float32(3.2), 11.0, 48.5, 1.0]]
    assert bins == [9, 0, 1, 4]


def test_rows_do_not_share_memory() -> None:
    first, _ = read(mid=1)
    read(mid=2)
    assert first[0, 1] == 1


def test_null_is_missing_for_drift_and_the_median_for_the_model() -> None:
    row, bins = read(spreadBp=None, rsi14=None)
    assert row[0].tolist()[2:] == [2.0, 11.0, 4.0, 1.0]
    assert bins == [9, MISSING, 1, MISSING]


@pytest.mark.parametrize(("value", "index"), [(-1e30, 0), (9.999, 0), (10, 1), (10.001, 1), (90, 9), (1e30, 9)])
def test_an_edge_belongs_to_the_bin_above_and_outer_bins_are_open(value: float, index: int) -> None:
    assert read(mid=value)[1][0] == index


def test_unknown_keys_are_ignored() -> None:
    assert read(venue="X")[1] == read()[1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ts": None}, "snapshot.ts is null: it is always known, send it as a number"),
        ({"vol1m": "12"}, "snapshot.vol1m is a string: send it as a number, without quotes"),
        ({"mid": True}, "snapshot.mid is a boolean"),
        ({"rsi14": [1]}, "snapshot.rsi14 is a list"),
        ({"rsi14": {}}, "snapshot.rsi14 is an object"),
        ({"mid": 1e39}, "snapshot.mid is too large"),
        ({"mid": -1e39}, "snapshot.mid is too large"),
    ],
)
def test_wrong_values_name_the_field_and_the_change(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SnapshotError, match=sentence.replace(".", r"\.")):
        read(**changes)


@pytest.mark.parametrize("field", list(SNAPSHOT))
def test_a_missing_key_is_named(field: str) -> None:
    snapshot = {key: value for key, value in SNAPSHOT.items() if key != field}
    with pytest.raises(SnapshotError, match=f"snapshot.{field} is missing: send it as a number"):
        READER.read(msgspec.json.encode({"snapshot": snapshot}))


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"1" * 60, b"-" + b"1" * 400])
def test_a_number_no_float_can_hold_is_named(number: bytes) -> None:
    body = msgspec.json.encode({"snapshot": SNAPSHOT}).replace(b"3.2", number)
    with pytest.raises(SnapshotError, match="spreadBp is too large"):
        READER.read(body)


@pytest.mark.parametrize("body", [b"[]", b"{}", b"null", b"3", b'{"snapshot": 1}', b'{"snapshot": null}', b'{"features": [1]}'])
def test_other_json_is_told_the_form(body: bytes) -> None:
    with pytest.raises(SnapshotError, match=r"send .*snapshot.*ts, mid, spreadBp, vol1m, rsi14"):
        READER.read(body)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b'{"snapshot": {"mid": NaN}}', b'{"snapshot": {"mid": Infinity}}', b"[" * 100_000, b'{"a": 1e999}', b"1e999"],
)
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        READER.read(body)


def test_schema_and_reference_survive_a_round_trip() -> None:
    schema = snapshot_schema()
    assert FeatureSchema.from_json(schema.to_json()) == schema
    assert DriftReference.from_json(REFERENCE.to_json(), schema) == REFERENCE


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ([], "1 to 256"),
        (["mid"], "a column is an object"),
        ([{"name": "", "field": "mid", "drift": True}], "give the column a `name`"),
        ([{"name": "mid", "field": "mid"}], "`drift` is either"),
        ([{"name": "mid", "drift": True}], "exactly one of"),
        ([{"name": "mid", "field": "mid", "constant": 1, "drift": False}], "exactly one of"),
        ([{"name": "mid", "field": 3, "drift": True}], "`field` is the key"),
        ([{"name": "bias", "constant": True, "drift": False}], "`constant` is a finite number"),
        ([{"name": "bias", "constant": 1, "drift": True}], "a constant cannot drift"),
        ([{"name": "mid", "field": "mid", "drift": True}] * 2, "same `name`"),
    ],
)
def test_a_bad_schema_is_refused_with_a_reason(columns: list[Any], sentence: str) -> None:
    with pytest.raises(SchemaError, match=sentence):
        FeatureSchema.from_json({"schemaVersion": 1, "columns": columns})


@pytest.mark.parametrize("document", [None, [], {"schemaVersion": 2, "columns": []}])
def test_an_unknown_schema_document_is_refused(document: Any) -> None:
    with pytest.raises(SchemaError):
        FeatureSchema.from_json(document)


@pytest.mark.parametrize(
    "change",
    [
        {"edges": [1.0] * 8},
        {"edges": None},
        {"edges": [9.0, *EDGES[1:]][::-1]},
        {"edges": [float("nan")] * 9},
        {"counts": [1] * 9},
        {"counts": [-1] * 10},
        {"counts": None},
        {"missing": None},
        {"median": "1"},
        {"median": float("inf")},
    ],
)
def test_a_bad_reference_is_refused(change: dict[str, Any]) -> None:
    document = REFERENCE.to_json()
    document["features"]["mid"] = {**document["features"]["mid"], **change}
    with pytest.raises(SchemaError, match="reference of mid"):
        DriftReference.from_json(document, snapshot_schema())


def test_a_reference_of_other_features_is_refused() -> None:
    document = REFERENCE.to_json()
    del document["features"]["mid"]
    with pytest.raises(SchemaError, match="train them together"):
        DriftReference.from_json(document, snapshot_schema())
