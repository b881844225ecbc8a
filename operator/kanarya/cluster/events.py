"""Kubernetes Events about a rollout, in `events.k8s.io/v1`."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

from kanarya.cluster.port import EVENTS, AlreadyExists, ApiError, KubeApi, Object
from kanarya.decision.actions import Notice

NOTE_BYTES, INSTANCE_BYTES = 1000, 128
"""The API server counts bytes, and refuses the Event."""


def timestamp(seconds: float) -> str:
    """Give a time as Kubernetes writes it, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(seconds: float) -> str:
    """Give a time as Kubernetes writes it, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def event(rollout: Object, notice: Notice, now: float, instance: str) -> Object:
    """Give the Event for a notice. Its name depends on what it says and the minute, so that a repeated one is not posted again."""
    metadata = rollout["metadata"]
    token = f"{metadata['uid']}/{notice.reason}/{notice.message}/{int(now) // 60}"
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{sha256(token.encode()).hexdigest()[:16]}", "namespace": metadata["namespace"]},
        "eventTime": micro_timestamp(now),
        "type": notice.type,
        "reason": notice.reason,
        "action": notice.reason,
        "note": _cut(notice.message, NOTE_BYTES),
        "reportingController": "kanarya.dev/operator",
        "reportingInstance": _cut(instance, INSTANCE_BYTES),
        "regarding": {
            "apiVersion": rollout["apiVersion"],
            "kind": rollout["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata.get("resourceVersion", ""),
        },
    }


def _cut(text: str, limit: int) -> str:
    """Cut a text to so many bytes of UTF-8, between two characters."""
    return text.encode(errors="replace")[:limit].decode(errors="ignore")


async def post(api: KubeApi, rollout: Object, notice: Notice, now: float, instance: str) -> None:
    """Post a notice. An Event is a courtesy: failing to post it changes nothing."""
    try:
        await api.create(EVENTS, rollout["metadata"]["namespace"], event(rollout, notice, now, instance))
    except AlreadyExists:
        return
    except ApiError:
        return
