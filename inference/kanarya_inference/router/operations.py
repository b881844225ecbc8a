"""The port for probes and scrapes: `/livez`, `/readyz`, `/metrics`."""

from __future__ import annotations

import json
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST

from kanarya_inference.router.metrics import RouterMetrics
from kanarya_inference.router.plan import Plan
from kanarya_inference.serving import Drain, Receive, Scope, Send, answer


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

    def __init__(self, metrics: RouterMetrics, readiness: Readiness) -> None:
        self._metrics = metrics
        self._readiness = readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- ASGI's signature
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
        else:
            await answer(send, 404, b'{"error": "not found"}')
