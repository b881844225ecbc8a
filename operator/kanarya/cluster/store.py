"""Checkpoint and evidence in ConfigMaps."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from kanarya.cluster import names, objects
from kanarya.cluster.execute import write_config_map
from kanarya.cluster.objects import Plan
from kanarya.cluster.observe import NameTaken
from kanarya.cluster.port import CONFIGMAPS, DEPLOYMENTS, AlreadyExists, Invalid, KubeApi, Object
from kanarya.decision import evidence
from kanarya.decision.plausible import MOST_ATTEMPTS, implausible
from kanarya.decision.state import SCHEMA_VERSION, Chain, State

CHECKPOINT_KEY, EVIDENCE_KEY = "checkpoint.json", "evidence.json"
RUNS_KEPT = 5
PART_BYTES = 200_000
"""A part is closed when it has grown to this: a ConfigMap holds at most 1 MiB, and an open part is written again with each entry."""

MOST_FOREIGN_PARTS = 10
"""How many names of parts in a row may be taken by others."""


class CheckpointTooNew(Exception):  # noqa: N818 -- reads as the condition it becomes
    """A newer operator wrote the checkpoint: this one keeps its hands off the weights."""


@dataclass(frozen=True)
class Loaded:
    """The state found, and a sentence on what could not be read."""

    state: State
    problem: str = ""


async def load(api: KubeApi, plan: Plan, uid: str, *, now: float = math.inf) -> Loaded:
    """Read the checkpoint of the rollout with this uid.

    A checkpoint of an earlier rollout of the same name gives its memory of what was rejected, not its run. One that the operator
    cannot have written, such as one with times after `now` (epoch seconds), counts as unreadable.

    Raises
    ------
    CheckpointTooNew
        When its schema version is one that this operator does not know.
    NameTaken
        When somebody else's ConfigMap has its name, before the rollout has anything of its own.
    """
    body = await api.get(CONFIGMAPS, plan.namespace, names.checkpoint(plan.name))
    if body is None:
        return Loaded(await _begin_again(api, plan, uid))
    if await _is_foreign(api, plan, body):
        raise NameTaken.by("ConfigMap", body["metadata"]["name"], plan.name)
    document = objects.read_document(body, CHECKPOINT_KEY)
    if isinstance(document, dict) and isinstance(document.get("schemaVersion"), int) and document["schemaVersion"] > SCHEMA_VERSION:
        raise CheckpointTooNew(
            f"ConfigMap {names.checkpoint(plan.name)} has schema version {document['schemaVersion']}, this operator knows "
            f"{SCHEMA_VERSION}: upgrade the operator"
        )
    try:
        state = State.model_validate_json(objects.read_text(body, CHECKPOINT_KEY), strict=True)
        problem = implausible(state, now)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        problem = f"{'.'.join(str(part) for part in first['loc'])[:100] or 'the document'}: {first['msg'][:200]}"
    if problem:
        sentence = f"ConfigMap {names.checkpoint(plan.name)} is not readable ({problem}); beginning from what the cluster shows"
        return Loaded(await _begin_again(api, plan, uid), sentence)
    if state.uid != uid:
        keep = ("attempted", "attempts", "rejected", "last_run", "history")
        return Loaded(State(uid=uid, **{key: getattr(state, key) for key in keep}))
    return Loaded(state)


async def _is_foreign(api: KubeApi, plan: Plan, body: Object) -> bool:
    """Tell somebody else's ConfigMap from a checkpoint of ours that was spoilt: that one is written anew, as long as stable is there."""
    if objects.is_labelled(body, plan.name) or CHECKPOINT_KEY in (body.get("data") or {}):
        return False
    return not await api.list(DEPLOYMENTS, plan.namespace, labels={names.ROLLOUT: plan.name, names.TRACK: "stable"})


async def _begin_again(api: KubeApi, plan: Plan, uid: str) -> State:
    """Give the state of a rollout without a checkpoint: run ids go on from the newest evidence, so that none is used twice."""
    found = await api.list(CONFIGMAPS, plan.namespace, labels={names.ROLLOUT: plan.name}, label_exists=names.RUN)
    found = [body for body in found if _part(body) is not None]
    if not found:
        return State(uid=uid)
    newest = max(found, key=lambda body: str(body["metadata"].get("creationTimestamp", "")))
    run = newest["metadata"]["labels"][names.RUN]
    revision, _, attempt = run.rpartition("-")
    if not revision or not attempt.isdecimal() or int(attempt) > MOST_ATTEMPTS:
        return State(uid=uid)
    return State(uid=uid, attempted=revision, attempts=int(attempt), last_run=run)


async def save(api: KubeApi, plan: Plan, state: State) -> None:
    """Write the checkpoint."""
    document = state.model_dump(mode="json", by_alias=True)
    await write_config_map(api, plan.namespace, objects.config_map(plan, names.checkpoint(plan.name), CHECKPOINT_KEY, document))


class EvidenceStore:
    """Appends entries to the evidence of runs. An entry is written once, however often it is handed over."""

    def __init__(self, api: KubeApi, operator_version: str) -> None:
        self._api = api
        self._version = operator_version

    async def append(self, plan: Plan, chain: Chain) -> None:
        """Write the chain's outbox behind what is stored; entries stored before are skipped by their sequence."""
        if not chain.outbox:
            return
        parts = await self._parts(plan, chain.run)
        part, document = self._open(plan, chain.run, parts)
        written = [entry.get("sequence") for stored in parts for entry in _entries(stored)]
        # A larger number than the chain's own was put there by somebody else: it must not keep our entries out.
        last = max((number for number in written if type(number) is int and number <= chain.sequence), default=0)
        fresh = [entry for entry in chain.outbox if entry["sequence"] > last]
        while fresh:
            document["entries"].append(fresh.pop(0))
            full = len(json.dumps(document)) >= PART_BYTES
            if full or not fresh:
                document["closed"] = full
                part = await self._write(plan, chain.run, part, document)
            if full:
                part, document = part + 1, self._empty(plan, chain.run, part + 1)
        if not parts:
            await self._prune(plan)

    async def _parts(self, plan: Plan, run: str) -> list[Object]:
        return await _stored(self._api, plan.namespace, plan.name, run)

    def _open(self, plan: Plan, run: str, parts: Sequence[Object]) -> tuple[int, dict[str, Any]]:
        if not parts:
            return 1, self._empty(plan, run, 1)
        last = _part(parts[-1]) or 0
        document = objects.read_document(parts[-1], EVIDENCE_KEY)
        full = len(objects.read_text(parts[-1], EVIDENCE_KEY)) >= PART_BYTES
        if parts[-1].get("immutable") or full or not isinstance(document, dict) or not isinstance(document.get("entries"), list):
            return last + 1, self._empty(plan, run, last + 1)
        return last, document

    def _empty(self, plan: Plan, run: str, part: int) -> dict[str, Any]:
        return {
            "schemaVersion": evidence.SCHEMA_VERSION,
            "rollout": plan.name,
            "namespace": plan.namespace,
            "run": run,
            "part": part,
            "closed": False,
            "operatorVersion": self._version,
            "entries": [],
        }

    async def _write(self, plan: Plan, run: str, part: int, document: dict[str, Any]) -> int:
        """Write a part under its own number, or the first one after it that nobody else's ConfigMap has; returns the number."""
        for number in range(part, part + MOST_FOREIGN_PARTS):
            document["part"] = number
            body = objects.config_map(plan, names.evidence(plan.name, run, number), EVIDENCE_KEY, document, {names.RUN: run})
            body["data"][EVIDENCE_KEY] = json.dumps(document, sort_keys=True)
            if document["closed"]:
                body["immutable"] = True
            try:
                await self._api.create(CONFIGMAPS, plan.namespace, body)
            except AlreadyExists:
                version = await self._open_version(plan, run, body["metadata"]["name"])
                if version is None:
                    continue
                # Guarded: a write that was given up, and that the server comes to only later, must not take later entries away.
                patch: Object = {"metadata": {"resourceVersion": version}, "data": body["data"], "immutable": document["closed"]}
                await self._api.merge_patch(CONFIGMAPS, plan.namespace, body["metadata"]["name"], patch)
            return number
        raise Invalid(
            f"the names of evidence of run {run} are taken by ConfigMaps that are not Kanarya's, from part {part} on: delete them"
        )

    async def _open_version(self, plan: Plan, run: str, name: str) -> str | None:
        """Give the resourceVersion of a part that may be written to; None when it is closed, or not ours."""
        body = await self._api.get(CONFIGMAPS, plan.namespace, name)
        labels = {} if body is None else body["metadata"].get("labels", {})
        if body is None or body.get("immutable") or (labels.get(names.ROLLOUT), labels.get(names.RUN)) != (plan.name, run):
            return None
        return str(body["metadata"]["resourceVersion"])

    async def _prune(self, plan: Plan) -> None:
        """Keep the evidence of the last runs."""
        found = await self._api.list(CONFIGMAPS, plan.namespace, labels={names.ROLLOUT: plan.name}, label_exists=names.RUN)
        found = [body for body in found if _part(body) is not None]
        newest: dict[str, str] = {}
        for body in found:
            run = body["metadata"]["labels"][names.RUN]
            newest[run] = max(newest.get(run, ""), body["metadata"].get("creationTimestamp", ""))
        kept = sorted(newest, key=lambda run: newest[run], reverse=True)[:RUNS_KEPT]
        for body in found:
            if body["metadata"]["labels"][names.RUN] not in kept:
                await self._api.delete(CONFIGMAPS, plan.namespace, body["metadata"]["name"])


async def read_evidence(api: KubeApi, namespace: str, rollout: str, run: str) -> list[dict[str, Any]]:
    """Read all entries of a run's evidence in order."""
    return [entry for part in await _stored(api, namespace, rollout, run) for entry in _entries(part)]


async def _stored(api: KubeApi, namespace: str, rollout: str, run: str) -> list[Object]:
    found = await api.list(CONFIGMAPS, namespace, labels={names.ROLLOUT: rollout, names.RUN: run})
    return sorted((body for body in found if _part(body) is not None), key=lambda body: _part(body) or 0)


def _part(body: Object) -> int | None:
    """Give the number of a part; None for what only has its labels, such as somebody's copy."""
    metadata = body["metadata"]
    name, _, number = str(metadata["name"]).rpartition("-")
    labels = metadata.get("labels", {})
    if not name or not number.isdecimal():
        return None
    part = int(number[:9])  # our own never get so far; a longer one makes another name and so is none
    return part if metadata["name"] == names.evidence(labels.get(names.ROLLOUT, ""), labels.get(names.RUN, ""), part) else None


def _entries(body: Object) -> list[dict[str, Any]]:
    document = objects.read_document(body, EVIDENCE_KEY)
    entries = document.get("entries") if isinstance(document, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
