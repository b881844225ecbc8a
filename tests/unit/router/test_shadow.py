"""What people see of both tracks: side by side, in sums, and a few mismatches; over real sockets."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

import pytest
from aiohttp import web

from kanarya.cluster.port import CONFIGMAPS
from kanarya_inference.router import mismatches
from kanarya_inference.router.compare import Compared, MatchRule, compare
from kanarya_inference.router.control import Control
from kanarya_inference.router.endpoints import Pool
from kanarya_inference.router.metrics import RouterMetrics
from kanarya_inference.router.model import Answer, Attempt, Request
from kanarya_inference.router.plan import Plan
from tests.unit.router.cluster import configmap, no_candidate, route
from tests.unit.router.conftest import Rig, Start, eventually

pytestmark = pytest.mark.slow

SECRET = "4111-1111-1111-1111"


async def ask(router: Rig, query: str = "", *, port: int | None = None, **options: Any) -> tuple[int, Any]:
    url = f"http://127.0.0.1:{port or router.metrics_port}/predict-with-shadow{query}"
    async with router.client.post(url, **({"json": {"amount": 1}} | options)) as response:
        return response.status, await response.json()


async def test_both_answers_and_the_comparison_by_one_request(rig: Start) -> None:
    router = await rig(mirrorPercent=0, matchRelativeTolerance=0.01)
    router.stable[0].score, router.candidate[0].score = 0.70, 0.80
    status, body = await ask(router)
    assert (status, body["answeredBy"], body["answer"]) == (200, "stable", {"score": 0.7, "label": 1})
    assert body["stable"]["revision"] == "7d4b9c"
    assert (body["candidate"]["answer"]["score"], body["candidate"]["outcome"], body["candidate"]["status"]) == (0.8, "success", 200)
    comparison = body["comparison"]
    assert (comparison["outcome"], comparison["rows"], comparison["differing"]) == ("mismatch", 1, 1)
    assert comparison["absDelta"] == pytest.approx(0.1)
    assert comparison["rule"] == {"compare": "Score", "tolerance": 0.05, "relativeTolerance": 0.01}
    assert router.stable[0].live == 1
    assert router.candidate[0].mirrored == 1
    assert router.stable[0].requests[0][0] == "POST /ml/predict"


async def test_what_people_try_by_hand_is_no_evidence(rig: Start) -> None:
    router = await rig(stable=0, candidate=100, mirrorPercent=100, fallback="AnyError")
    router.candidate[0].status = 500
    status, body = await ask(router)
    assert (status, body["answeredBy"], body["candidate"]["status"]) == (200, "stable", 500)
    assert await router.attempts() == 0
    assert await router.sample("kanarya_comparisons_total") == 0
    assert await router.sample("kanarya_fallbacks_total") == 0


async def test_a_request_of_a_client_counts_like_any_other(rig: Start) -> None:
    router = await rig(mirrorPercent=0, options=("--shadow-for-clients",))
    status, body = await ask(router, port=router.port)
    assert (status, body["comparison"]["outcome"]) == (200, "match")
    assert await router.attempts(track="stable", exposure="live", outcome="success") == 1
    assert await router.attempts(track="candidate", exposure="mirror", outcome="success") == 1
    assert await router.comparisons("match") == 1


async def test_clients_do_not_see_it_unless_asked_for(rig: Start) -> None:
    router = await rig()
    for path in ("/predict-with-shadow", "/shadow/metrics", "/shadow/mismatches"):
        async with router.client.post(f"http://127.0.0.1:{router.port}{path}") as response:
            assert response.headers["x-kanarya-track"] == "stable", "passed on like any path"
        assert router.stable[0].requests[-1][0] == f"POST {path}"


async def test_a_slow_candidate_is_waited_for_no_longer_than_a_copy(rig: Start) -> None:
    router = await rig(mirrorTimeoutMilliseconds=50)
    router.candidate[0].delay = 30
    status, body = await ask(router)
    assert (status, body["candidate"]["outcome"], body["candidate"]["answer"]) == (200, "timeout", None)
    assert (body["comparison"]["outcome"], body["comparison"]["latencyDeltaMilliseconds"]) == ("not_compared", None)


async def test_side_by_side_without_a_run(rig: Start) -> None:
    router = await rig(**no_candidate())
    status, body = await ask(router)
    assert (status, body["comparison"], body["candidate"]) == (200, None, None)
    assert router.candidate[0].requests == []


async def test_side_by_side_with_another_path_and_answers_that_are_no_json(rig: Start) -> None:
    router = await rig()
    router.stable[0].handler = router.candidate[0].handler = _text
    status, body = await ask(router, "?path=/v2/models/m/infer%3Fa%3D1")
    assert (status, body["answer"], body["comparison"]["outcome"]) == (200, "caf\u00e9 \ufffd", "not_compared")
    assert router.candidate[0].requests[0][0] == "POST /v2/models/m/infer?a=1"
    for query in ("?path=http://elsewhere/", "?path=/a%0d%0ab", "?path=/a%20b", "?path=/%C3%BC"):
        assert (await ask(router, query))[0] == 400
    async with router.client.get(f"http://127.0.0.1:{router.metrics_port}/predict-with-shadow") as response:
        assert (response.status, response.headers["allow"]) == (405, "POST")


async def test_both_tracks_down_is_said_with_the_live_answers_status(rig: Start) -> None:
    router = await rig()
    await router.stable[0].stop()
    await router.candidate[0].stop()
    status, body = await ask(router)
    assert (status, body["answer"], body["stable"]["problem"]) == (503, None, "connection refused")


async def test_sums_as_json(rig: Start) -> None:
    router = await rig(mirrorPercent=100)
    router.candidate[0].score = 0.9
    for _ in range(3):
        await router.predict()
    await eventually(partial(_seen, router, 3))
    document = json.loads((await router.get("/shadow/metrics"))[1])
    assert (document["rollout"], document["mirrorPercent"]) == ("fraud", 100)
    assert document["comparisons"] == {
        "match": 0,
        "mismatch": 3,
        "refused": 0,
        "not_compared": 0,
        "dropped": 0,
        "matchRateOfLast5Minutes": 0.0,
    }
    candidate, stable = document["candidate"], document["stable"]
    assert (candidate["revision"], candidate["breaker"]) == ("5f6c8d", "closed")
    assert candidate["copies"] == {"success": 3, "error": 0, "timeout": 0}
    assert (candidate["latencyMilliseconds"]["mirror"]["count"], stable["latencyMilliseconds"]["live"]["count"]) == (3, 3)
    router.api.put(CONFIGMAPS, configmap(**no_candidate()))
    await eventually(partial(_no_candidate, router))


async def test_sums_before_anything_is_in_force(rig: Start) -> None:
    router = await rig(ready=False)
    assert json.loads((await router.get("/shadow/metrics"))[1]) == {"rollout": "fraud", "stable": None, "candidate": None}


async def test_the_shadow_series(rig: Start) -> None:
    router = await rig(mirrorPercent=100, mirrorTimeoutMilliseconds=1500)
    assert await router.sample("ml_shadow_match_total") == 0, "there before the first request"
    router.stable[0].score, router.candidate[0].score = 0.50, 0.52
    await router.predict()
    await eventually(partial(_seen, router, 1))
    router.candidate[0].score = 0.9
    await router.predict()
    await eventually(partial(_seen, router, 2))
    router.candidate[0].status = 500
    await router.predict()
    await eventually(partial(_seen, router, 3))
    router.candidate[0].delay = 30
    await router.predict()
    await eventually(partial(_seen, router, 4))
    for name, expected in {
        "ml_shadow_success_total": 2,
        "ml_shadow_error_total": 1,
        "ml_shadow_timeout_total": 1,
        "ml_shadow_match_total": 1,
        "ml_shadow_mismatch_total": 1,
        "ml_shadow_abs_delta_count": 2,
        "ml_shadow_latency_ms_count": 4,
        "ml_shadow_latency_delta_ms_count": 2,
        "ml_shadow_match_rate": 0.5,
        "ml_shadow_breaker_state": 0,
    }.items():
        assert await router.sample(name, track="candidate", revision="5f6c8d") == expected, name
    assert await router.sample("ml_shadow_abs_delta_sum") == pytest.approx(0.42)
    assert await router.sample("ml_baseline_latency_ms_count", track="stable") == 4
    assert await router.sample("ml_shadow_latency_ms_bucket", track="candidate", le="+Inf") == 4
    assert await router.sample("ml_shadow_latency_ms_bucket", track="candidate", le="5000.0") == 3, "a time-out is above every bound"
    assert await router.sample("ml_baseline_latency_ms_bucket", le="80.0") is not None, "in milliseconds, as the settings have them"


async def test_the_breakers_state_is_a_series(rig: Start) -> None:
    router = await rig(mirrorPercent=100)
    router.candidate[0].status = 500
    for number in range(5):
        await router.predict()
        await eventually(partial(_seen, router, number + 1))
    assert await router.sample("ml_shadow_breaker_state", track="candidate") == 2
    assert json.loads((await router.get("/shadow/metrics"))[1])["candidate"]["breaker"] == "open"


async def test_mismatches_are_sampled_without_their_inputs(rig: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mismatches, "SECONDS_APART", 0.0)
    monkeypatch.setattr(mismatches, "KEPT", 3)
    router = await rig(mirrorPercent=100)
    router.candidate[0].score = 0.9
    await _mismatch(router, 5)
    status, text = await router.get("/shadow/mismatches")
    document = json.loads(text)
    assert (status, document["seen"], len(document["mismatches"])) == (200, 5, 3)
    newest = document["mismatches"][0]
    assert (newest["request"], newest["rows"], newest["differing"]) == ("POST /ml/predict", 1, 1)
    assert newest["absDelta"] == pytest.approx(0.4)
    assert (newest["stable"]["values"], newest["candidate"]["values"]) == ([0.5], [0.9])
    assert (newest["stable"]["revision"], newest["candidate"]["revision"]) == ("7d4b9c", "5f6c8d")
    assert newest["traceparent"] == "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert (newest["inputs"], newest["input"], newest["query"]) == ("redacted", None, None)
    assert SECRET not in text


async def test_inputs_are_kept_where_the_installation_allows_them(rig: Start) -> None:
    router = await rig(mirrorPercent=100, options=("--show-inputs",))
    router.candidate[0].score = 0.9
    await _mismatch(router, 1)
    (one,) = json.loads((await router.get("/shadow/mismatches"))[1])["mismatches"]
    assert json.loads(one["input"]) == {"card": SECRET, "fill": "x" * 3900}
    assert one["query"] == f"card={SECRET}"


def test_no_more_than_one_mismatch_a_second_is_kept() -> None:
    plan, now = _plan_in_force(), [0.0]
    kept = mismatches.Mismatches(inputs=False, clock=lambda: now[0], now=lambda: datetime.now(UTC))
    one, other = (Attempt("success", 0.1, Answer(200, (), b'{"score": %d}' % score)) for score in (0, 1))
    compared = compare(one, other, MatchRule())
    assert isinstance(compared, Compared)
    for _ in range(10):
        kept.see(plan, Request("POST", "/", [], b""), one, other, compared)
        now[0] += 0.3
    assert (kept.seen, len(kept.newest_first())) == (10, 3)


async def test_the_trace_goes_on_to_both_tracks(rig: Start) -> None:
    router = await rig(mirrorPercent=100)
    await _mismatch(router, 1, outcome="match")
    for pod in (router.stable[0], router.candidate[0]):
        assert pod.requests[0][1]["traceparent"].startswith("00-4bf92f3577b34da6a3ce929d0e0e4736")
        assert pod.requests[0][1]["tracestate"] == "a=1"


async def _mismatch(router: Rig, count: int, outcome: str = "mismatch") -> None:
    headers = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=1"}
    for number in range(count):
        body = {"card": SECRET, "fill": "x" * 3900}
        async with router.client.post(f"{router.url}?card={SECRET}", json=body, headers=headers) as response:
            assert response.status == 200
        await eventually(partial(_seen, router, number + 1))
    assert await router.comparisons(outcome) == count


async def _seen(router: Rig, count: int) -> bool:
    return await router.sample("kanarya_comparisons_total") == count


async def _no_candidate(router: Rig) -> bool:
    document = json.loads((await router.get("/shadow/metrics"))[1])
    return document["candidate"] is None and document["comparisons"] is None


async def _text(_: web.Request) -> web.Response:
    return web.Response(body="caf\u00e9 ".encode() + b"\xff", content_type="text/plain")


def _plan_in_force() -> Plan:
    clock = time.monotonic
    metrics = RouterMetrics("fraud", clock)
    control = Control("fraud", lambda _: Pool(Random(1), clock), metrics, clock)
    control.see_settings(configmap())
    control.see_route(route())
    assert control.plan is not None
    return control.plan
