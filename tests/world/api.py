"""The API server in memory, opened for those who are not its clients: controllers, people, and whoever watches the world."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from kanarya.cluster.fake import FakeApi
from kanarya.cluster.fake_rules import content, traits
from kanarya.cluster.port import Object, Resource

Listener = Callable[[Resource, Object | None, Object | None], None]
"""Told of each change: the object before (None: created) and after (None: deleted). Neither may be changed."""


class OpenApi(FakeApi):
    """`FakeApi` with synchronous access to one namespace, and listeners.

    What `peek` and `all` give is the stored object itself: whoever wants to change it copies it first.
    """

    def __init__(self, namespace: str, clock: Callable[[], Any]) -> None:
        super().__init__(clock=clock)
        self.namespace = namespace
        self.listeners: list[Listener] = []

    def peek(self, resource: Resource, name: str) -> Object | None:
        return self._kind(resource).get((self.namespace, name))

    def all(self, resource: Resource) -> list[Object]:
        return [body for _, body in sorted(self._kind(resource).items())]

    def put(self, resource: Resource, body: Object) -> Object:
        """Create or replace an object as its own controller would, status included."""
        name = body["metadata"]["name"]
        old = self.peek(resource, name)
        metadata = {**body["metadata"], "namespace": self.namespace}
        if old is None:
            self._made += 1
            metadata |= {"uid": str(uuid.UUID(int=self._made)), "creationTimestamp": self._now()}
            if traits(resource).generation:
                metadata["generation"] = 1
        else:
            metadata |= {
                key: old["metadata"][key] for key in ("uid", "creationTimestamp", "resourceVersion", "generation") if key in old["metadata"]
            }
            if traits(resource).generation and content(old) != content(body):
                metadata["generation"] += 1
        new = {"apiVersion": resource.api_version, "kind": resource.kind, **body, "metadata": metadata}
        return self._store(resource, (self.namespace, name), new)

    def put_status(self, resource: Resource, name: str, status: Object) -> None:
        body = self.peek(resource, name)
        if body is not None and body.get("status") != status:
            self._store(resource, (self.namespace, name), {**body, "status": status})

    def annotate(self, resource: Resource, name: str, key: str, value: str) -> None:
        """Set an annotation as a controller does: by itself it is no new generation here."""
        body = self.peek(resource, name)
        if body is not None and body["metadata"].get("annotations", {}).get(key) != value:
            metadata = {**body["metadata"], "annotations": {**body["metadata"].get("annotations", {}), key: value}}
            self._store(resource, (self.namespace, name), {**body, "metadata": metadata})

    def drop(self, resource: Resource, name: str) -> None:
        body = self.peek(resource, name)
        if body is not None:
            self._remove(resource, body)

    def _store(self, resource: Resource, key: tuple[str, str], new: Object) -> Object:
        old = self._kind(resource).get(key)
        stored = super()._store(resource, key, new)
        if stored is not old:
            for listener in self.listeners:
                listener(resource, old, stored)
        return stored

    def _remove(self, resource: Resource, old: Object) -> None:
        super()._remove(resource, old)
        for listener in self.listeners:
            listener(resource, old, None)
