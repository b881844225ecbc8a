"""The table definition of the features against serving's, row by row, and against the formulas of the market features."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from kanarya_inference.features import (
    DriftReference,
    FeatureReference,
    FeatureSchema,
    RequestReader,
    SchemaError,
    SnapshotError,
    encode,
    read_schema_file,
    reference_of,
)
from kanarya_inference.features.market import MARKET_FEATURES, QuoteError, market_features

ROWS = 400
SCHEMA = FeatureSchema.from_json(
    {
        "schemaVersion": 1,
        "columns": [
            {"name": "ts", "field": "when", "drift": False},
            {"name": "amount", "field": "amount", "drift": True},
            {"name": "age", "field": "age", "drift": False, "missing": -1},
            {"name": "steps", "field": "steps", "drift": True, "missing": "refuse"},
            {"name": "channel", "field": "channel", "drift": True, "type": "category", "categories": ["web", "app", "branch"]},
            {"name": "region", "field": "region", "drift": False, "categories": ["north", "south"], "missing": "refuse"},
            {"name": "bias", "constant": 1, "drift": False},
        ],
    }
)


def table(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw a table with missing values everywhere, ties, unknown categories and numbers no float32 can hold."""

    def holes(values: np.ndarray, share: float = 0.05) -> np.ndarray:
        return np.where(rng.random(ROWS) < share, np.nan, values)

    amount = holes(rng.lognormal(3, 1, ROWS))
    amount[3] = 1e39
    return {
        "ts": holes(1.75e9 + np.arange(ROWS) * 60.0, 0.02),
        "amount": amount,
        "age": holes(rng.integers(18, 90, ROWS).astype(float)),
        "steps": holes(rng.integers(0, 4, ROWS).astype(float), 0.02),
        "channel": holes(rng.integers(0, 4, ROWS).astype(float)),
        "region": holes(rng.integers(0, 3, ROWS).astype(float), 0.02),
    }


def snapshot(values: dict[str, np.ndarray], row: int) -> dict[str, Any]:
    """Write one row as a client would send it."""
    document: dict[str, Any] = {}
    for column in SCHEMA.columns:
        if column.field is None:
            continue
        value = values[column.name][row]
        if math.isnan(value):
            document[column.field] = None
        elif column.categories:
            document[column.field] = [*column.categories, "never seen"][int(value)]
        else:
            document[column.field] = float(value)
    return document


def test_serving_gives_the_tables_numbers_row_by_row() -> None:
    values = table(np.random.default_rng(5))
    clean = {name: np.where(np.abs(column) > 1e38, 1.0, column) for name, column in values.items()}
    reference = reference_of(SCHEMA, clean)
    reader = RequestReader(SCHEMA, reference)
    encoded = encode(SCHEMA, reference, values, ROWS)
    bins = np.stack([reference.features[name].bins_of(values[name]) for name in SCHEMA.drift_names], axis=1)
    refused = 0
    for row in range(ROWS):
        body = msgspec.json.encode({"snapshot": snapshot(values, row)})
        if row in encoded.problems:
            with pytest.raises(SnapshotError, match=rf"snapshot\.{encoded.problems[row].split()[0]} is (null|too large)"):
                reader.read(body)
            refused += 1
            continue
        vector, found = reader.read(body)
        assert vector[0].tobytes() == encoded.matrix[row].tobytes()
        assert found == bins[row].tolist()
    assert 10 < refused < 60


def test_a_row_with_a_problem_is_named_with_its_first_reason() -> None:
    values = table(np.random.default_rng(5))
    values["ts"][3] = np.nan
    encoded = encode(SCHEMA, reference_of(SCHEMA, {**values, "amount": np.arange(ROWS, dtype=float)}), values, ROWS)
    assert encoded.problems[3] == "when is missing"
    assert np.isfinite(encoded.matrix).all()


def test_reference_counts_what_serving_counts() -> None:
    values = table(np.random.default_rng(6))
    reference = reference_of(SCHEMA, values)
    for name, feature in reference.features.items():
        counts = [0] * len(feature.counts)
        for value in values[name]:
            counts[feature.bin_of(None if math.isnan(value) else float(value))] += 1
        assert tuple(counts) == feature.counts
        assert feature.labels[-1] == "missing"
        assert len(feature.labels) == len(counts)


@pytest.mark.parametrize(
    ("times", "edges", "counts"),
    [
        ([60, 20, 10, 10], (1, 2), (60, 20, 20, 0)),
        ([97, 2, 1, 0], (1,), (97, 3, 0)),
        ([3, 0, 0, 97], (3,), (3, 97, 0)),
    ],
)
def test_tied_deciles_are_one_edge_and_no_bin_is_empty(times: list[int], edges: tuple[float, ...], counts: tuple[int, ...]) -> None:
    feature = FeatureReference.from_values(np.repeat([0.0, 1.0, 2.0, 3.0], times))
    assert (feature.edges, feature.counts) == (edges, counts)


def test_a_number_without_ties_has_ten_even_bins() -> None:
    assert FeatureReference.from_values(np.random.default_rng(1).random(1000)).counts[:10] == pytest.approx([100] * 10, abs=1)


def test_a_constant_column_cannot_be_watched() -> None:
    with pytest.raises(SchemaError, match="every value is the same: set `drift: false`"):
        FeatureReference.from_values(np.ones(10))


def test_a_category_has_a_bin_for_each_value_and_one_for_all_others() -> None:
    feature = FeatureReference.from_values(np.array([0, 0, 1, 2, np.nan]), ("web", "app"))
    assert feature.counts == (2, 1, 1, 1)
    assert feature.to_json() == {"categories": ["web", "app"], "counts": [2, 1, 1], "missing": 1}
    assert FeatureReference.from_json("channel", feature.to_json(), ("web", "app")) == feature
    with pytest.raises(SchemaError, match="train them together"):
        FeatureReference.from_json("channel", feature.to_json(), ("web",))


def test_a_column_without_any_value_has_no_reference() -> None:
    with pytest.raises(SchemaError, match="every value is missing"):
        FeatureReference.from_values(np.full(5, np.nan))


def test_the_score_reference_survives_a_round_trip() -> None:
    values = {name: np.nan_to_num(column, nan=1.0) for name, column in table(np.random.default_rng(1)).items()}
    reference = reference_of(SCHEMA, values, np.linspace(0, 1, ROWS))
    assert reference.score is not None
    assert DriftReference.from_json(json.loads(json.dumps(reference.to_json())), SCHEMA) == reference
    assert FeatureSchema.from_json(json.loads(json.dumps(SCHEMA.to_json()))) == SCHEMA


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "schemaVersion: 1\ncolumns:\n- {name: amount}\n- {name: ts, drift: false}\n- {name: c, type: category, categories: [a, b]}\n",
            "s.yaml",
        ),
        (
            '{"schemaVersion": 1, "columns": [{"name": "amount"}, {"name": "ts", "drift": false}, {"name": "c", "categories": ["a", "b"]}]}',
            "s.json",
        ),
    ],
)
def test_a_schema_file_may_leave_the_usual_out(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / name).write_text(text)
    schema = read_schema_file(tmp_path / name)
    assert [(column.name, column.field, column.drift, column.missing_rule) for column in schema.columns] == [
        ("amount", "amount", True, "median"),
        ("ts", "ts", False, "refuse"),
        ("c", "c", True, "other"),
    ]


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        ("{name: a, typ: number}", "unknown key `typ`"),
        ("{name: a, type: text}", "`type` is number or category"),
        ("{name: a, type: category}", "a list of 1 to 48"),
        ("{name: a, type: category, categories: [yes, no]}", "put numbers and yes/no in quotes"),
        ("{name: a, type: category, categories: [x, x]}", "each there once"),
        ("{name: a, type: number, categories: [x]}", "set `type` to category"),
        ("{name: a, type: category, categories: [x], missing: median}", "other or refuse"),
        ("{name: a, drift: false, missing: median}", "needs `drift: true`"),
        ("{name: a, missing: zero}", "median, refuse or a finite number"),
        ("{name: a, constant: 1, missing: 0}", "a constant has neither"),
        ("{name: a", "is not YAML"),
    ],
)
def test_a_bad_schema_file_says_what_to_change(tmp_path: Path, column: str, sentence: str) -> None:
    (tmp_path / "schema.yml").write_text(f"schemaVersion: 1\ncolumns:\n- {column}\n")
    with pytest.raises(SchemaError, match=sentence):
        read_schema_file(tmp_path / "schema.yml")


# -- market features ------------------------------------------------------------------------------------------------------------


def quotes(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw an irregular price series with gaps, equal times and a still stretch."""
    gaps = rng.exponential(20, rows)
    gaps[rng.random(rows) < 0.02] = 400
    gaps[rng.random(rows) < 0.05] = 0
    moves = rng.normal(0, 2e-4, rows)
    moves[rows // 2 : rows // 2 + 80] = 0
    mid, half = 100 * np.exp(np.cumsum(moves)), rng.uniform(0.01, 0.05, rows)
    return 1.75e9 + np.cumsum(gaps).round(3), mid - half, mid + half


def by_the_formulas(ts: np.ndarray, bid: np.ndarray, ask: np.ndarray, i: int) -> list[float]:
    """Compute one row's features as the table of formulas says, looking at earlier rows only."""
    mids = [(bid[j] + ask[j]) / 2 for j in range(i + 1)]
    mid, now = mids[i], ts[i]

    def price(at: float) -> float:
        earlier = [j for j in range(i + 1) if ts[j] <= at]
        return mids[earlier[-1]] if earlier and at - ts[earlier[-1]] <= 60 else math.nan

    returns = [math.log(mids[j] / mids[j - 1]) for j in range(1, i + 1) if ts[j] > now - 60]
    prices = [mid, *(price(now - 60 * back) for back in range(1, 15))]
    moves = [later - earlier for later, earlier in pairwise(prices)]
    up, down = sum(max(move, 0) for move in moves), sum(max(-move, 0) for move in moves)
    rsi = math.nan if any(map(math.isnan, prices)) else 100 * up / (up + down) if up + down else 50.0
    day = np.array([mids[j] for j in range(i + 1) if ts[j] > now - 86_400])
    return [
        math.log(mid / prices[1]),
        math.log(mid / prices[5]),
        1e4 * (ask[i] - bid[i]) / mid,
        math.log1p(1e4 * math.sqrt(sum(r * r for r in returns))) if returns else math.nan,
        (rsi - 50) / 16,
        math.nan if len(day) < 30 else (mid - day.mean()) / day.std() if day.std() > 1e-9 * mid else 0.0,
    ]


def test_market_features_are_the_documented_formulas() -> None:
    ts, bid, ask = quotes(np.random.default_rng(3), 600)
    found = market_features(ts, bid, ask)
    assert tuple(found) == MARKET_FEATURES
    wanted = np.array([by_the_formulas(ts, bid, ask, i) for i in range(len(ts))]).T
    for name, column in zip(MARKET_FEATURES, wanted, strict=True):
        np.testing.assert_allclose(found[name], column, rtol=1e-6, atol=1e-7, err_msg=name)
        assert np.isfinite(column).any()


def test_what_comes_later_changes_no_bit_of_what_came_before() -> None:
    ts, bid, ask = quotes(np.random.default_rng(4), 800)
    whole = market_features(ts, bid, ask)
    for end in (1, 2, 31, 500, 799):
        cut = market_features(ts[:end], bid[:end], ask[:end])
        for name in MARKET_FEATURES:
            assert cut[name].tobytes() == whole[name][:end].tobytes(), (name, end)


def test_market_features_do_not_follow_the_price_level() -> None:
    ts, bid, ask = quotes(np.random.default_rng(4), 800)
    one, other = market_features(ts, bid, ask), market_features(ts, 1000 * bid, 1000 * ask)
    for name in MARKET_FEATURES:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [((2.0, 0.0, 1.0), "above 0"), ((2.0, 2.0, 1.0), "not below bid"), ((0.5, 1.0, 1.0), "sorted"), ((math.nan, 1.0, 1.0), "finite")],
)
def test_a_bad_quote_is_named(row: tuple[float, float, float], sentence: str) -> None:
    ts, bid, ask = (np.array([first, value]) for first, value in zip((1.0, 1.0, 1.0), row, strict=True))
    with pytest.raises(QuoteError, match=f"row 2: .*{sentence}"):
        market_features(ts, bid, ask)
