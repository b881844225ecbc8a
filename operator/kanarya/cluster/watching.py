"""A watch that does not end: list, watch, renew, list again when history is lost."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from kanarya.cluster.kube_errors import Gone, error_from_status
from kanarya.cluster.port import ApiError, Object, Unavailable, WatchEvent

logger = logging.getLogger(__name__)

_STREAMS_BEFORE_LIST = 5
"""Streams that failed in a row, after which the resourceVersion they were opened from is no longer trusted."""

_SHORTEST_STREAM_SECONDS = 1.0
"""A stream that ends sooner without a word is a failure: else a broken proxy would be asked in a tight loop."""


@dataclass(frozen=True)
class WatchTiming:
    """Times of a watch, in seconds."""

    server_seconds: float = 300.0
    """After this, ± 20 %, the API server ends a stream and we open the next."""
    quiet_seconds: float = 90.0
    """A stream without a line for so long is taken for dead: the API server sends a bookmark about every minute."""
    first_backoff_seconds: float = 0.2
    longest_backoff_seconds: float = 10.0


@dataclass(frozen=True)
class Listing:
    """All objects of a list, and the version of the collection from which to watch on."""

    items: Sequence[Object]
    resource_version: str


class Lines(Protocol):
    """An open stream of watch events, one JSON document a line."""

    async def next(self) -> bytes:
        """Return the next line; empty at the end. Raises `Unavailable` when the connection breaks."""
        ...


class WatchSource(Protocol):
    """What a watch needs of the API server."""

    name: str
    """For the log."""

    def is_closed(self) -> bool:
        """Tell whether the client was closed, which ends the watch."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until the client is closed."""
        ...

    async def list(self) -> Listing:
        """List everything. Raises `ApiError`."""
        ...

    def open(self, resource_version: str, seconds: int) -> AbstractAsyncContextManager[Lines]:
        """Open a stream that the API server ends after `seconds`. Raises `ApiError`, `Gone` among them."""
        ...


@dataclass
class _Seen:
    """What was handed over: identity only, so that memory does not grow with the size of the objects."""

    objects: dict[tuple[str, str], Object] = field(default_factory=dict)

    def relist(self, items: Sequence[Object]) -> Iterator[WatchEvent]:
        """Yield what changed between what was seen and a new list; an object made anew under its name is deleted, then added."""
        listed = {_key(item): item for item in items}
        for key, known in list(self.objects.items()):
            if key not in listed or listed[key]["metadata"].get("uid") != known["metadata"].get("uid"):
                del self.objects[key]
                yield WatchEvent("DELETED", known)
        for key, item in listed.items():
            known_item = self.objects.get(key)
            if known_item is None:
                self.objects[key] = _identity(item)
                yield WatchEvent("ADDED", item)
            elif _version(known_item) != _version(item):
                self.objects[key] = _identity(item)
                yield WatchEvent("MODIFIED", item)

    def live(self, event: WatchEvent) -> None:
        if event.type == "DELETED":
            self.objects.pop(_key(event.object), None)
        else:
            self.objects[_key(event.object)] = _identity(event.object)


class _Garbled(Unavailable):
    """A line that is no watch event."""


async def watch_for_ever(source: WatchSource, timing: WatchTiming, rng: random.Random) -> AsyncGenerator[WatchEvent, None]:
    """Yield events until the client is closed; see `KubeApi.watch`.

    The `DELETED` of an object that vanished while nobody watched carries `apiVersion`, `kind` and, of its metadata, only name,
    namespace, uid, resourceVersion and labels.
    """
    seen = _Seen()
    version: str | None = None
    failures = 0  # in a row, of lists and streams: how long to wait
    streams_failed = 0  # since the last list
    while not source.is_closed():
        if failures:
            await source.pause(_backoff(failures, timing, rng))
            if source.is_closed():
                return
        try:
            if version is None or streams_failed >= _STREAMS_BEFORE_LIST:
                listing = await source.list()
                for event in seen.relist(listing.items):
                    yield event
                version = listing.resource_version
                streams_failed = 0
                yield WatchEvent("SYNCED", {})
            streams_failed += 1
            began = asyncio.get_running_loop().time()
            told = False
            async with source.open(version, _server_seconds(timing, rng)) as lines:
                while line := await _next_line(lines, timing):
                    event_or_bookmark, version = _parse(line, version, source.name)
                    told, failures, streams_failed = True, 0, 0
                    if event_or_bookmark is not None:
                        seen.live(event_or_bookmark)
                        yield event_or_bookmark
            brief = asyncio.get_running_loop().time() - began < min(_SHORTEST_STREAM_SECONDS, timing.quiet_seconds)
            failures = failures + 1 if brief and not told else 0
            streams_failed = 0
        except Gone:
            version = None
            failures += 1
        except ApiError as error:
            failures += 1
            _report(source, failures, error)


async def _next_line(lines: Lines, timing: WatchTiming) -> bytes:
    try:
        async with asyncio.timeout(timing.quiet_seconds):
            return await lines.next()
    except TimeoutError:
        # Not an error: a kind that nobody ever used has no bookmarks. The next stream goes on from the same version.
        return b""


def _parse(line: bytes, version: str, name: str) -> tuple[WatchEvent | None, str]:
    """Read a line; return the event (None for a bookmark) and the version to go on from. Raises `ApiError`, `Gone` among them."""
    try:
        document: dict[str, Any] = json.loads(line)
        kind, body = document["type"], document["object"]
        if kind == "ERROR":
            raise error_from_status(int(body.get("code") or 500), body, f"watch {name}")
        version = body["metadata"]["resourceVersion"]
        if kind in {"ADDED", "MODIFIED", "DELETED"}:
            _key(body)
            return WatchEvent(kind, body), version
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _Garbled(f"watch {name}: a line was no watch event ({type(error).__name__})") from error
    return None, version


def _backoff(failures: int, timing: WatchTiming, rng: random.Random) -> float:
    """Double with each failure up to the cap, and take half to all of it by chance."""
    longest = min(timing.longest_backoff_seconds, timing.first_backoff_seconds * 2.0 ** min(failures - 1, 20))
    return longest * rng.uniform(0.5, 1.0)


def _server_seconds(timing: WatchTiming, rng: random.Random) -> int:
    return max(1, round(timing.server_seconds * rng.uniform(0.8, 1.2)))


def _report(source: WatchSource, failures: int, error: ApiError) -> None:
    """Warn once when it stops looking like chance, then about every five minutes at the longest backoff."""
    level = logging.WARNING if failures == 3 or failures % 40 == 0 else logging.DEBUG
    logger.log(level, "Watching %s failed %d times in a row: %s", source.name, failures, error)


def _key(item: Object) -> tuple[str, str]:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _version(item: Object) -> object:
    return item["metadata"].get("resourceVersion")


def _identity(item: Object) -> Object:
    kept = ("name", "namespace", "uid", "resourceVersion", "labels")
    metadata = {key: item["metadata"][key] for key in kept if key in item["metadata"]}
    return {"apiVersion": item.get("apiVersion"), "kind": item.get("kind"), "metadata": metadata}
