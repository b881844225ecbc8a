"""The JSON Schema of evidence, version 1."""

from __future__ import annotations

from typing import Any

from kanarya.decision.evidence import ENTRIES_LIMIT, SCHEMA_VERSION
from kanarya.decision.offline import VERDICTS
from kanarya.decision.state import Stage
from kanarya.decision.streams import CUSTOM, STREAMS
from kanarya.decision.verdict import Kind

_COUNT = {"type": "number", "minimum": 0}
_METRIC = "^[a-z][-a-z0-9]{0,39}$"
_HASH = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_ATTEMPTS = {
    "type": "object",
    "required": ["requests", "errors", "slower"],
    "properties": {
        "requests": _COUNT,
        "errors": _COUNT,
        "slower": {"type": "object", "additionalProperties": _COUNT},
        "slowerAtMost": {"type": "object", "additionalProperties": _COUNT},
        "timed": _COUNT,
    },
    "additionalProperties": False,
}
_IDENTITY = {
    "type": "object",
    "required": ["revision", "version", "images"],
    "properties": {"revision": {"type": "string"}, "version": {"type": "string"}, "images": {"type": "array", "items": {"type": "string"}}},
}
_VERDICT = {
    "type": "object",
    "required": ["verdict", "reason", "have", "need"],
    "properties": {
        "verdict": {"enum": [kind.value for kind in Kind]},
        "reason": {"type": "string"},
        "have": _COUNT,
        "need": _COUNT,
        "estimate": {"type": "number"},
        "slo": {"type": "number"},
        "abort": {"type": "number"},
        "etaSeconds": {"type": "number"},
        "detail": {"type": "string"},
    },
    "additionalProperties": False,
}
_OBSERVED: dict[str, Any] = {
    "stage": {"enum": [stage.value for stage in Stage]},
    "step": {"type": "integer", "minimum": 0},
    "weight": {"type": "integer", "minimum": 0},
    "elapsed": {"type": "number"},
    "runElapsed": {"type": "number"},
    "counts": {
        "type": "object",
        "required": ["candidate", "stable"],
        "properties": {
            "candidate": {
                "type": "object",
                "required": ["live", "mirror", "attempted", "compared", "mismatched"],
                "properties": {"live": _ATTEMPTS, "mirror": _ATTEMPTS, "attempted": _COUNT, "compared": _COUNT, "mismatched": _COUNT},
                "additionalProperties": False,
            },
            "stable": _ATTEMPTS,
            "custom": {"type": "object", "additionalProperties": {"type": "array", "items": _COUNT, "minItems": 2, "maxItems": 2}},
        },
        "additionalProperties": False,
    },
    "drift": {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "required": ["reference", "current"],
            "properties": {side: {"type": "array", "items": _COUNT} for side in ("reference", "current")},
            "additionalProperties": False,
        },
    },
    "watermark": {"type": "number"},
    "newestSample": {"type": ["number", "null"]},
    "missing": {"type": "object", "additionalProperties": {"type": "string"}},
    "verdicts": {"type": "object", "propertyNames": {"pattern": _METRIC}, "additionalProperties": _VERDICT},
}
_JUDGED: dict[str, Any] = {
    **_OBSERVED,
    "looks": {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}},
    "sampledSince": {"type": "number"},
    "edges": {
        "type": "object",
        "additionalProperties": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
    },
    "values": {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "required": ["value", "after"],
            "properties": {"value": {"type": "number"}, "after": {"type": "number"}, "beyond": _COUNT},
            "additionalProperties": False,
        },
    },
    "tests": {
        "type": "object",
        "propertyNames": {"pattern": f"^({'|'.join(STREAMS)}|{_METRIC[1:-1]}/{CUSTOM})$"},
        "additionalProperties": {
            "type": "object",
            "required": ["effect", "marks"],
            "properties": {
                "effect": {"type": "number", "minimum": 1},
                "marks": {"type": "array", "items": {"type": "array", "items": _COUNT, "minItems": 5, "maxItems": 5}},
            },
            "additionalProperties": False,
        },
    },
}
"""With the looks since the entry before, each as its time and the time up to which samples were counted; in Preflight with the time from
which on it waited for enough copies; with the bucket edges used where a threshold has none; and in `tests` what method `Sequential` rests
on besides counts: by stream the design effect and the windows that hold evidence."""
_KINDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "RunStarted": (
        {
            "run": {"type": "string"},
            "spec": {"type": "object", "required": ["plan", "analysis", "mode", "traffic"]},
            "specDigest": _HASH,
            "candidate": _IDENTITY,
            "stable": {"anyOf": [_IDENTITY, {"type": "null"}]},
            "replicas": {"type": "integer", "minimum": 1},
            "queries": {"type": "array", "items": {"type": "string"}},
            "notes": {"type": "array", "items": {"type": "string"}},
            "offlineReport": {
                "type": "object",
                "required": ["version", "modelSha256", "verdict", "reportSha256"],
                "properties": {
                    "version": {"type": "string"},
                    "modelSha256": _HASH,
                    "verdict": {"enum": list(VERDICTS)},
                    "reportSha256": {"type": "string", "pattern": "^([0-9a-f]{64})?$"},
                },
                "additionalProperties": False,
            },
        },
        ["run", "spec", "specDigest", "candidate", "stable", "replicas"],
    ),
    "Decision": (
        {
            **_JUDGED,
            "decision": {"enum": ["Advance", "Soak", "Promote", "Rollback"]},
            "toStep": {"type": "integer"},
            "toWeight": {"type": "integer"},
            "virtualWeight": {"type": "integer"},
            "outcome": {"type": "string"},
            "reason": {"type": "string"},
            "message": {"type": "string"},
        },
        ["decision", *_OBSERVED],
    ),
    "VerdictChanged": (_JUDGED, list(_OBSERVED)),
    "Checkpoint": (_JUDGED, list(_OBSERVED)),
    "StepEntered": (
        {"step": {"type": "integer"}, "weight": {"type": "integer"}, "virtualWeight": {"type": "integer"}},
        ["step", "weight"],
    ),
    "WeightRestored": ({"step": {"type": "integer"}, "weight": {"type": "integer"}}, ["step", "weight"]),
    "HistoryLost": ({"until": {"type": "number"}}, ["until"]),
    "RouteRepaired": ({"found": {"type": "integer"}, "ours": {"type": "integer"}}, ["found", "ours"]),
    "StableSwitched": ({"revision": {"type": "string"}}, ["revision"]),
    "RunEnded": (
        {"outcome": {"type": "string"}, "reason": {"type": "string"}, "message": {"type": "string"}, "weight": {"type": "integer"}},
        ["outcome", "reason", "message", "weight"],
    ),
}
_CHAIN: dict[str, Any] = {
    "sequence": {"type": "integer", "minimum": 1, "maximum": ENTRIES_LIMIT},
    "at": {"type": "number"},
    "previous": _HASH,
    "hash": _HASH,
}


def evidence_schema() -> dict[str, Any]:
    """Give the schema of one part of a run's evidence."""
    entries = [
        {
            "type": "object",
            "required": ["kind", *_CHAIN, *required],
            "properties": {"kind": {"const": kind}, **_CHAIN, **properties},
            "additionalProperties": False,
        }
        for kind, (properties, required) in _KINDS.items()
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://kanarya.dev/schemas/evidence-v1.json",
        "title": "Evidence of one run of an MLModelRollout, one part",
        "type": "object",
        "required": ["schemaVersion", "rollout", "namespace", "run", "part", "closed", "operatorVersion", "entries"],
        "properties": {
            "schemaVersion": {"const": SCHEMA_VERSION},
            "rollout": {"type": "string"},
            "namespace": {"type": "string"},
            "run": {"type": "string"},
            "part": {"type": "integer", "minimum": 1},
            "closed": {"type": "boolean"},
            "operatorVersion": {"type": "string"},
            "entries": {"type": "array", "maxItems": ENTRIES_LIMIT, "items": {"oneOf": entries}},
        },
        "additionalProperties": False,
    }
