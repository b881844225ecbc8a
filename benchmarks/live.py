"""A candidate that turns bad under traffic, on kind with everything real: how long until it has none.

One model service serves all runs: after each rollback its faults are switched off and the run is retried.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks.progress import running, say
from benchmarks.routes import RouteWeights
from benchmarks.runs import Kind, Reaction, first_bad, last_sent, rate
from benchmarks.visible import Rule, visible_at
from examples import lab
from kanarya.cluster import names
from kanarya.cluster.kubernetes import KubernetesApi
from kanarya.decision.sequential import alphas
from tests.cluster import prometheus
from tests.cluster.settings import Settings

SCRAPE_SECONDS, TICK_SECONDS = 5, 5
RATE, WEIGHT = 50, 50
STABLE, CANDIDATE = "v1.8.0", "v1.8.1"
SLO_MILLISECONDS, ABORT_MILLISECONDS = 250, 500
LATENCY_SHARE, ERROR_SHARE = 0.05, 0.02
STEPS = (WEIGHT, 100)
ALPHA = alphas(abort=0.99, advance=0.95, steps=len(STEPS), soak=False).bad / 2
"""Of each of a metric's two tests in a step, by the default confidences."""
FAULTS: dict[Kind, dict[str, float]] = {"errors": {"errorRate": 0.5}, "latency": {"latencyMilliseconds": 800}}
RULES: dict[Kind, Rule] = {
    "errors": Rule(ERROR_SHARE, ALPHA),
    "latency": Rule(LATENCY_SHARE, ALPHA, slower_than=ABORT_MILLISECONDS / 1000),
}
HEALTHY_SECONDS = (10.0, 10.0 + 2 * SCRAPE_SECONDS)
"""The fault begins so long after the step; by chance, so that scrapes and looks are met at any moment of theirs."""


def measure(kinds: Sequence[Kind], seed: int) -> list[Reaction]:
    """Do one run for each kind, in this order."""
    folder = Path(tempfile.mkdtemp(prefix="kanarya-benchmark-"))
    lab.models(folder)
    with _scrapes_of(SCRAPE_SECONDS):
        service = lab.ModelService("benchmark-reaction", folder, spec=_spec())
        try:
            service.create_namespace()
            return asyncio.run(_runs(service, kinds, random.Random(seed)))  # noqa: S311 -- spreads moments, guards nothing
        finally:
            service.delete()
            shutil.rmtree(folder)


def _spec() -> dict[str, Any]:
    return {
        "replicas": 2,
        "plan": {"steps": lab.steps(*STEPS, seconds=3600)},
        "analysis": {
            "intervalSeconds": TICK_SECONDS,
            "latency": {"quantile": 1 - LATENCY_SHARE, "sloMilliseconds": SLO_MILLISECONDS, "abortMilliseconds": ABORT_MILLISECONDS},
            "errors": {"slo": ERROR_SHARE / 2, "abort": ERROR_SHARE},
        },
        "scaleDownDelaySeconds": 3600,  # a retried run finds its pods
    }


@contextmanager
def _scrapes_of(seconds: int) -> Iterator[None]:
    """Have Prometheus scrape, and the operator expect it, every so many seconds; then as before."""
    before = Settings.read()
    sources = {"default": {"url": "http://prometheus.monitoring:9090", "scrapeIntervalSeconds": seconds, "timeoutSeconds": 3}}
    try:
        prometheus.install(replace(before, scrape_seconds=seconds))
        lab.install_operator({"sources": sources})
        yield
    finally:
        prometheus.install(before)
        lab.install_operator()


async def _runs(service: lab.ModelService, kinds: Sequence[Kind], chance: random.Random) -> list[Reaction]:
    say("installing the model service")
    await asyncio.to_thread(service.release, STABLE)
    await asyncio.to_thread(service.wait_ready)
    await asyncio.to_thread(service.start_load, RATE)
    api = await KubernetesApi.connect()
    weights = RouteWeights(api, service.namespace)
    found: list[Reaction] = []
    try:
        async with running(weights.follow()):
            for number, kind in enumerate(kinds, start=1):
                if number == 1:
                    await asyncio.to_thread(service.release, CANDIDATE, "--fault-control")
                else:
                    await asyncio.to_thread(service.annotate, names.RETRY, found[-1].run)
                found.append(await _run(service, weights, kind, number, chance, previous=found[-1].run if found else ""))
                say(f"run {number} of {len(kinds)}: {json.dumps(found[-1].as_json())}")
    finally:
        await api.close()
    return found


async def _run(
    service: lab.ModelService, weights: RouteWeights, kind: Kind, number: int, chance: random.Random, *, previous: str
) -> Reaction:
    began = time.time()
    await weights.until(lambda: weights.first(service.name, WEIGHT, began) is not None, f"run {number} at weight {WEIGHT}", 180)
    entered = weights.first(service.name, WEIGHT, began) or began
    await asyncio.sleep(chance.uniform(*HEALTHY_SECONDS))
    load = os.getloadavg()[0]
    struck = time.time()
    await asyncio.to_thread(service.switch_faults, CANDIDATE, FAULTS[kind])
    await weights.until(lambda: weights.first(service.name, 0, struck) is not None, f"weight 0 in run {number}", 120)
    zero = weights.first(service.name, 0, struck) or struck
    await asyncio.sleep(3)
    answers = await asyncio.to_thread(service.answers, began)
    matrix = await asyncio.to_thread(_histogram, service.namespace, int(time.time() - began) + 10)
    await asyncio.to_thread(service.switch_faults, CANDIDATE, {})
    entry = await asyncio.to_thread(service.wait_outcome_after, previous, 60)
    entries = [item for part in await asyncio.to_thread(service.evidence, entry["run"]) for item in part["entries"]]
    step = next(float(item["at"]) for item in entries if item["kind"] == "StepEntered")
    looks = [(float(looked), float(counted)) for item in entries for looked, counted in item.get("looks", ()) if counted > step]
    decided = next(item for item in entries if item["kind"] == "Decision" and item["decision"] == "Rollback")
    verdict, effect = float(decided["at"]), float(decided["tests"][f"{kind}/pool"]["effect"])
    ours = [one for one in matrix if one["metric"]["revision"] == entry["run"].rpartition("-")[0]]
    visible = visible_at(ours, step, replace(RULES[kind], effect=effect), looks)
    bad, last = first_bad(answers, CANDIDATE, struck, ABORT_MILLISECONDS), last_sent(answers, CANDIDATE, struck)
    if visible is None or bad is None or last is None:
        raise AssertionError(f"run {number} ({entry['reason']}) was rolled back without {kind} that can be seen: {visible}, {bad}, {last}")
    seen = rate(answers, CANDIDATE, entered + 1, struck)
    return Reaction(kind, str(entry["run"]), bad, visible, verdict, zero, last, seen, round(load, 2))


def _histogram(namespace: str, seconds: int) -> list[dict[str, Any]]:
    """Read the raw samples of the candidate's histogram from Prometheus."""
    query = f'kanarya_request_duration_seconds_bucket{{namespace="{namespace}",track="candidate"}}[{seconds}s]'
    path = f"/api/v1/namespaces/monitoring/services/prometheus:9090/proxy/api/v1/query?{urlencode({'query': query})}"
    found: list[dict[str, Any]] = json.loads(lab.kubectl("get", "--raw", path))["data"]["result"]
    return found
