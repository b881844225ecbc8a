from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any, cast

import kopf
import pytest
from aiohttp.test_utils import TestClient, TestServer

from kanarya.controller.config import ConfigError, OperatorConfig, load_config
from kanarya.controller.metrics import Metrics
from kanarya.controller.queue import Key, Queue
from kanarya.controller.shell import Options, Targets, fault_points, has_run, log_in, resync, settings, wake_on_events
from kanarya.controller.web import application
from kanarya.telemetry.source import SourceConfig
from tests.unit.controller.simulation import KEY, Simulation


def options() -> Options:
    return Options(
        OperatorConfig(sources={"default": SourceConfig.model_validate({"url": "http://prometheus:9090", "scrapeIntervalSeconds": 5})}), "0"
    )


def test_kopf_writes_nothing_of_its_own() -> None:
    chosen = settings()
    assert not chosen.posting.enabled
    assert chosen.scanning.disabled
    assert chosen.watching.server_timeout == 300


async def test_a_rollout_with_a_run_is_known() -> None:
    sim = await Simulation().adopted()
    known = has_run(sim.reconciler.memory)
    assert not known(KEY)
    assert not known(("shop", "unheard-of"))
    await sim.release("v2")
    await sim.until(lambda _: known(KEY), 60)


async def test_handlers_register_and_a_lost_event_is_made_up_for() -> None:
    sim = Simulation()
    await sim.install()
    seen: list[Key] = []

    async def handler(key: Key) -> None:
        seen.append(key)

    queue, targets, done = Queue(handler, Random(1)), Targets(), [0.0]
    registry = kopf.OperatorRegistry()
    wake_on_events(registry, queue, targets)
    log_in(registry, options())
    task = asyncio.create_task(resync(sim.api, options(), queue, targets, done))
    async with asyncio.timeout(2):
        while not seen:
            await asyncio.sleep(0.01)
    task.cancel()
    await queue.close()
    assert seen == [KEY]
    assert done[0] > 0
    assert targets.of("shop", "fraud") == [KEY]
    targets.forget(KEY)
    assert targets.of("shop", "fraud") == []


@pytest.mark.parametrize(
    ("resource", "name", "labels", "woken"),
    [
        ("httproutes", "fraud", {"kanarya.dev/rollout": "fraud"}, ["fraud"]),
        ("httproutes", "fraud", {}, ["fraud"]),
        ("httproutes", "fraud", {"kanarya.dev/rollout": "other"}, ["other", "fraud"]),
        ("services", "fraud-stable", {}, ["fraud"]),
        ("services", "fraud-candidate", {}, ["fraud"]),
        ("deployments", "fraud-stable-6d4cf56db6", {}, ["fraud"]),
        ("deployments", "scorer", {}, ["fraud"]),
        ("services", "another", {}, []),
        ("deployments", "fraudulent", {}, []),
    ],
)
async def test_what_is_written_to_our_objects_wakes_their_rollout_with_or_without_our_label(
    resource: str, name: str, labels: dict[str, str], woken: list[str]
) -> None:
    """A route whose label somebody took off could then be given a weight, and nobody looked for a minute."""
    seen: list[Key] = []

    class Noted(Queue):
        def add(self, key: Key, delay: float = 0.0) -> None:
            seen.append(key)

    async def nothing(_: Key) -> None: ...

    targets, registry = Targets(), kopf.OperatorRegistry()
    targets.remember(("shop", "fraud"), {"targetRef": {"name": "scorer"}})
    targets.remember(("elsewhere", "fraud"), {"targetRef": {"name": "scorer"}})
    wake_on_events(registry, Noted(nothing, Random(1)), targets)
    body: Any = {"metadata": {"namespace": "shop", "name": name, "labels": labels}}
    for handler in registry._watching.get_all_handlers():
        assert handler.labels is None, "kopf looks for labels before it calls"
        if handler.selector is not None and handler.selector.any_name == resource:
            await cast("Any", handler.fn)(body=kopf.Body(body), event={"type": "MODIFIED"})
    assert seen == [("shop", rollout) for rollout in woken]


async def test_fault_points_do_nothing_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, signal: killed.append(pid))
    await fault_points()("after-intent")
    assert not killed
    monkeypatch.setenv("KANARYA_CRASH_AT", "after-intent")
    at = fault_points()
    await at("before-intent")
    assert not killed
    await at("after-intent")
    assert len(killed) == 1


async def test_the_web_side_tells_health_metrics_and_decisions() -> None:
    sim = await Simulation().adopted()
    await sim.release("v2")
    await sim.until(lambda status: (status.get("run") or {}).get("weight") == 10)
    problem: list[str] = []

    def check() -> str | None:
        return problem[0] if problem else None

    app = application(sim.metrics, check, check, sim.reconciler.memory)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/livez")).status == 200
        problem.append("broken")
        answer = await client.get("/readyz")
        assert (answer.status, await answer.text()) == (503, "broken\n")
        assert 'kanarya_rollout_weight{namespace="shop",rollout="fraud"} 10.0' in await (await client.get("/metrics")).text()
        told = await (await client.get("/rollouts/shop/fraud")).json()
        assert told["run"]["weight"] == 10
        assert told["verdicts"]["errors"]["verdict"] in ("Good", "Insufficient")
        assert (await client.get("/rollouts/shop/other")).status == 404
    sim.metrics.forget(KEY)
    assert b'rollout="fraud"' not in sim.metrics.exposition()
    assert isinstance(sim.metrics, Metrics)


@pytest.mark.parametrize(
    ("text", "words"),
    [("[", "is not YAML"), ("sources: {default: {}}", "sources.default"), ("other: 1", "sources")],
)
def test_a_bad_configuration_is_told_what_to_change(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_config(path)


def test_configuration_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("sources: {default: {url: 'http://prometheus:9090', scrapeIntervalSeconds: 2}}")
    assert load_config(path).sources["default"].scrape_interval_seconds == 2
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "absent.yaml")
