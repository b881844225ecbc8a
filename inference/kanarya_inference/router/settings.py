"""The router's settings, as the operator writes them into the ConfigMap `<rollout>-router`."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from kanarya_inference.router.compare import MatchRule

SETTINGS_KEY = "settings.json"
SCHEMA_VERSION = 1
MAXIMUM_BUCKETS = 100


class SettingsError(ValueError):
    """The settings cannot be used; the message says why in words for the operator's author."""


Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
Service = Annotated[str, msgspec.Meta(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")]
"""It becomes part of a label selector."""

_WORDS = 300
"""Longest message: a value that somebody wrote may be part of it."""


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    """Fields we do not know are passed over: a newer operator may add some without a new schema version."""


class StableTrack(_Document, frozen=True):
    """Stable always has a revision."""

    service: Service
    revision: Name


class CandidateTrack(_Document, frozen=True):
    """`revision` is None while no run is on."""

    service: Service
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
    match_relative_tolerance: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    match_compare: Literal["Score", "Label"] = "Score"
    sticky_header: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{1,64}\Z")] | None = None

    @property
    def match_rule(self) -> MatchRule:
        """When two answers are the same."""
        return MatchRule(self.match_compare, self.match_tolerance, self.match_relative_tolerance)

    @property
    def bucket_seconds(self) -> tuple[float, ...]:
        """Finite upper bounds of the latency histogram, in seconds."""
        return tuple(bound / 1000 for bound in self.latency_buckets_milliseconds)


def read_settings(configmap: dict[str, Any], rollout: str) -> Settings:
    """Read the settings of `rollout` from its ConfigMap.

    Raises
    ------
    SettingsError
        The document is missing, is not what the schema says, or is meant for another rollout.
    """
    data = configmap.get("data")
    text = data.get(SETTINGS_KEY) if isinstance(data, dict) else None
    if not isinstance(text, str):
        raise SettingsError(f"key {SETTINGS_KEY} is missing")
    _check_version(text)
    settings = _decoded(text, Settings)
    if settings.rollout != rollout:
        raise SettingsError(f"settings of rollout {settings.rollout!r:.80}, not {rollout!r}")
    if settings.tracks.stable.service == settings.tracks.candidate.service:
        raise SettingsError("both tracks name the same Service")
    _check_buckets(settings.latency_buckets_milliseconds)
    return settings


class _Version(msgspec.Struct, rename="camel"):
    schema_version: int


_Known = TypeVar("_Known", Settings, _Version)


def _decoded(text: str, kind: type[_Known]) -> _Known:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise SettingsError(str(error)[:_WORDS]) from error
    except RecursionError as error:
        raise SettingsError("brackets are nested without end") from error


def _check_version(text: str) -> None:
    version = _decoded(text, _Version).schema_version
    if version != SCHEMA_VERSION:
        raise SettingsError(f"schemaVersion {version} is not one this router knows ({SCHEMA_VERSION})")


def _check_buckets(bounds: tuple[float, ...]) -> None:
    if not 1 <= len(bounds) <= MAXIMUM_BUCKETS:
        raise SettingsError(f"latencyBucketsMilliseconds needs 1 to {MAXIMUM_BUCKETS} bounds")
    if not all(math.isfinite(bound) and bound > 0 for bound in bounds):
        raise SettingsError("latencyBucketsMilliseconds must be positive numbers")
    if any(low >= high for low, high in itertools.pairwise(bounds)):
        raise SettingsError("latencyBucketsMilliseconds must rise")
