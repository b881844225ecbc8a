"""The port in memory, for tests: it keeps, refuses, versions and announces objects as an API server does.

No controller runs behind it: Deployments make no pods, and deleting an owner deletes nothing else. Defaults are not filled in,
but for a Deployment's `spec.replicas`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from kanarya.cluster.fake_patches import apply_json_patch, merge
from kanarya.cluster.fake_rules import (
    content,
    default,
    duplicate,
    normal,
    scale_of,
    traits,
    validate,
    validate_replicas,
    validate_update,
)
from kanarya.cluster.fake_watch import Selection, Watchers
from kanarya.cluster.paths import check_body, segment
from kanarya.cluster.port import (
    AlreadyExists,
    ApiError,
    Conflict,
    Invalid,
    NotFound,
    Object,
    Resource,
    Subresource,
    Unavailable,
    WatchEvent,
)

Verb = Literal["get", "list", "watch", "create", "replace", "merge_patch", "json_patch", "delete"]
Hook = Callable[["Call"], Awaitable[None]]

_WATCH_RETRY_SECONDS = 0.01


@dataclass(frozen=True)
class Call:
    """One call on the port. `body` is the object, the patch or the operations; None where there is none."""

    verb: Verb
    resource: Resource
    namespace: str | None
    name: str | None
    body: Any = None
    subresource: Subresource | None = None


class FakeApi:
    """`KubeApi` in memory.

    Attributes
    ----------
    before
        Awaited before each call. It may raise an `ApiError`, and then nothing is done; a watch tries again, as a real one does. It
        may use this same API, to write in between.
    after
        Awaited after each call that did its work: an error raised here is an answer that was lost.
    calls
        Every write that got past `before`, in order, whether it was then accepted or refused.
    """

    def __init__(self, *, clock: Callable[[], datetime] | None = None) -> None:
        self.before: Hook | None = None
        self.after: Hook | None = None
        self.calls: list[Call] = []
        self._clock = clock or (lambda: datetime.now(UTC))
        self._objects: dict[Resource, dict[tuple[str, str], Object]] = {}
        self._watchers = Watchers()
        self._version = 1000
        self._made = 0
        self._closed = False

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """See `KubeApi.get`."""
        _segments(namespace, name)
        call = await self._arrive(Call("get", resource, namespace, name))
        found = duplicate(self._kind(resource).get((namespace, name)))
        await self._leave(call)
        return found

    async def list(
        self, resource: Resource, namespace: str | None, *, labels: Mapping[str, str] | None = None, label_exists: str | None = None
    ) -> Sequence[Object]:
        """See `KubeApi.list`; sorted by namespace and name."""
        call = await self._arrive(Call("list", resource, namespace, None))
        found = [
            duplicate(body)
            for (place, _), body in sorted(self._kind(resource).items())
            if namespace in {None, place}
            and (labels or {}).items() <= body["metadata"].get("labels", {}).items()
            and (label_exists is None or label_exists in body["metadata"].get("labels", {}))
        ]
        await self._leave(call)
        return found

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        """See `KubeApi.create`. Every namespace exists."""
        segment(namespace, "namespace")
        call = await self._arrive(Call("create", resource, namespace, _name(body), duplicate(body)))
        new = self._typed(resource, body)
        metadata = new["metadata"]
        if metadata.get("resourceVersion"):
            raise Invalid("metadata.resourceVersion must not be set on an object to be created")
        if metadata.setdefault("namespace", namespace) != namespace:
            raise Invalid(f"metadata.namespace: {metadata['namespace']!r} is not {namespace!r}, to which it was sent")
        self._made += 1
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = f"{metadata['generateName']}{self._made:05d}"
        if not isinstance(metadata.get("name"), str):
            raise Invalid("metadata.name: a name is required")
        if traits(resource).status_is_separate:
            new.pop("status", None)
        default(resource, new)
        validate(resource, new)
        key = (namespace, metadata["name"])
        if key in self._kind(resource):
            raise AlreadyExists(f"{resource.plural} {metadata['name']} already exists")
        for owned_by_server in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields", "generation"):
            metadata.pop(owned_by_server, None)
        metadata["uid"] = str(uuid.UUID(int=self._made))
        metadata["creationTimestamp"] = self._now()
        if traits(resource).generation:
            metadata["generation"] = 1
        return await self._answer(call, self._store(resource, key, new))

    async def replace(self, resource: Resource, namespace: str, body: Object) -> Object:
        """See `KubeApi.replace`."""
        name = _name(body)
        _segments(namespace, name)
        assert name is not None  # noqa: S101 -- `_segments` saw to it
        call = await self._arrive(Call("replace", resource, namespace, name, duplicate(body)))
        return await self._answer(call, self._update(resource, namespace, name, self._typed(resource, body)))

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, patch: Object, *, subresource: Subresource | None = None
    ) -> Object:
        """See `KubeApi.merge_patch`."""
        _segments(namespace, name)
        call = await self._arrive(Call("merge_patch", resource, namespace, name, duplicate(patch), subresource))
        old = self._existing(resource, namespace, name)
        if subresource == "scale":
            return await self._answer(call, self._rescale(resource, old, patch))
        return await self._answer(call, self._update(resource, namespace, name, normal(merge(old, patch)), subresource))

    async def json_patch(self, resource: Resource, namespace: str, name: str, operations: Sequence[Object]) -> Object:
        """See `KubeApi.json_patch`.

        As on an API server, a patch with a `test` that cannot be applied for another reason is a `Conflict` as well.
        """
        _segments(namespace, name)
        call = await self._arrive(Call("json_patch", resource, namespace, name, duplicate(list(operations))))
        old = self._existing(resource, namespace, name)
        try:
            new = apply_json_patch(old, operations)
        except ValueError as error:
            if any(operation.get("op") == "test" for operation in operations):
                raise Conflict(f"patch {resource.plural} {name}: a test in the JSON patch did not hold") from error
            raise Invalid(f"patch {resource.plural} {name}: the patch cannot be applied") from error
        if not isinstance(new, dict) or not isinstance(new.get("metadata"), dict):
            raise Invalid(f"patch {resource.plural} {name}: what is left is no object")
        return await self._answer(call, self._update(resource, namespace, name, normal(new)))

    async def delete(self, resource: Resource, namespace: str, name: str) -> None:
        """See `KubeApi.delete`. An object with finalizers is only marked; it goes when the last of them is taken away."""
        _segments(namespace, name)
        call = await self._arrive(Call("delete", resource, namespace, name))
        old = self._kind(resource).get((namespace, name))
        if old is not None and not old["metadata"].get("finalizers"):
            self._remove(resource, old)
        elif old is not None and "deletionTimestamp" not in old["metadata"]:
            new = duplicate(old)
            new["metadata"].update(deletionTimestamp=self._now(), deletionGracePeriodSeconds=0)
            if "generation" in new["metadata"]:
                new["metadata"]["generation"] += 1
            self._store(resource, (namespace, name), new)
        await self._leave(call)

    async def watch(
        self, resource: Resource, namespace: str | None, *, labels: Mapping[str, str] | None = None, name: str | None = None
    ) -> AsyncGenerator[WatchEvent, None]:
        """See `KubeApi.watch`. It begins with the first event asked for, and ends when the API is closed."""
        call = Call("watch", resource, namespace, name)
        while True:
            try:
                await self._arrive(call)
                break
            except ApiError:
                if self._closed:
                    return
                await asyncio.sleep(_WATCH_RETRY_SECONDS)
        selection = Selection(resource, namespace, dict(labels or {}), name)
        bodies = [body for _, body in sorted(self._kind(resource).items())]
        async with aclosing(self._watchers.events(selection, bodies)) as events:
            async for event in events:
                yield event

    async def close(self) -> None:
        """See `KubeApi.close`. Calls after it raise `Unavailable`."""
        self._closed = True
        self._watchers.end()

    async def _arrive(self, call: Call) -> Call:
        # A real call never completes at once; races that this uncovers are real ones.
        await asyncio.sleep(0)
        if self._closed:
            raise Unavailable("the client is closed")
        if self.before is not None:
            await self.before(call)
        if call.verb not in {"get", "list", "watch"}:
            check_body(call.body, f"{call.verb} {call.resource.plural}")
            self.calls.append(call)
        return call

    async def _leave(self, call: Call) -> None:
        if self.after is not None:
            await self.after(call)

    async def _answer(self, call: Call, body: Object) -> Object:
        answer = duplicate(body)
        await self._leave(call)
        return answer

    def _kind(self, resource: Resource) -> dict[tuple[str, str], Object]:
        return self._objects.setdefault(resource, {})

    def _existing(self, resource: Resource, namespace: str, name: str) -> Object:
        try:
            return self._kind(resource)[namespace, name]
        except KeyError:
            raise NotFound(f"{resource.plural} {namespace}/{name} not found") from None

    def _typed(self, resource: Resource, body: Object) -> Object:
        new = normal({"apiVersion": resource.api_version, "kind": resource.kind, **body})
        if (new["apiVersion"], new["kind"]) != (resource.api_version, resource.kind):
            raise Invalid(f"{new['apiVersion']} {new['kind']} was sent to {resource.api_version} {resource.plural}")
        if not isinstance(new.setdefault("metadata", {}), dict):
            raise Invalid("metadata: must be a map")
        return new

    def _update(self, resource: Resource, namespace: str, name: str, new: Object, subresource: Subresource | None = None) -> Object:
        old = self._existing(resource, namespace, name)
        before, after = old["metadata"], new["metadata"]
        for key in ("resourceVersion", "uid"):
            if after.get(key) and after[key] != before[key]:
                raise Conflict(f"{resource.plural} {namespace}/{name}: {key} is {before[key]}, not {after[key]}")
        if (after.get("namespace", namespace), after.get("name")) != (namespace, name):
            raise Invalid("metadata: an object cannot be renamed")
        kind = traits(resource)
        if subresource == "status":
            if not kind.status:
                raise NotFound(f"{resource.plural} have no status subresource")
            new = {**{key: value for key, value in old.items() if key != "status"}, **_status_of(new)}
            return self._store(resource, (namespace, name), new)
        if kind.status_is_separate:
            new = {**{key: value for key, value in new.items() if key != "status"}, **_status_of(old)}
        for key in (
            "namespace",
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "generation",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ):
            after.pop(key, None)
            if key in before:
                after[key] = before[key]
        default(resource, new)
        validate(resource, new)
        validate_update(resource, old, new)
        annotated = kind.annotations_count and before.get("annotations") != after.get("annotations")
        if kind.generation and (annotated or content(old) != content(new)):
            after["generation"] = before["generation"] + 1
        if "deletionTimestamp" in after and not after.get("finalizers"):
            self._remove(resource, old)
            return new
        return self._store(resource, (namespace, name), new)

    def _rescale(self, resource: Resource, old: Object, patch: Object) -> Object:
        metadata = old["metadata"]
        if not traits(resource).scale:
            raise NotFound(f"{resource.plural} have no scale subresource")
        guard = (patch.get("metadata") or {}).get("resourceVersion", metadata["resourceVersion"])
        if guard != metadata["resourceVersion"]:
            raise Conflict(f"{resource.plural} {metadata['name']}: resourceVersion is {metadata['resourceVersion']}, not {guard}")
        replicas = merge(old.get("spec", {}), patch.get("spec", {})).get("replicas", 0)
        validate_replicas(replicas)
        new = duplicate(old)
        new.setdefault("spec", {})["replicas"] = replicas
        if new != old:
            new["metadata"]["generation"] += 1
        return scale_of(self._store(resource, (metadata["namespace"], metadata["name"]), new))

    def _store(self, resource: Resource, key: tuple[str, str], new: Object) -> Object:
        """Keep a deep copy and announce it; a write that changes nothing is no write."""
        old = self._kind(resource).get(key)
        new = duplicate(new)
        if new == old:
            return old
        new["metadata"]["resourceVersion"] = self._next_version()
        self._kind(resource)[key] = new
        self._watchers.announce(resource, old, new, new["metadata"]["resourceVersion"])
        return new

    def _remove(self, resource: Resource, old: Object) -> None:
        del self._kind(resource)[old["metadata"]["namespace"], old["metadata"]["name"]]
        self._watchers.announce(resource, old, None, self._next_version())

    def _next_version(self) -> str:
        self._version += 1
        return str(self._version)

    def _now(self) -> str:
        return self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _status_of(body: Object) -> Object:
    return {"status": body["status"]} if "status" in body else {}


def _name(body: Object) -> str | None:
    metadata = body.get("metadata")
    return metadata.get("name") if isinstance(metadata, dict) else None


def _segments(namespace: str, name: object) -> None:
    segment(namespace, "namespace")
    segment(name, "name")
