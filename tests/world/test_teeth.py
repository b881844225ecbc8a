"""The oracle has teeth: the product is broken in memory, one promise after the other, and the world notices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kanarya.cluster import execute, objects
from kanarya.cluster.port import HTTPROUTES, ROLLOUTS
from kanarya.cluster.store import EvidenceStore
from kanarya.controller import reconcile
from kanarya.controller.reconcile import Reconciler
from kanarya.decision import ending, lifecycle, observing, stages
from kanarya.decision.actions import DeleteStable, PointStable
from kanarya.decision.draft import Draft
from kanarya.decision.state import Run
from kanarya.telemetry.look import Findings
from tests.world.life import live
from tests.world.stories import PATCHY
from tests.world.story import LONG, RELEASE, Event, Story
from tests.world.traffic import Model

Patch = pytest.MonkeyPatch
GOOD = Story(1, (RELEASE,))
BAD = Story(1, (RELEASE,), models={"v2": Model(very_slow=0.5)})
QUIET = replace(GOOD, rate=2.0)


def _no_proof(patch: Patch) -> None:
    patch.setattr(stages, "_hold_reason", lambda _: None)


def _no_preflight(patch: Patch) -> None:
    patch.setattr(stages, "_problems", lambda _: [])


def _no_breach(patch: Patch) -> None:
    patch.setattr(ending, "_breach", lambda _: None)


def _any_sample_will_do(patch: Patch) -> None:
    patch.setattr(stages, "fresh", lambda _: True)


def _silence_is_success(patch: Patch) -> None:
    patch.setattr(Findings, "missing", property(lambda _: {}))


def _unguarded_rise(patch: Patch) -> None:
    async def raise_weight(api: Any, plan: Any, weight: int, resource_version: str) -> None:
        await execute.lower_weight(api, plan, weight)

    patch.setattr(execute, "raise_weight", raise_weight)


def _guarded_fall(patch: Patch) -> None:
    async def lower_weight(api: Any, plan: Any, weight: int, rolled_back: str = "") -> None:
        known = await api.get(HTTPROUTES, plan.namespace, plan.name)
        body = objects.route(plan, weight, rolled_back)
        if known is None:
            await api.create(HTTPROUTES, plan.namespace, body)
        else:
            marks = {**execute._marks(body), "resourceVersion": known["metadata"]["resourceVersion"]}
            await api.merge_patch(HTTPROUTES, plan.namespace, plan.name, {"metadata": marks, "spec": body["spec"]})

    patch.setattr(execute, "lower_weight", lower_weight)


def _forgotten_rollback(patch: Patch) -> None:
    async def nothing(*_: Any) -> None: ...

    patch.setattr(Reconciler, "_overdue_rollback", nothing)


def _deaf_to_abort(patch: Patch) -> None:
    patch.setattr(ending, "requested_ending", lambda *_: None)


def _always_the_first_attempt(patch: Patch) -> None:
    patch.setattr(lifecycle, "_attempt", lambda *_: 1)


def _no_recovery(patch: Patch) -> None:
    patch.setattr(reconcile, "recover", lambda state, world, now: state)
    patch.setattr("kanarya.decision.progress.keep_route", lambda _: False)


def _evidence_twice(patch: Patch) -> None:
    append = EvidenceStore.append

    async def again(self: EvidenceStore, plan: Any, chain: Any) -> None:
        for entry in chain.outbox:
            await append(self, plan, chain.model_copy(update={"run": chain.run, "outbox": (entry,)}))
        parts = await self._parts(plan, chain.run)
        part, document = self._open(plan, chain.run, parts)
        document["entries"].append(document["entries"][-1])
        await self._write(plan, chain.run, part, document)

    patch.setattr(EvidenceStore, "append", again)


def _evidence_forgotten(patch: Patch) -> None:
    append = EvidenceStore.append

    async def some(self: EvidenceStore, plan: Any, chain: Any) -> None:
        await append(self, plan, chain.model_copy(update={"outbox": chain.outbox[1:]}))

    patch.setattr(EvidenceStore, "append", some)


def _writes_the_spec(patch: Patch) -> None:
    tell = Reconciler._tell

    async def told(self: Reconciler, rollout: Any, *rest: Any) -> None:
        await self._api.merge_patch(ROLLOUTS, "shop", rollout["metadata"]["name"], {"spec": {"paused": False}})
        await tell(self, rollout, *rest)

    patch.setattr(Reconciler, "_tell", told)


def _observe_is_live(patch: Patch) -> None:
    patch.setattr(Run, "observing", property(lambda _: False))


def _hasty_switch(patch: Patch) -> None:
    stepping = stages.stepping

    def hasty(draft: Draft) -> None:
        stepping(draft)
        if draft.run.step == 1:
            draft.act(PointStable(draft.run.candidate.revision))

    patch.setattr("kanarya.decision.progress.stepping", hasty)


def _stable_is_taken_away(patch: Patch) -> None:
    tidy = lifecycle._tidy

    def untidy(draft: Draft, stable: str) -> None:
        tidy(draft, stable)
        if draft.state.retired:
            draft.act(DeleteStable(stable))

    patch.setattr(lifecycle, "_tidy", untidy)


def _candidate_service_selects_all(patch: Patch) -> None:
    patch.setattr(objects, "candidate_selector", lambda target, revision: {**target["spec"]["selector"]["matchLabels"]})


def _pause_is_ignored(patch: Patch) -> None:
    hold = stages._hold_reason

    def impatient(draft: Draft) -> tuple[str, str] | None:
        draft.spec = draft.spec.model_copy(update={"paused": False})
        return hold(draft)

    patch.setattr(stages, "_hold_reason", impatient)


def _time_heals_copies(patch: Patch) -> None:
    undecided = stages._undecided

    def healed(draft: Draft) -> list[tuple[str, str]]:
        since = draft.run.sampled_since
        return [] if since is not None and draft.now - since > stages.SHOWING_SECONDS else undecided(draft)

    patch.setattr(stages, "_undecided", healed)


LOST = Event(28.0, "api", {"kind": "unavailable", "scope": "httproutes", "share": 1.0, "seconds": 8.0})
STEPS = {
    "plan": {"steps": [{"weight": 20, "durationSeconds": 6}, {"weight": 60, "durationSeconds": 30}, {"weight": 100, "durationSeconds": 6}]}
}
BREAKS: list[tuple[Callable[[Patch], None], Story, set[int]]] = [
    (_no_proof, QUIET, {1, 3}),
    (_no_preflight, GOOD, {1, 3}),
    (_no_breach, BAD, {2}),
    (_any_sample_will_do, Story(1, (RELEASE, Event(43.0, "crash", {"away": 0.1, "calls": 1})), {"plan": LONG}, scrape=5), {1}),
    (_silence_is_success, Story(1, (RELEASE, Event(30, "scrapes", {"kind": "doubling", "seconds": 20.0})), {"plan": LONG}), {3}),
    (_unguarded_rise, GOOD, {1}),
    (_guarded_fall, BAD, {2}),
    (_forgotten_rollback, replace(BAD, events=(RELEASE, LOST)), {2}),
    (_deaf_to_abort, Story(1, (RELEASE, Event(33, "abort")), spec=STEPS), {2}),
    (_always_the_first_attempt, Story(1, (RELEASE, Event(28, "abort"))), {9}),
    (_no_recovery, Story(1, (RELEASE, Event(20, "crash", {"away": 0.5, "point": "after-raise"})), spec=STEPS), {1, 9}),
    (_evidence_twice, GOOD, {5}),
    (_evidence_forgotten, GOOD, {5}),
    (_writes_the_spec, GOOD, {8}),
    (_observe_is_live, replace(GOOD, spec={"mode": "Observe"}), {6}),
    (_hasty_switch, GOOD, {7}),
    (_stable_is_taken_away, GOOD, {10}),
    (_candidate_service_selects_all, Story(1, (RELEASE, Event(33, "release", {"version": "v3"}))), {1, 3, 10}),
    (_time_heals_copies, PATCHY, {1}),
    (_pause_is_ignored, Story(1, (RELEASE, Event(26, "pause", {"seconds": 20.0}))), {1}),
]


@pytest.mark.parametrize(("break_it", "story", "promises"), BREAKS, ids=[entry[0].__name__.strip("_") for entry in BREAKS])
def test_a_broken_promise_is_noticed(monkeypatch: Patch, break_it: Callable[[Patch], None], story: Story, promises: set[int]) -> None:
    break_it(monkeypatch)
    result = live(story)
    assert result.violations, "nobody noticed"
    assert int(result.violations[0].split()[1].rstrip(":")) in promises, result.text()


@pytest.mark.parametrize("story", {id(story): story for _, story, _ in BREAKS}.values(), ids=lambda story: f"{len(story.events)} events")
def test_the_same_stories_hold_when_nothing_is_broken(story: Story) -> None:
    result = live(story)
    assert not result.violations, result.text()


def test_a_parked_weight_is_noticed(monkeypatch: Patch) -> None:
    monkeypatch.setattr(observing, "BLOCKING", ("errors", "latency", "match"))
    monkeypatch.setattr(stages, "_promote", lambda draft: draft.say("Never", "", 5.0))
    assert "no end" in live(GOOD).violations[0]
