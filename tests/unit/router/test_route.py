from __future__ import annotations

from typing import Any

import pytest

from kanarya_inference.router.route import RouteRefused, Split, is_ours, read_split
from kanarya_inference.router.settings import read_settings
from tests.unit.router.cluster import ROLLOUT, backend, configmap, route

SETTINGS = read_settings(configmap(), ROLLOUT)


def test_weights_go_by_name_not_by_position() -> None:
    backends = [backend("fraud-candidate", 5), backend("fraud-stable", 95)]
    assert read_split(route(backends=backends), SETTINGS) == Split(95, 5)


def test_left_out_weights() -> None:
    assert read_split(route(None, 0), SETTINGS) == Split(1, 0)
    assert read_split(route(backends=[backend("fraud-stable", 100)]), SETTINGS) == Split(100, 0)


@pytest.mark.parametrize(
    ("backends", "sentence"),
    [
        ([backend("fraud-stable", 95), backend("other", 5)], "'other' is none of"),
        ([backend("fraud-candidate", 100)], "'fraud-stable' is missing"),
        ([backend("fraud-stable", 50), backend("fraud-stable", 50)], "twice"),
        ([backend("fraud-stable", 0), backend("fraud-candidate", 0)], "all weights are 0"),
        ([backend("fraud-stable", -1)], "not a whole number"),
        ([{**backend("fraud-stable", 1), "namespace": "elsewhere"}], "is none of"),
        ([{**backend("fraud-stable", 1), "kind": "InferencePool", "group": "x"}], "is none of"),
        ([{**backend("fraud-stable", 1), "filters": [{"type": "RequestMirror"}]}], "filters"),
        ([], "missing"),
    ],
)
def test_refused_backends(backends: list[Any], sentence: str) -> None:
    with pytest.raises(RouteRefused, match=sentence) as refusal:
        read_split(route(backends=backends), SETTINGS)
    assert refusal.value.reason == "UnsupportedValue"
    assert refusal.value.backend_known is ("is none of" not in sentence)


@pytest.mark.parametrize(
    "change",
    [
        {"rules": []},
        {"hostnames": ["a.example"]},
        {"rules": [{"backendRefs": [backend("fraud-stable", 1)], "filters": [{"type": "URLRewrite"}]}]},
        {"rules": [{"backendRefs": [backend("fraud-stable", 1)], "timeouts": {"request": "1s"}}]},
        {"rules": [{"backendRefs": [backend("fraud-stable", 1)], "matches": [{"path": {"type": "Exact", "value": "/"}}]}]},
        {"rules": [{"backendRefs": [backend("fraud-stable", 1)], "matches": [{"method": "GET"}]}]},
    ],
)
def test_refused_features(change: dict[str, Any]) -> None:
    with pytest.raises(RouteRefused):
        read_split(route(**change), SETTINGS)


def test_ours_is_labelled_and_attached_to_a_service() -> None:
    assert is_ours(route(), ROLLOUT)
    assert not is_ours(route(), "other")
    assert not is_ours(route(parentRefs=[{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"}]), ROLLOUT)
