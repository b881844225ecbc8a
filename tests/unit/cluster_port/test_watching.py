"""A watch through everything that breaks it."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web

from kanarya.cluster.kubernetes import KubernetesApi
from kanarya.cluster.port import CONFIGMAPS, WatchEvent
from kanarya.cluster.watching import WatchTiming, _backoff, _server_seconds
from tests.unit.cluster_port.api_server import (
    ApiServer,
    bookmark,
    broken_stream,
    client,
    dropped,
    error_event,
    event,
    item,
    listing,
    raw,
    serving,
    status,
    stream,
)


async def take(api: KubernetesApi, count: int, **selection: Any) -> list[str]:
    """Return the next events, each as `TYPE name@version`."""
    events: Any = api.watch(CONFIGMAPS, "shop", **selection)
    async with aclosing(events), asyncio.timeout(5.0):
        return [_brief(await anext(events)) for _ in range(count)]


def _brief(event: WatchEvent) -> str:
    if event.type == "SYNCED":
        return "SYNCED"
    metadata = event.object["metadata"]
    return f"{event.type} {metadata['name']}@{metadata['resourceVersion']}"


def watches(server: ApiServer) -> list[str]:
    """Return the versions that streams were opened from."""
    return [request.query["resourceVersion"] for request in server.requests if "watch" in request.query]


async def test_list_then_watch(api: KubernetesApi, server: ApiServer) -> None:
    server.will(listing(10, item("a", 3)), server.hanging(event("MODIFIED", "a", 11), event("DELETED", "a", 12)))

    assert await take(api, 4, labels={"k": "v"}, name="a") == ["ADDED a@3", "SYNCED", "MODIFIED a@11", "DELETED a@12"]

    listed, watched = (dict(request.query) for request in server.requests)
    seconds = int(watched.pop("timeoutSeconds"))
    selection = {"labelSelector": "k=v", "fieldSelector": "metadata.name=a"}
    assert listed == {**selection, "limit": "500"}
    assert watched == {**selection, "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "10"}
    assert 240 <= seconds <= 360


async def test_a_stream_that_ends_goes_on_from_the_last_version(api: KubernetesApi, server: ApiServer) -> None:
    server.will(
        listing(10),
        stream(event("ADDED", "a", 11), bookmark(20)),
        stream(event("ADDED", "b", 21)),
        server.hanging(event("ADDED", "c", 22)),
    )

    assert await take(api, 4) == ["SYNCED", "ADDED a@11", "ADDED b@21", "ADDED c@22"]
    assert watches(server) == ["10", "20", "21"]


@pytest.mark.parametrize("how", ["status", "event"])
async def test_history_lost_is_listed_again(api: KubernetesApi, server: ApiServer, how: str) -> None:
    server.will(
        listing(10, item("kept", 1), item("changed", 2), item("vanished", 3), item("anew", 4, uid="first")),
        status(410, "Expired") if how == "status" else stream(error_event(410)),
        listing(50, item("kept", 1), item("changed", 40), item("anew", 41, uid="second"), item("new", 42)),
        server.hanging(event("MODIFIED", "new", 51)),
    )

    events = await take(api, 12)

    assert events[:5] == ["ADDED kept@1", "ADDED changed@2", "ADDED vanished@3", "ADDED anew@4", "SYNCED"]
    assert events[5:] == [
        "DELETED vanished@3",
        "DELETED anew@4",
        "MODIFIED changed@40",
        "ADDED anew@41",
        "ADDED new@42",
        "SYNCED",
        "MODIFIED new@51",
    ]
    assert watches(server) == ["10", "50"]


async def test_what_vanished_is_known_by_its_identity(api: KubernetesApi, server: ApiServer) -> None:
    gone = item("a", 3)
    gone["metadata"] |= {"labels": {"x": "y"}, "annotations": {"large": "thing"}}
    server.will(listing(10, gone), status(410), listing(20), server.hanging())

    async with aclosing(api.watch(CONFIGMAPS, "shop")) as events:
        deleted = [event async for _, event in _counted(events, 3)][-1]

    metadata = {"name": "a", "namespace": "shop", "uid": "uid-a", "resourceVersion": "3", "labels": {"x": "y"}}
    assert deleted == WatchEvent("DELETED", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


async def _counted(events: AsyncIterator[WatchEvent], count: int) -> AsyncIterator[tuple[int, WatchEvent]]:
    for number in range(count):
        yield number, await asyncio.wait_for(anext(events), 5.0)


async def test_live_events_count_when_it_is_listed_again(api: KubernetesApi, server: ApiServer) -> None:
    server.will(
        listing(10, item("a", 1)),
        stream(event("DELETED", "a", 11), event("ADDED", "b", 12), error_event(410)),
        listing(20),
        server.hanging(),
    )

    assert await take(api, 6) == ["ADDED a@1", "SYNCED", "DELETED a@11", "ADDED b@12", "DELETED b@12", "SYNCED"]


async def test_a_dropped_connection_goes_on_from_the_last_version(api: KubernetesApi, server: ApiServer) -> None:
    server.will(
        listing(10),
        broken_stream(event("ADDED", "a", 11)),
        dropped(),
        dropped(),
        server.hanging(event("MODIFIED", "a", 12)),
    )

    assert await take(api, 3) == ["SYNCED", "ADDED a@11", "MODIFIED a@12"]
    assert watches(server)[0] == "10"
    assert set(watches(server)[1:]) == {"11"}


async def test_silence_is_a_dead_connection(api: KubernetesApi, server: ApiServer) -> None:
    server.will(listing(10), server.hanging(event("ADDED", "a", 11)), server.hanging(event("MODIFIED", "a", 12)))

    assert await take(api, 3) == ["SYNCED", "ADDED a@11", "MODIFIED a@12"]
    assert watches(server) == ["10", "11"]


async def test_bookmarks_are_no_silence(url: str, server: ApiServer) -> None:
    async def ticking(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for version in range(11, 17):
            await asyncio.sleep(0.06)
            await response.write(json.dumps(bookmark(version)).encode() + b"\n")
        await response.write(json.dumps(event("ADDED", "a", 17)).encode() + b"\n")
        await asyncio.sleep(0.2)
        return response

    server.will(listing(10), ticking)
    api = client(url, timing=WatchTiming(quiet_seconds=0.15, first_backoff_seconds=0.005, longest_backoff_seconds=0.02))

    assert await take(api, 2) == ["SYNCED", "ADDED a@17"]
    assert watches(server) == ["10"]
    await api.close()


async def test_a_server_that_fails_and_recovers(api: KubernetesApi, server: ApiServer) -> None:
    server.will(
        *[status(500)] * 3,
        status(403, "Forbidden"),
        listing(10, item("a", 1)),
        *[status(503)] * 3,
        server.hanging(event("MODIFIED", "a", 11)),
    )

    assert await take(api, 3) == ["ADDED a@1", "SYNCED", "MODIFIED a@11"]
    assert watches(server) == ["10"] * 4


async def test_a_version_that_never_works_is_given_up(api: KubernetesApi, server: ApiServer) -> None:
    server.will(listing(10), *[status(400, "BadRequest")] * 5, listing(5, item("a", 4)), server.hanging(event("MODIFIED", "a", 6)))

    assert await take(api, 4) == ["SYNCED", "ADDED a@4", "SYNCED", "MODIFIED a@6"]
    assert watches(server) == ["10"] * 5 + ["5"]


@pytest.mark.parametrize(
    "line",
    [
        b"{not json\n",
        b"[]\n",
        b'{"type": "ADDED"}\n',
        b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": "99"}}}\n',
        b'{"type": "ERROR", "object": null}\n',
        b'{"type": "ERROR", "object": {"code": "many"}}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
    ],
)
async def test_a_line_that_is_no_event(api: KubernetesApi, server: ApiServer, line: bytes) -> None:
    server.will(listing(10), stream(event("ADDED", "a", 11), line), server.hanging(event("MODIFIED", "a", 12)))

    assert await take(api, 3) == ["SYNCED", "ADDED a@11", "MODIFIED a@12"]
    assert watches(server) == ["10", "11"]


async def test_a_list_that_is_no_list(api: KubernetesApi, server: ApiServer) -> None:
    server.will(raw(200, b"<html>"), listing(10), server.hanging())

    assert await take(api, 1) == ["SYNCED"]


async def test_streams_that_end_at_once_are_not_asked_in_a_tight_loop(url: str, server: ApiServer) -> None:
    server.will(listing(10), *[stream()] * 4000)
    api = client(url, timing=WatchTiming(first_backoff_seconds=0.05, longest_backoff_seconds=0.05))
    task = asyncio.create_task(take(api, 2))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert 2 <= len(watches(server)) <= 9
    await api.close()


async def test_an_api_server_that_is_away_at_first(server: ApiServer) -> None:
    async with serving(ApiServer()) as url:
        pass
    api = client(url)
    task = asyncio.create_task(take(api, 1))
    await asyncio.sleep(0.05)

    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await api.close()


@pytest.mark.parametrize("moment", ["reading", "between attempts"])
async def test_close_ends_it_soon(url: str, server: ApiServer, moment: str) -> None:
    server.will(listing(10), server.hanging() if moment == "reading" else dropped())
    api = client(url, timing=WatchTiming(first_backoff_seconds=60, longest_backoff_seconds=60))

    async def follow() -> list[str]:
        return [_brief(event) async for event in api.watch(CONFIGMAPS, "shop")]

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.1)
    await api.close()

    assert await asyncio.wait_for(task, 1.0) == ["SYNCED"]


async def test_a_watch_given_up_leaves_no_connection(api: KubernetesApi, server: ApiServer) -> None:
    server.will(listing(10), server.hanging(event("ADDED", "a", 11)))
    events: Any = api.watch(CONFIGMAPS, "shop")

    async with aclosing(events):
        assert [_brief(await anext(events)) for _ in range(2)] == ["SYNCED", "ADDED a@11"]
        assert len(api._streams) == 1

    assert api._streams == set()


async def test_failures_are_reported_when_they_last(api: KubernetesApi, server: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    server.will(*[status(403, "Forbidden", "no rights")] * 6, listing(10), server.hanging())

    with caplog.at_level(logging.WARNING):
        await take(api, 1)

    assert [record.getMessage() for record in caplog.records] == [
        "Watching configmaps in shop failed 3 times in a row: list configmaps shop: no rights"
    ]


def test_backoff_doubles_with_jitter_up_to_the_cap() -> None:
    timing, rng = WatchTiming(), random.Random(1)

    waits = [[_backoff(failures, timing, rng) for _ in range(200)] for failures in (1, 2, 3, 50, 5000)]

    for row, longest in zip(waits, (0.2, 0.4, 0.8, 10.0, 10.0), strict=True):
        assert longest / 2 <= min(row) < max(row) <= longest
        assert len(set(row)) > 100


def test_streams_do_not_all_end_together() -> None:
    rng = random.Random(1)

    seconds = {_server_seconds(WatchTiming(), rng) for _ in range(200)}

    assert min(seconds) >= 240
    assert max(seconds) <= 360
    assert len(seconds) > 50
