"""The port for probes, scrapes and people who run the service: what clients must not see is here."""

from __future__ import annotations

import json
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST

from kanarya_inference.router.metrics import RouterMetrics
from kanarya_inference.router.plan import Plan
from kanarya_inference.router.shadow import SHADOW_PATHS
from kanarya_inference.serving import AsgiApp, Drain, Receive, Scope, Send, answer


class Readiness:
    """Whether clients should be sent here.

    Before the first time: a route and settings in force, both tracks' slices listed, and an endpoint on the track that most
    requests go to. After it only a drain ends readiness. What is in force is never lost, and missing endpoints are missing for
    every router at once: taking all of them out would turn a clear 503, or a Service being re-pointed, into refused connections.
    """

    def __init__(self, plan: Callable[[], Plan | None], drain: Drain) -> None:
        self._plan = plan
        self._drain = drain
        self._was_ready = False

    def problem(self) -> str | None:
        """Return what is missing, None when ready."""
        if self._drain.draining:
            return "draining"
        if not self._was_ready:
            missing = self._missing()
            self._was_ready = missing is None
            return missing
        return None

    def _missing(self) -> str | None:
        plan = self._plan()
        if plan is None:
            return "no accepted route with usable settings yet"
        if not (plan.stable.pool.synced and plan.candidate.pool.synced):
            return "endpoints not listed yet"
        if not plan.heaviest.pool.ready:
            return f"no ready endpoint of {plan.heaviest.service}"
        return None


class Operations:
    """The ASGI app of the metrics port."""

    def __init__(self, metrics: RouterMetrics, readiness: Readiness, shadow: AsgiApp | None = None) -> None:
        self._metrics = metrics
        self._readiness = readiness
        self._shadow = shadow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a probe or a scrape. Liveness depends on nothing but this answer."""
        path = scope.get("path")
        if path == "/metrics":
            await answer(send, 200, self._metrics.render(), content_type=CONTENT_TYPE_LATEST.encode())
        elif path == "/livez":
            await answer(send, 200, b'{"status": "alive"}')
        elif path == "/readyz":
            problem = self._readiness.problem()
            body = {"status": "ready"} if problem is None else {"status": "not ready", "reason": problem}
            await answer(send, 200 if problem is None else 503, json.dumps(body).encode())
        elif self._shadow is not None and path in SHADOW_PATHS:
            await self._shadow(scope, receive, send)
        else:
            await answer(send, 404, b'{"error": "not found"}')
