"""What the router reports on the route: `status.parents`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

from kanarya.cluster.port import HTTPROUTES, ApiError, KubeApi, NotFound
from kanarya_inference.router.control import Verdict
from kanarya_inference.router.route import service_parents

CONTROLLER_NAME = "kanarya.dev/ml-router"
JITTER_SECONDS = 0.3
"""Replicas say the same: the first to speak spares the others the write."""
FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0
MESSAGE_LIMIT = 1000

logger = logging.getLogger(__name__)


def desired_parents(verdict: Verdict, now: datetime) -> list[dict[str, Any]] | None:
    """Compute the route's `status.parents`: others' entries as they are, ours as the verdict says; None when that is there already."""
    present: list[dict[str, Any]] = (verdict.route.get("status") or {}).get("parents") or []
    others = [entry for entry in present if entry.get("controllerName") != CONTROLLER_NAME]
    ours = [entry for entry in present if entry.get("controllerName") == CONTROLLER_NAME]
    wanted = [_entry(verdict, parent, ours, now) for parent in service_parents(verdict.route)]
    return None if ours == wanted else others + wanted


def _entry(verdict: Verdict, parent: dict[str, Any], ours: list[dict[str, Any]], now: datetime) -> dict[str, Any]:
    before = next((entry.get("conditions") or [] for entry in ours if entry.get("parentRef") == parent), [])
    refusal = verdict.refusal
    resolved = refusal is None or refusal.backend_known
    generation = verdict.route["metadata"].get("generation", 0)
    message = verdict.note[:MESSAGE_LIMIT]
    conditions = [
        _condition("Accepted", refusal is None, refusal.reason if refusal else "Accepted", message),
        _condition(
            "ResolvedRefs",
            resolved,
            "ResolvedRefs" if resolved else "BackendNotFound",
            "backends are the tracks' Services" if resolved else message,
        ),
    ]
    for condition in conditions:
        same = [old for old in before if (old.get("type"), old.get("status")) == (condition["type"], condition["status"])]
        condition["observedGeneration"] = generation
        condition["lastTransitionTime"] = same[0]["lastTransitionTime"] if same else f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {"parentRef": parent, "controllerName": CONTROLLER_NAME, "conditions": conditions}


def _condition(kind: str, holds: bool, reason: str, message: str) -> dict[str, Any]:
    return {"type": kind, "status": "True" if holds else "False", "reason": reason, "message": message}


class StatusReporter:
    """Writes the verdict to the route when it says something else. Serving never waits for it."""

    def __init__(self, api: KubeApi, namespace: str, rollout: str, *, random: Random, now: Callable[[], datetime]) -> None:
        self._api = api
        self._namespace = namespace
        self._rollout = rollout
        self._random = random
        self._now = now
        self._verdict: Verdict | None = None
        self._changed = asyncio.Event()

    def report(self, verdict: Verdict | None) -> None:
        """Take the newest verdict; None when there is nothing to say."""
        self._verdict = verdict
        self._changed.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(self._random.random() * JITTER_SECONDS)
            backoff = FIRST_BACKOFF_SECONDS
            while not await self._write():
                with contextlib.suppress(TimeoutError):  # a newer verdict need not wait out the backoff of an older one
                    await asyncio.wait_for(self._changed.wait(), backoff * self._random.uniform(0.5, 1.5))
                await asyncio.sleep(self._random.random() * JITTER_SECONDS)
                backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)

    async def _write(self) -> bool:
        """Write the newest verdict if needed; False when it has to be tried again."""
        self._changed.clear()
        verdict = self._verdict
        parents = desired_parents(verdict, self._now()) if verdict is not None else None
        if verdict is None or parents is None:
            return True
        # Guarded by the version the verdict is about: a replica that lags behind cannot overwrite a newer one's report.
        patch = {"metadata": {"resourceVersion": verdict.route["metadata"]["resourceVersion"]}, "status": {"parents": parents}}
        try:
            await self._api.merge_patch(HTTPROUTES, self._namespace, self._rollout, patch, subresource="status")
        except NotFound:
            return True
        except ApiError as error:
            logger.warning("status of the route not written: %s", error)
            return False
        except Exception:
            logger.exception("status of the route not written")
            return False
        return True
