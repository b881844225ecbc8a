"""What shows the candidate's answers: on the operations port always, on the clients' port only when asked for."""

from __future__ import annotations

import json
from collections.abc import Callable

from kanarya_inference.router import side_by_side
from kanarya_inference.router.metrics import RouterMetrics
from kanarya_inference.router.mismatches import Mismatches
from kanarya_inference.router.plan import Plan
from kanarya_inference.router.shadow_summary import summary
from kanarya_inference.serving import AsgiApp, Receive, Scope, Send, answer

SUMMARY_PATH = "/shadow/metrics"
MISMATCHES_PATH = "/shadow/mismatches"
SHADOW_PATHS = frozenset({side_by_side.PATH, SUMMARY_PATH, MISMATCHES_PATH})


class Shadow:
    """The ASGI app of `SHADOW_PATHS`."""

    def __init__(
        self, rollout: str, plan: Callable[[], Plan | None], metrics: RouterMetrics, mismatches: Mismatches, side_by_side: AsgiApp
    ) -> None:
        self._rollout = rollout
        self._plan = plan
        self._metrics = metrics
        self._mismatches = mismatches
        self._side_by_side = side_by_side

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one of the paths."""
        if scope["path"] == side_by_side.PATH:
            return await self._side_by_side(scope, receive, send)
        if scope["path"] == SUMMARY_PATH:
            document = summary(self._rollout, self._plan(), self._metrics)
        else:
            document = {"rollout": self._rollout, "seen": self._mismatches.seen, "mismatches": self._mismatches.newest_first()}
        return await answer(send, 200, json.dumps(document, indent=1).encode() + b"\n")


def in_front_of(app: AsgiApp, shadow: AsgiApp) -> AsgiApp:
    """Answer `SHADOW_PATHS` by `shadow`, everything else by `app`."""

    async def chosen(scope: Scope, receive: Receive, send: Send) -> None:
        await (shadow if scope["type"] == "http" and scope["path"] in SHADOW_PATHS else app)(scope, receive, send)

    return chosen
