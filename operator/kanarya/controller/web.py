"""The operator's small HTTP side: health, metrics, and what it last decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from kanarya.controller.memory import Memory
from kanarya.controller.metrics import Metrics

Check = Callable[[], str | None]
"""Gives None when all is well, else a sentence on what is not."""


def application(metrics: Metrics, live: Check, ready: Check, memory: Callable[[tuple[str, str]], Memory | None]) -> web.Application:
    """Give the HTTP application."""

    async def answer(check: Check) -> web.Response:
        problem = check()
        return web.Response(text="ok\n") if problem is None else web.Response(status=503, text=problem + "\n")

    async def livez(_: web.Request) -> web.Response:
        return await answer(live)

    async def readyz(_: web.Request) -> web.Response:
        return await answer(ready)

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def rollout(request: web.Request) -> web.Response:
        found = memory((request.match_info["namespace"], request.match_info["name"]))
        if found is None or found.decision is None:
            return web.json_response({"error": "no such rollout, or not looked at yet"}, status=404)
        return web.json_response(describe(found))

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", exposition)
    app.router.add_get("/rollouts/{namespace}/{name}", rollout)
    return app


def describe(memory: Memory) -> dict[str, Any]:
    """Give the last decision on a rollout: the live numbers that do not belong in its status."""
    decision = memory.decision
    if decision is None or memory.state is None:
        raise AssertionError("nothing was decided yet")
    run, stable = memory.state.run, memory.state.stable
    steps = [] if run is None or run.spec is None else [step.model_dump(by_alias=True) for step in run.spec.plan.steps]
    return {
        "decided": memory.decided_at,
        "reason": decision.reason,
        "message": decision.message,
        "stable": None if stable is None else stable.model_dump(),
        "run": None
        if run is None
        else {
            "id": run.id,
            "version": run.candidate.version,
            "stage": run.stage.value,
            "step": run.step + 1,
            "steps": steps,
            "weight": run.weight,
            "stepSince": run.step_since,
            "requests": run.counts.candidate.requests,
        },
        "verdicts": {metric: verdict.as_json() for metric, verdict in decision.verdicts.items()},
        "newestSample": memory.newest,
        "history": [entry.model_dump(by_alias=True) for entry in memory.state.history],
    }
