"""The examples of F1 and Brier: real servers' metrics, a real Prometheus, the operator's own reading and judging."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from examples.lab import ROOT
from kanarya.api.rollout import Analysis
from kanarya.decision.counts import Counts, Reading, Sight
from kanarya.decision.custom import judge_custom, values_of, watched
from kanarya.decision.judge import Standard
from kanarya.decision.verdict import Kind, Verdict
from kanarya.telemetry import PrometheusSource, SourceConfig
from kanarya.telemetry.custom import CustomReader
from kanarya.telemetry.request import CustomRequest
from kanarya_inference.training.train import train
from tests.contract.prometheus.server import SCRAPE_SECONDS, Exporter, MissingProgramError, Prometheus, find_prometheus
from tests.unit.inference.support import Running, Scraped, Series, running
from tests.unit.telemetry.fakes import Pod, request

METRICS = yaml.safe_load((ROOT / "examples/quality/metrics.yaml").read_text())["rollout"]["spec"]["analysis"]["metrics"]
ALERTS = yaml.safe_load((ROOT / "examples/quality/alerts.yaml").read_text())["spec"]
STABLE = (450, 100)
"""True positives and wrong labels: F1 = 900 / 1000 = 0.9. All outcomes are 900."""
CANDIDATES = {"better": (460, 80), "4-percent": (432, 136), "7-percent": (77 * 5, 150), "11-percent": (400, 200)}
"""F1 of 0.920, 0.864, 0.837 and 0.8."""


@dataclass
class Numbers(Pod):
    """What the operator exposes of the values that it sees."""

    values: dict[str, float] = field(default_factory=dict)

    def expose(self) -> Iterator[tuple[str, dict[str, str], float]]:
        for rollout, value in self.values.items():
            yield "kanarya_rollout_value", {"rollout": rollout, "metric": "f1-drop"}, value


async def answered(server: Running, hits: int, wrong: int, version: str) -> Series:
    """Send outcomes back as a client does: hits, as many misses as false alarms, true negatives; every score 0.1 away from 0 or 1."""
    pairs = [(1, 0.9)] * hits + [(1, 0.1)] * (wrong // 2) + [(0, 0.9)] * (wrong // 2) + [(0, 0.1)] * (900 - hits - wrong)
    outcomes = [
        {"prediction_id": f"elsewhere-{number}", "label": label, "score": score, "model_version": version}
        for number, (label, score) in enumerate(pairs)
    ]
    status, results = await server.post("/ml/outcomes", {"outcomes": outcomes})
    assert (status, results["accepted"]) == (200, len(pairs))
    return await server.series()


@asynccontextmanager
async def prometheus(folder: Path, rules: dict[str, Any] | None, *pods: Pod) -> AsyncIterator[Prometheus]:
    try:
        server = Prometheus(find_prometheus(), folder)
    except MissingProgramError as error:
        pytest.fail(str(error), pytrace=False)
    if rules is not None:
        (folder / "rules.json").write_text(json.dumps(rules))
        config = json.loads((folder / "prometheus.yml").read_text())
        config["global"]["evaluation_interval"] = f"{SCRAPE_SECONDS}s"
        (folder / "prometheus.yml").write_text(json.dumps({**config, "rule_files": [str(folder / "rules.json")]}))
    async with AsyncExitStack() as stack:
        exporters = [await stack.enter_async_context(Exporter(pod).serving()) for pod in pods]
        server.scrape(*exporters)
        stack.push_async_callback(server.stop)
        await server.start()
        for exporter in exporters:
            await exporter.scraped(2)
        yield server


async def verdicts(server: Prometheus, revision: str) -> dict[str, Verdict]:
    """Look twice, 31 s apart, at a candidate whose weight changed a minute before: what is beyond abort stays so."""
    analysis = Analysis.model_validate({"metrics": METRICS})
    source = PrometheusSource(SourceConfig(url=server.url, scrape_interval_seconds=SCRAPE_SECONDS, timeout_seconds=5))
    try:
        reader = CustomReader(source, time.time, allowed=True)
        since = time.time() - 60
        asked = tuple(CustomRequest(metric, since) for metric in analysis.metrics)
        seen = await reader.read(request(custom=asked, since=since, candidate_pod_prefixes=(f"fraud-{revision}-",)))
    finally:
        await source.close()
    assert seen.missing == {}, seen.sentences
    first = Reading(time.time(), custom=seen.sights)
    later = Reading(time.time(), custom={name: _later(sight) for name, sight in seen.sights.items()})
    watches = watched(watched({}, first, analysis, since), later, analysis, since)
    standard = Standard(analysis)
    values = values_of(watches, later, since)
    found, _ = judge_custom(analysis, standard.alphas, Counts(), values=values, bases={}, elapsed=90)
    return dict(found)


def _later(sight: Sight) -> Sight:
    return replace(sight, until=sight.until + 31)


async def test_a_drop_of_eleven_percent_is_bad_and_one_of_four_is_not(tmp_path: Path) -> None:
    train(tmp_path / "stable", version="v1.8.0", rows=2000, seed=7)
    train(tmp_path / "candidate", version="v1.9.0", rows=2000, seed=8)
    async with running(tmp_path / "stable") as server:
        stable = await answered(server, *STABLE, "v1.8.0")
    candidates: dict[str, Series] = {}
    for name, figures in CANDIDATES.items():
        async with running(tmp_path / "candidate") as server:
            if not candidates:
                candidates["silent"] = await server.series()
            candidates[name] = await answered(server, *figures, "v1.9.0")
    pods = [Scraped(f"fraud-{name.replace('-', '')}-a", series=series) for name, series in candidates.items()]
    # Another rollout's pods, and the same names in another namespace, must not be seen.
    others = [Scraped("fraud-stable-old-x-a", series=stable), Scraped("fraud-silent-a", namespace="other", series=candidates["11-percent"])]
    async with prometheus(tmp_path, None, *pods, *others) as server:
        found = {name: await verdicts(server, name.replace("-", "")) for name in candidates}
    f1 = {name: found[name]["f1-drop"] for name in found}
    assert {name: verdict.kind for name, verdict in f1.items()} == {
        "silent": Kind.GOOD,
        "better": Kind.GOOD,
        "4-percent": Kind.GOOD,
        "7-percent": Kind.WITHIN,
        "11-percent": Kind.BAD,
    }
    assert f1["4-percent"].estimate == pytest.approx(0.04)
    assert f1["11-percent"].estimate == pytest.approx(1 - 0.8 / 0.9)
    assert f1["11-percent"].reason == "ValueBeyondAbort"
    # Brier: 0.01 for what is right, 0.81 for what is wrong.
    brier = {name: found[name]["brier-rise"] for name in found}
    wrong = (0.01 * 700 + 0.81 * 200) / (0.01 * 800 + 0.81 * 100)
    assert brier["11-percent"].estimate == pytest.approx(wrong - 1)
    assert (brier["11-percent"].kind, brier["better"].kind, brier["silent"].kind) == (Kind.BAD, Kind.GOOD, Kind.GOOD)


async def test_the_alert_fires_for_a_drop_of_more_than_five_percent(tmp_path: Path) -> None:
    rules = json.loads(re.sub(r'"for": "1m"', '"for": "1s"', json.dumps(ALERTS)))
    assert rules != ALERTS
    operator = Numbers("kanarya-abc-x", namespace="kanarya-system", values={"four": 0.04, "six": 0.06, "eleven": 0.111})
    async with prometheus(tmp_path, rules, operator) as server, httpx.AsyncClient(trust_env=False, timeout=5) as client:
        async with asyncio.timeout(30):
            while True:
                answer = await client.get(f"{server.url}/api/v1/alerts")
                alerts = answer.json()["data"]["alerts"]
                if len([one for one in alerts if one["state"] == "firing"]) >= 2:
                    break
                await asyncio.sleep(0.5)
    assert {(one["labels"]["rollout"], one["labels"]["alertname"]) for one in alerts} == {
        ("six", "CandidatePredictsWorse"),
        ("eleven", "CandidatePredictsWorse"),
    }
    (six,) = [one["annotations"] for one in alerts if one["labels"]["rollout"] == "six"]
    assert six["summary"] == "The candidate of six predicts worse than stable"
    assert six["description"].startswith("f1-drop is 6%: ")
