"""The router's settings, as the operator writes them into the ConfigMap `<rollout>-router`."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, Literal

import msgspec

SETTINGS_KEY = "settings.json"
SCHEMA_VERSION = 1
MAXIMUM_BUCKETS = 100


class SettingsError(ValueError):
    """The settings cannot be used; the message says why in words for the operator's author."""


Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    """Fields we do not know are passed over: a newer operator may add some without a new schema version."""


class StableTrack(_Document, frozen=True):
    """Stable always has a revision."""

    service: Name
    revision: Name


class CandidateTrack(_Document, frozen=True):
    """`revision` is None while no run is on."""

    service: Name
    revision: Name | None


class Tracks(_Document, frozen=True):
    """Both tracks: which Service, which revision."""

    stable: StableTrack
    candidate: CandidateTrack


class Settings(_Document, frozen=True):
    """What the operator wants of the router. Usable only with a route of generation `route_generation` or later."""

    schema_version: int
    rollout: str
    route_generation: Annotated[int, msgspec.Meta(ge=0)]
    tracks: Tracks
    mirror_percent: Annotated[float, msgspec.Meta(ge=0, le=100)]
    mirror_timeout_milliseconds: Annotated[float, msgspec.Meta(gt=0)]
    match_tolerance: Annotated[float, msgspec.Meta(ge=0)]
    fallback: Literal["None", "Unavailable", "AnyError"]
    latency_buckets_milliseconds: tuple[float, ...]

    @property
    def bucket_seconds(self) -> tuple[float, ...]:
        """Finite upper bounds of the latency histogram, in seconds."""
        return tuple(bound / 1000 for bound in self.latency_buckets_milliseconds)


_decoder = msgspec.json.Decoder(Settings)


def read_settings(configmap: dict[str, Any], rollout: str) -> Settings:
    """Read the settings of `rollout` from its ConfigMap.

    Raises
    ------
    SettingsError
        The document is missing, is not what the schema says, or is meant for another rollout.
    """
    text = (configmap.get("data") or {}).get(SETTINGS_KEY)
    if not isinstance(text, str):
        raise SettingsError(f"key {SETTINGS_KEY} is missing")
    _check_version(text)
    try:
        settings = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise SettingsError(str(error)) from error
    if settings.rollout != rollout:
        raise SettingsError(f"settings of rollout {settings.rollout!r}, not {rollout!r}")
    if settings.tracks.stable.service == settings.tracks.candidate.service:
        raise SettingsError("both tracks name the same Service")
    _check_buckets(settings.latency_buckets_milliseconds)
    return settings


class _Version(msgspec.Struct, rename="camel"):
    schema_version: int


def _check_version(text: str) -> None:
    try:
        version = msgspec.json.decode(text, type=_Version).schema_version
    except (msgspec.DecodeError, UnicodeError) as error:
        raise SettingsError(str(error)) from error
    if version != SCHEMA_VERSION:
        raise SettingsError(f"schemaVersion {version} is not one this router knows ({SCHEMA_VERSION})")


def _check_buckets(bounds: tuple[float, ...]) -> None:
    if not 1 <= len(bounds) <= MAXIMUM_BUCKETS:
        raise SettingsError(f"latencyBucketsMilliseconds needs 1 to {MAXIMUM_BUCKETS} bounds")
    if not all(math.isfinite(bound) and bound > 0 for bound in bounds):
        raise SettingsError("latencyBucketsMilliseconds must be positive numbers")
    if any(low >= high for low, high in itertools.pairwise(bounds)):
        raise SettingsError("latencyBucketsMilliseconds must rise")
