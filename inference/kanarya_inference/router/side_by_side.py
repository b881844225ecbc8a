"""One request answered by the live track, with the other track's answer and the comparison beside it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec

from kanarya_inference.router.intake import Intake, refuse
from kanarya_inference.router.mirror import Mirror
from kanarya_inference.router.model import Answer, Attempt, Request
from kanarya_inference.router.pairs import Pair, Pairs
from kanarya_inference.router.plan import Plan, Track
from kanarya_inference.router.proxy import STATUS_WITHOUT_ANSWER, Proxy, Served
from kanarya_inference.serving import Receive, Scope, Send, answer

PATH = "/predict-with-shadow"
DEFAULT_TARGET = "/ml/predict"
SHOWN_BYTES = 64 * 2**10
"""Longest answer that is shown."""


class SideBySide:
    """`POST /predict-with-shadow?path=/ml/predict`: the body goes to both tracks.

    `counted` False is for people who try a request by hand: nothing of it is counted, since it is no traffic and could tip a verdict
    where traffic is thin. `counted` True is for clients whose requests these are: the live attempt counts as live, the copy as mirrored.
    """

    def __init__(
        self, plan: Callable[[], Plan | None], proxy: Proxy, mirror: Mirror, pairs: Pairs, intake: Intake, *, counted: bool
    ) -> None:
        self._plan = plan
        self._proxy = proxy
        self._mirror = mirror
        self._pairs = pairs
        self._intake = intake
        self._counted = counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, after the request time-out at the latest."""
        if scope["method"] != "POST":
            return await refuse(send, 405, f"POST a prediction to {PATH}", (b"allow", b"POST"))
        target = parse_qs(scope["query_string"].decode("latin-1")).get("path", [DEFAULT_TARGET])[0]
        if not (target.startswith("/") and target.isascii() and target.isprintable() and " " not in target):
            return await refuse(send, 400, "path must be an absolute path, percent-encoded, such as /ml/predict")
        async with self._intake.request(scope, receive, send) as request:
            if request is None:
                return None
            plan = self._plan()
            if plan is None:
                return await refuse(send, 503, "the router has no route yet")
            status, document = await self._ask(plan, dataclasses.replace(request, target=target))
            await answer(send, status, json.dumps(document, indent=1).encode() + b"\n")
        return None

    async def _ask(self, plan: Plan, request: Request) -> tuple[int, dict[str, Any]]:
        live = plan.choose(self._proxy.random, request)
        shadow = plan.other(live)
        if plan.candidate.revision is None:
            served = await self._live(plan, live, request)
            return _document(plan, served, None, None)
        served, copy = await asyncio.gather(self._live(plan, live, request), self._mirror.copy(plan, shadow, request))
        first = served.first or served.attempt
        stable, candidate = (first, copy) if live is plan.stable else (copy, first)
        if not self._counted:
            pair = self._pairs.judge(plan, stable, candidate)
        else:
            shadow.observe("mirror", copy)
            pair = self._pairs.count(plan, request, stable, candidate)
        return _document(plan, served, pair, {"stable": stable, "candidate": candidate})

    async def _live(self, plan: Plan, track: Track, request: Request) -> Served:
        return await self._proxy.answer(plan, track, request, None, counted=self._counted)


def _document(plan: Plan, served: Served, pair: Pair | None, both: dict[str, Attempt] | None) -> tuple[int, dict[str, Any]]:
    reply = served.attempt.answer
    document: dict[str, Any] = {
        "answeredBy": served.track.name,
        "answer": _body(reply),
        "comparison": _comparison(plan, pair),
    }
    if both is None:
        document["stable"], document["candidate"] = _side(plan.stable, served.attempt), None
    else:
        document["stable"] = _side(plan.stable, both["stable"])
        document["candidate"] = _side(plan.candidate, both["candidate"])
    status = reply.status if reply is not None else STATUS_WITHOUT_ANSWER[served.attempt.outcome]
    # The bodies of these say nothing here: ours has one.
    return (200 if status in (204, 304) or status < 200 else status), document


def _comparison(plan: Plan, pair: Pair | None) -> dict[str, Any] | None:
    if pair is None:
        return None
    rule, compared = plan.match_rule, pair.compared
    return {
        "outcome": pair.verdict if compared is None else ("mismatch" if compared.differing else "match"),
        "rows": compared.rows if compared else None,
        "differing": compared.differing if compared else None,
        "absDelta": compared.delta if compared else None,
        "latencyDeltaMilliseconds": None if pair.seconds is None else round(1000 * pair.seconds, 3),
        "rule": {"compare": rule.compare, "tolerance": rule.tolerance, "relativeTolerance": rule.relative},
    }


def _side(track: Track, attempt: Attempt) -> dict[str, Any]:
    return {
        "revision": track.revision,
        "outcome": attempt.outcome,
        "status": attempt.answer.status if attempt.answer else None,
        "milliseconds": round(1000 * attempt.seconds, 3),
        "answer": _body(attempt.answer),
        "problem": attempt.problem or None,
    }


def _body(reply: Answer | None) -> Any:
    """Give JSON as it is, and anything else, or more than can be shown, as text; None for what is not there."""
    if reply is None or reply.body is None:
        return None
    if len(reply.body) <= SHOWN_BYTES:
        try:
            return msgspec.json.decode(reply.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    return reply.body[:SHOWN_BYTES].decode("utf-8", "replace")
