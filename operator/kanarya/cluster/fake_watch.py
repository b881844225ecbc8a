"""Who watches the in-memory API, and what each of them is told."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, field

from kanarya.cluster.port import Object, Resource, WatchEvent


@dataclass(frozen=True)
class Selection:
    """What a watch asked for."""

    resource: Resource
    namespace: str | None
    labels: Mapping[str, str]
    name: str | None

    def sees(self, body: Object | None) -> bool:
        """Tell whether an object of this kind is selected."""
        if body is None:
            return False
        metadata = body["metadata"]
        return (
            self.namespace in {None, metadata["namespace"]}
            and self.name in {None, metadata["name"]}
            and self.labels.items() <= metadata.get("labels", {}).items()
        )


@dataclass(eq=False)
class _Watcher:
    selection: Selection
    queue: asyncio.Queue[WatchEvent | None] = field(default_factory=asyncio.Queue)


class Watchers:
    """The open watches of one in-memory API."""

    def __init__(self) -> None:
        self._open: list[_Watcher] = []

    async def events(self, selection: Selection, bodies: Iterable[Object]) -> AsyncGenerator[WatchEvent, None]:
        """Yield the objects there are, `SYNCED`, then every change until `end`."""
        watcher = _Watcher(selection)
        # Both without a pause in between, so that no change is lost or told twice.
        initial = [copy.deepcopy(body) for body in bodies if selection.sees(body)]
        self._open.append(watcher)
        try:
            for body in initial:
                yield WatchEvent("ADDED", body)
            yield WatchEvent("SYNCED", {})
            while (event := await watcher.queue.get()) is not None:
                yield event
        finally:
            self._open.remove(watcher)

    def announce(self, resource: Resource, old: Object | None, new: Object | None, version: str) -> None:
        """Tell each watcher what changed for it: an object that leaves its selection is deleted, as far as it can see."""
        for watcher in self._open:
            if watcher.selection.resource != resource:
                continue
            saw, sees = watcher.selection.sees(old), watcher.selection.sees(new)
            if new is not None and sees:
                watcher.queue.put_nowait(WatchEvent("MODIFIED" if saw else "ADDED", copy.deepcopy(new)))
            elif old is not None and saw:
                last = copy.deepcopy(old)
                last["metadata"]["resourceVersion"] = version
                watcher.queue.put_nowait(WatchEvent("DELETED", last))

    def end(self) -> None:
        """End every watch."""
        for watcher in self._open:
            watcher.queue.put_nowait(None)
