"""What survives: evidence (5), run ids, and the weight after a crash (9)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kanarya.cluster import names
from kanarya.cluster.port import CONFIGMAPS, Object
from kanarya.decision.replay import first_difference
from tests.world.operators import Pass
from tests.world.service import NAME

if TYPE_CHECKING:
    from tests.world.oracle import Oracle

Entries = list[dict[str, Any]]


class Memory:
    """Watches the operator's own ConfigMaps."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle, self._world = oracle, oracle.world
        self.began: dict[str, float] = {}
        """By run: when its first checkpoint was written, by the world's clock."""
        self._started: dict[str, float] = {}
        self._ended: set[str] = set()
        self._entries: dict[str, dict[int, Entries]] = {}
        self._first: dict[str, tuple[int, int]] = {}
        """By operator that has not finished a pass: weight of route and checkpoint when its pass began."""
        self._awake: set[str] = set()

    def pass_began(self, one: Pass) -> None:
        if one.operator not in self._awake:
            run = self._world.checkpoint().get("run") or {}
            self._first[one.operator] = self._world.weight() or 0, int(run.get("weight", 0))

    def pass_ended(self, one: Pass, error: Exception | None) -> None:
        if error is not None or one.operator in self._awake:
            return
        self._awake.add(one.operator)
        route, checkpoint = self._first.pop(one.operator)
        present = self._world.weight() or 0
        touched = self._oracle.since_touched("route", "checkpoint") <= self._world.now() - one.began
        if (
            checkpoint < present <= route  # more than the route had is a rise, which has to be earned anyway
            and not touched
            and not self._oracle.several
            and self._world.status().get("summary") != "Refused"
        ):
            self._oracle.violated(9, f"after a start with {route} on the route and {checkpoint} in the checkpoint the weight is {present}")

    def config_map_changed(self, old: Object | None, new: Object | None, *, late: bool) -> None:
        """Look at a write of an operator, or at one that came to the server after its operator had given it up."""
        body = new or old
        assert body is not None
        labels = body["metadata"].get("labels", {})
        if names.RUN in labels:
            self._evidence_changed(labels[names.RUN], body, gone=new is None)
        elif body["metadata"]["name"] == names.checkpoint(NAME) and new is not None and not late:
            self._checkpoint_written()

    def _checkpoint_written(self) -> None:
        document = self._world.checkpoint()
        run = document.get("run")
        self._ended |= {entry["run"] for entry in document.get("history", [])}
        if run is None:
            return
        self.began.setdefault(run["id"], self._world.now())
        if self._oracle.several:
            return
        started = self._started.setdefault(run["id"], run["started"])
        set_back = run["started"] < started and "clock" in self._oracle.touched
        if "checkpoint" in self._oracle.touched and ("evidence" in self._oracle.touched or run["id"] not in self._entries):
            self._started[run["id"]] = run["started"]  # somebody took away all that could tell of an earlier run
            return
        if run["id"] in self._ended or not (started == run["started"] or set_back):
            self._oracle.violated(9, f"run id {run['id']} is used twice")

    def _evidence_changed(self, run: str, body: Object, *, gone: bool) -> None:
        part = int(body["metadata"]["name"].rpartition("-")[2])
        parts = self._entries.setdefault(run, {})
        if gone:
            parts.pop(part, None)
            return
        entries: Entries = json.loads(body["data"]["evidence.json"])["entries"]
        before = parts.get(part, [])
        if entries[: len(before)] != before and not self._excused():
            self._oracle.violated(5, f"evidence of {run}, part {part}: an entry that was written is changed or gone")
        parts[part] = entries

    def _excused(self) -> bool:
        return self._oracle.several or self._oracle.since_touched("evidence", "checkpoint") < float("inf")

    def finish(self) -> None:
        """Judge all evidence again."""
        if self._excused():
            return
        for run, parts in self._entries.items():
            entries = [entry for part in sorted(parts) for entry in parts[part]]
            difference = first_difference(entries) if entries else None
            if difference is not None:
                self._oracle.violated(5, f"evidence of {run}: {difference}")
            steps = [entry["step"] for entry in entries if entry["kind"] == "StepEntered"]
            if steps != list(range(1, len(steps) + 1)):
                self._oracle.violated(5, f"evidence of {run}: steps {steps}")
            if sum(entry["kind"] == "RunEnded" for entry in entries) > 1:
                self._oracle.violated(9, f"evidence of {run}: it ended twice")
        self._check_complete()

    def _check_complete(self) -> None:
        """A run that the checkpoint says has ended has all its evidence, to the head that was published."""
        found = {
            body["metadata"]["labels"][names.RUN]
            for body in self._world.api.all(CONFIGMAPS)
            if names.RUN in body["metadata"].get("labels", {})
        }
        for entry in self._world.checkpoint().get("history", []):
            head: Mapping[str, Any] = entry
            parts = self._entries.get(head["run"], {})
            last = [item for part in sorted(parts) for item in parts[part]][-1:]
            if head.get("evidenceHead") and head["run"] in found and (not last or last[0]["hash"] != head["evidenceHead"]):
                self._oracle.violated(5, f"evidence of {head['run']} does not reach the head in its history")
