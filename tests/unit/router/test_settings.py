from __future__ import annotations

import json
from typing import Any

import pytest

from kanarya_inference.router.settings import SettingsError, read_settings
from tests.unit.router.cluster import ROLLOUT, configmap, no_candidate, settings_document


def test_documented_settings() -> None:
    settings = read_settings(configmap(mirrorPercent=100), ROLLOUT)
    assert settings.tracks.stable.service == "fraud-stable"
    assert settings.tracks.candidate.revision == "5f6c8d"
    assert settings.mirror_percent == 100
    assert settings.bucket_seconds[6] == 0.08
    assert read_settings(configmap(**no_candidate()), ROLLOUT).tracks.candidate.revision is None


def test_unknown_fields_are_passed_over() -> None:
    assert read_settings(configmap(later="x"), ROLLOUT).rollout == ROLLOUT


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"schemaVersion": 2}, "schemaVersion 2"),
        ({"rollout": "other"}, "other"),
        ({"mirrorPercent": 101}, "mirrorPercent"),
        ({"mirrorPercent": "all"}, "mirrorPercent"),
        ({"mirrorTimeoutMilliseconds": 0}, "mirrorTimeoutMilliseconds"),
        ({"fallback": "Maybe"}, "fallback"),
        ({"routeGeneration": None}, "routeGeneration"),
        ({"latencyBucketsMilliseconds": []}, "latencyBucketsMilliseconds"),
        ({"latencyBucketsMilliseconds": [1, 1]}, "rise"),
        ({"latencyBucketsMilliseconds": [0, 1]}, "positive"),
        ({"tracks": {"stable": {"service": "a", "revision": None}, "candidate": {"service": "b", "revision": None}}}, "revision"),
        ({"tracks": {"stable": {"service": "a", "revision": "1"}, "candidate": {"service": "a", "revision": "2"}}}, "same Service"),
    ],
)
def test_what_cannot_be_used_is_named(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        read_settings(configmap(**changes), ROLLOUT)


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": {"settings.json": "{"}}, {"data": {"settings.json": "[]"}}])
def test_no_document(body: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        read_settings(body, ROLLOUT)


def test_each_field_is_required() -> None:
    for field in settings_document():
        document = settings_document()
        del document[field]
        with pytest.raises(SettingsError):
            read_settings(configmap(json.dumps(document)), ROLLOUT)
