"""Checkpoint and evidence: nothing lost, nothing written twice, nothing trusted blindly."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kanarya.cluster import names, objects, store
from kanarya.cluster.fake import FakeApi
from kanarya.cluster.port import CONFIGMAPS, Conflict, Invalid, Object, Unavailable
from kanarya.cluster.store import CheckpointTooNew, EvidenceStore, load, read_evidence, save
from kanarya.decision import evidence
from kanarya.decision.state import Chain, Ended, Identity, Run, Stage, State
from tests.unit.cluster_objects.bodies import NAME, NAMESPACE, plan

A = Identity(revision="aaa", version="v1", images=("model:v1",))


def state(**changes: Any) -> State:
    times = dict.fromkeys(("started", "weight_since", "step_since", "watermark", "drift_since", "drift_watermark"), 1000.5)
    run = Run(id="bbb-1", candidate=Identity(revision="bbb"), stage=Stage.STEPPING, spec=plan().latched, step=1, weight=10, **times)
    ended = Ended(run="zzz-1", version="v0", outcome="RolledBack", reason="ErrorsAboveAbort", finished=900.0)
    whole = State(uid="u1", replicas=2, stable=A, run=run, attempted="bbb", attempts=1, rejected="zzz", last_run="zzz-1", history=(ended,))
    return whole.model_copy(update={"chain": Chain(run="bbb-1"), **changes})


async def write(api: FakeApi, text: str) -> None:
    body = objects.config_map(plan(), names.checkpoint(NAME), "checkpoint.json", {})
    body["data"]["checkpoint.json"] = text
    await api.create(CONFIGMAPS, NAMESPACE, body)


# -- checkpoint -----------------------------------------------------------------------------------------------------------


async def test_a_checkpoint_comes_back_as_it_was() -> None:
    api = FakeApi()
    assert await load(api, plan(), "u1") == store.Loaded(State(uid="u1"))
    for current in (state(), state(intent=25, run=None)):
        await save(api, plan(), current)
        assert await load(api, plan(), "u1") == store.Loaded(current)


async def test_a_newer_checkpoint_is_refused() -> None:
    api = FakeApi()
    await write(api, json.dumps({"schemaVersion": 2, "somethingNew": {}}))
    with pytest.raises(CheckpointTooNew, match="schema version 2, this operator knows 1: upgrade the operator"):
        await load(api, plan(), "u1")


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"run": 5}', '{"odd": 1}', '{"uid": "u1", "run": {"id": "x"}}', "[" * 100_000])
async def test_a_corrupt_checkpoint_is_reported_and_begun_anew(text: str) -> None:
    api = FakeApi()
    await write(api, text)
    loaded = await load(api, plan(), "u1")
    assert loaded.state == State(uid="u1")
    assert "fraud-run is not readable" in loaded.problem


async def test_another_rollout_of_the_same_name_inherits_what_was_rejected_and_no_run() -> None:
    api = FakeApi()
    await save(api, plan(), state(intent=25, retired={"old": 5.0}))
    loaded = await load(api, plan(), "u2")
    known = state()
    assert loaded.state == State(uid="u2", attempted="bbb", attempts=1, rejected="zzz", last_run="zzz-1", history=known.history)
    assert not loaded.problem


async def test_an_api_server_that_is_away_is_not_an_empty_checkpoint() -> None:
    api = FakeApi()
    await api.close()
    with pytest.raises(Unavailable):
        await load(api, plan(), "u1")


# -- evidence -------------------------------------------------------------------------------------------------------------


def chain(run: str = "bbb-1", *, entries: int = 1, size: int = 10, after: Chain | None = None) -> Chain:
    made = after or Chain(run=run)
    for number in range(entries):
        made = evidence.append(made, "Checkpoint", float(number), {"note": "x" * size})
    return made


async def parts(api: FakeApi, run: str = "bbb-1") -> list[Object]:
    found = await api.list(CONFIGMAPS, NAMESPACE, labels={names.RUN: run})
    return sorted(found, key=lambda body: int(body["metadata"]["name"].rsplit("-", 1)[1]))


def documents(found: list[Object]) -> list[Any]:
    return [json.loads(body["data"]["evidence.json"]) for body in found]


async def test_the_first_part() -> None:
    api = FakeApi()
    await EvidenceStore(api, "1.2.3").append(plan(), Chain(run="bbb-1"))
    assert await parts(api) == [], "nothing to say, nothing written"
    await EvidenceStore(api, "1.2.3").append(plan(), chain(entries=2))
    (body,) = await parts(api)
    assert body["metadata"]["name"] == "fraud-evidence-bbb-1-1"
    assert body["metadata"]["labels"] == {
        "kanarya.dev/rollout": "fraud",
        "app.kubernetes.io/managed-by": "kanarya",
        "kanarya.dev/run": "bbb-1",
    }
    (document,) = documents([body])
    assert {**document, "entries": len(document["entries"])} == {
        "schemaVersion": 1,
        "rollout": "fraud",
        "namespace": "shop",
        "run": "bbb-1",
        "part": 1,
        "closed": False,
        "operatorVersion": "1.2.3",
        "entries": 2,
    }


async def test_the_same_outbox_handed_over_twice_is_written_once() -> None:
    api = FakeApi()
    books = EvidenceStore(api, "1")
    first = chain(entries=3)
    await books.append(plan(), first)
    await books.append(plan(), first)
    await EvidenceStore(api, "1").append(plan(), chain(entries=2, after=first))
    entries = await read_evidence(api, NAMESPACE, NAME, "bbb-1")
    assert [entry["sequence"] for entry in entries] == [1, 2, 3, 4, 5]
    assert evidence.first_break(entries) is None


async def test_a_write_that_was_given_up_and_comes_late_takes_no_entry_away() -> None:
    api = FakeApi()
    books = EvidenceStore(api, "1")
    first = chain(entries=2)
    await books.append(plan(), first)
    given_up: list[Any] = []

    async def hang(call: Any) -> None:
        if call.verb == "merge_patch":
            given_up.append(call)
            raise Unavailable("given up before the server came to it")

    api.before = hang
    second = chain(entries=1, after=first)
    with pytest.raises(Unavailable):
        await books.append(plan(), second)
    api.before = None
    await books.append(plan(), second)
    await books.append(plan(), chain(entries=1, after=second.model_copy(update={"outbox": ()})))
    (call,) = given_up
    with pytest.raises(Conflict):
        await api.merge_patch(CONFIGMAPS, NAMESPACE, call.name, call.body)
    entries = await read_evidence(api, NAMESPACE, NAME, "bbb-1")
    assert [entry["sequence"] for entry in entries] == [1, 2, 3, 4]


async def test_a_lost_answer_does_not_write_twice() -> None:
    api = FakeApi()

    async def lose(call: Any) -> None:
        if call.verb == "create":
            raise Unavailable("the answer was lost")

    api.after = lose
    whole = chain(entries=2)
    with pytest.raises(Unavailable):
        await EvidenceStore(api, "1").append(plan(), whole)
    api.after = None
    await EvidenceStore(api, "1").append(plan(), whole)
    assert len(await read_evidence(api, NAMESPACE, NAME, "bbb-1")) == 2


async def test_a_part_closes_when_it_is_full_and_cannot_be_changed_any_more() -> None:
    api = FakeApi()
    made = chain(entries=5, size=90_000)
    await EvidenceStore(api, "1").append(plan(), made)
    found = await parts(api)
    assert [body.get("immutable", False) for body in found] == [True, False]
    assert [len(document["entries"]) for document in documents(found)] == [3, 2]
    assert [document["closed"] for document in documents(found)] == [True, False]
    with pytest.raises(Invalid):
        await api.merge_patch(CONFIGMAPS, NAMESPACE, found[0]["metadata"]["name"], {"data": {"evidence.json": "{}"}})
    await EvidenceStore(api, "1").append(plan(), chain(entries=2, size=90_000, after=made))
    assert [len(document["entries"]) for document in documents(await parts(api))] == [3, 3, 1]
    assert all(len(body["data"]["evidence.json"]) < 2**20 for body in await parts(api))
    assert evidence.first_break(await read_evidence(api, NAMESPACE, NAME, "bbb-1")) is None


async def test_a_full_part_with_nothing_after_it_leaves_no_empty_one() -> None:
    api = FakeApi()
    await EvidenceStore(api, "1").append(plan(), chain(entries=3, size=90_000))
    assert len(await parts(api)) == 1


async def test_parts_are_read_in_the_order_of_their_numbers() -> None:
    api = FakeApi()
    await EvidenceStore(api, "1").append(plan(), chain(entries=33, size=90_000))
    entries = await read_evidence(api, NAMESPACE, NAME, "bbb-1")
    assert len(await parts(api)) == 11
    assert evidence.first_break(entries) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"entries": 5}', "[" * 100_000])
async def test_a_part_that_was_spoiled_is_left_and_another_begun(text: str) -> None:
    api = FakeApi()
    first = chain(entries=1)
    await EvidenceStore(api, "1").append(plan(), first)
    await api.merge_patch(CONFIGMAPS, NAMESPACE, "fraud-evidence-bbb-1-1", {"data": {"evidence.json": text}})
    await EvidenceStore(api, "1").append(plan(), chain(entries=1, after=first.model_copy(update={"outbox": ()})))
    assert [entry["sequence"] for entry in await read_evidence(api, NAMESPACE, NAME, "bbb-1")] == [2]


async def test_entries_that_were_spoiled_do_not_stop_the_next() -> None:
    api = FakeApi()
    await EvidenceStore(api, "1").append(plan(), chain(entries=1))
    await api.merge_patch(
        CONFIGMAPS, NAMESPACE, "fraud-evidence-bbb-1-1", {"data": {"evidence.json": '{"entries": [5, {}, {"sequence": "x"}]}'}}
    )
    await EvidenceStore(api, "1").append(plan(), chain(entries=1))
    assert [entry.get("sequence") for entry in await read_evidence(api, NAMESPACE, NAME, "bbb-1")] == [None, "x", 1]


async def test_a_missing_part_is_not_written_over_the_next() -> None:
    api = FakeApi()
    made = chain(entries=4, size=90_000)
    await EvidenceStore(api, "1").append(plan(), made)
    await api.delete(CONFIGMAPS, NAMESPACE, "fraud-evidence-bbb-1-1")
    await EvidenceStore(api, "1").append(plan(), chain(entries=3, size=90_000, after=made.model_copy(update={"outbox": ()})))
    assert [body["metadata"]["name"][-1] for body in await parts(api)] == ["2", "3"]
    assert [entry["sequence"] for entry in await read_evidence(api, NAMESPACE, NAME, "bbb-1")] == [4, 5, 6, 7]


async def test_somebodys_copy_of_a_part_is_neither_read_nor_deleted() -> None:
    api = FakeApi()
    await EvidenceStore(api, "1").append(plan(), chain(entries=1))
    (body,) = await parts(api)
    labels = body["metadata"]["labels"]
    for name in ("fraud-evidence-bbb-1-1-copy", "backup", "fraud-evidence-bbb-1-01", "mine-7"):
        copy = {**body, "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}}
        await api.create(CONFIGMAPS, NAMESPACE, copy)
    await EvidenceStore(api, "1").append(plan(), chain(entries=2))
    assert len(await read_evidence(api, NAMESPACE, NAME, "bbb-1")) == 2
    for number in range(6):
        await EvidenceStore(api, "1").append(plan(), chain(f"ccc-{number}"))
    assert await api.get(CONFIGMAPS, NAMESPACE, "backup") is not None


async def test_the_last_five_runs_are_kept_whole() -> None:
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]
    api = FakeApi(clock=lambda: clock[0])
    await EvidenceStore(api, "1").append(plan(), chain("zzz-1", entries=5, size=90_000))
    for number in range(7):
        clock[0] += timedelta(minutes=1)
        await EvidenceStore(api, "1").append(plan(), chain(f"aaa-{number}"))
    found = await api.list(CONFIGMAPS, NAMESPACE, label_exists=names.RUN)
    assert {body["metadata"]["labels"][names.RUN] for body in found} == {f"aaa-{number}" for number in range(2, 7)}


async def test_evidence_of_other_rollouts_is_left_alone() -> None:
    api = FakeApi()
    other = plan()
    other = type(other)("other", NAMESPACE, other.spec, other.latched)
    await EvidenceStore(api, "1").append(other, chain("bbb-1"))
    for number in range(7):
        await EvidenceStore(api, "1").append(plan(), chain(f"aaa-{number}"))
    assert len(await read_evidence(api, NAMESPACE, "other", "bbb-1")) == 1
    assert await read_evidence(api, NAMESPACE, NAME, "bbb-1") == []
