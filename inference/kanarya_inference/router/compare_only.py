"""The router behind a gateway's RequestMirror filter: it gets copies, and asks both tracks itself."""

from __future__ import annotations

from collections.abc import Callable

from kanarya_inference.router.intake import Intake
from kanarya_inference.router.mirror import Mirror
from kanarya_inference.router.plan import Plan
from kanarya_inference.serving import Receive, Scope, Send, answer


class CompareOnly:
    """Answers every copy at once; gateways throw the answer away.

    202 says that the copy was taken, 204 that there is nothing to compare it with: no run is on, or it is no POST. What the tracks
    answer counts as mirrored, never as live, and every copy that comes counts: the gateway has sampled already.
    """

    def __init__(self, plan: Callable[[], Plan | None], mirror: Mirror, intake: Intake) -> None:
        self._plan = plan
        self._mirror = mirror
        self._intake = intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one copy."""
        if scope["type"] != "http":
            return
        async with self._intake.request(scope, receive, send, hold=self._intake.copied_limit) as request:
            if request is None:
                return
            plan = self._plan()
            if plan is None:
                await answer(send, 503, b'{"error": "the router has no settings yet"}')
            elif self._mirror.offer_both(plan, request):
                await answer(send, 202, b"")
            else:
                await send({"type": "http.response.start", "status": 204, "headers": []})
                await send({"type": "http.response.body", "body": b""})
