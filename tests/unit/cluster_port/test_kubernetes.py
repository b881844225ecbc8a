"""What the adapter sends, and what it makes of the answers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kanarya.cluster.kubernetes import PAGE_SIZE, KubernetesApi
from kanarya.cluster.paths import MOST_BODY_BYTES
from kanarya.cluster.port import (
    CONFIGMAPS,
    DEPLOYMENTS,
    HTTPROUTES,
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Object,
    Unavailable,
)
from tests.unit.cluster_port.api_server import Answer, ApiServer, client, document, dropped, item, listing, raw, status

BODY: Object = {"metadata": {"name": "fraud"}}
TESTED = [{"op": "test", "path": "/a", "value": 1}]


async def test_paths_and_bodies(api: KubernetesApi, server: ApiServer) -> None:
    server.will(*[document({"metadata": {"name": "fraud"}})] * 7)

    await api.get(CONFIGMAPS, "shop", "fraud")
    await api.create(HTTPROUTES, "shop", BODY)
    await api.replace(DEPLOYMENTS, "shop", BODY)
    await api.merge_patch(DEPLOYMENTS, "shop", "fraud", {"spec": {"replicas": 2}}, subresource="scale")
    await api.merge_patch(HTTPROUTES, "shop", "fraud", {"status": {}}, subresource="status")
    await api.json_patch(HTTPROUTES, "shop", "fraud", TESTED)
    await api.delete(CONFIGMAPS, "shop", "fraud")

    routes = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes"
    assert [(request.method, request.path) for request in server.requests] == [
        ("GET", "/api/v1/namespaces/shop/configmaps/fraud"),
        ("POST", routes),
        ("PUT", "/apis/apps/v1/namespaces/shop/deployments/fraud"),
        ("PATCH", "/apis/apps/v1/namespaces/shop/deployments/fraud/scale"),
        ("PATCH", f"{routes}/fraud/status"),
        ("PATCH", f"{routes}/fraud"),
        ("DELETE", "/api/v1/namespaces/shop/configmaps/fraud"),
    ]
    assert server.bodies[1:6] == [
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", **BODY},
        {"apiVersion": "apps/v1", "kind": "Deployment", **BODY},
        {"spec": {"replicas": 2}},
        {"status": {}},
        TESTED,
    ]
    assert server.bodies[6]["propagationPolicy"] == "Background"
    types = [request.content_type for request in server.requests[3:6]]
    assert types == ["application/merge-patch+json", "application/merge-patch+json", "application/json-patch+json"]


async def test_a_write_does_not_wait_for_connections_that_reads_hold(api: KubernetesApi, server: ApiServer) -> None:
    hang, answer = server.silent(), document({})
    server.will(*[lambda request: hang(request) if request.method == "GET" else answer(request)] * 151)
    waiting = [asyncio.create_task(api.get(CONFIGMAPS, "shop", str(number))) for number in range(150)]
    try:
        async with asyncio.timeout(1.5):
            while len(server.requests) < 100:
                await asyncio.sleep(0.01)
            await api.merge_patch(HTTPROUTES, "shop", "fraud", {"spec": {}})
    finally:
        server.release()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_token_is_asked_for_each_call(api: KubernetesApi, server: ApiServer) -> None:
    server.will(document({}), document({}))
    await api.get(CONFIGMAPS, "shop", "fraud")

    async def rotated(configuration: Any) -> None:
        configuration.api_key["BearerToken"] = "Bearer second"

    api._configuration.refresh_api_key_hook = rotated
    await api.get(CONFIGMAPS, "shop", "fraud")

    assert [request.headers["Authorization"] for request in server.requests] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (status(400, "BadRequest", "why"), Invalid),
        (status(401, "Unauthorized", "why"), Forbidden),
        (status(403, "Forbidden", "why"), Forbidden),
        (status(404, "NotFound", "why"), NotFound),
        (status(405, "MethodNotAllowed", "why"), Invalid),
        (status(408, "", "why"), Unavailable),
        (status(409, "AlreadyExists", "why"), AlreadyExists),
        (status(409, "Conflict", "why"), Conflict),
        (status(413, "RequestEntityTooLarge", "why"), Invalid),
        (status(415, "UnsupportedMediaType", "why"), Invalid),
        (status(422, "Invalid", "why", {"name": "fraud", "causes": [{"field": "spec"}]}), Invalid),
        (status(429, "TooManyRequests", "why"), Unavailable),
        (status(500, "InternalError", "why"), Unavailable),
        (status(503, "ServiceUnavailable", "why"), Unavailable),
        (status(504, "Timeout", "why"), Unavailable),
    ],
)
async def test_each_status_is_an_error_that_says_why(api: KubernetesApi, server: ApiServer, answer: Answer, error: type[ApiError]) -> None:
    server.will(answer)

    with pytest.raises(error) as caught:
        await api.create(CONFIGMAPS, "shop", BODY)

    assert type(caught.value) is error
    assert str(caught.value) == "create configmaps shop/fraud: why"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (status(422, "Invalid", "the server rejected our request"), Conflict),
        (status(422, "Invalid", "is invalid", {"name": "fraud", "kind": "ConfigMap", "causes": [{"field": "data"}]}), Invalid),
        (status(409, "Conflict", "modified"), Conflict),
    ],
    ids=["test failed", "object refused", "changed meanwhile"],
)
async def test_json_patch_whose_test_fails(api: KubernetesApi, server: ApiServer, answer: Answer, error: type[ApiError]) -> None:
    server.will(answer)

    with pytest.raises(error):
        await api.json_patch(CONFIGMAPS, "shop", "fraud", TESTED)


async def test_patches_without_a_test_are_never_a_failed_test(api: KubernetesApi, server: ApiServer) -> None:
    server.will(*[status(422, "Invalid", "the server rejected our request")] * 2)

    with pytest.raises(Invalid):
        await api.json_patch(CONFIGMAPS, "shop", "fraud", [{"op": "remove", "path": "/a"}])
    with pytest.raises(Invalid):
        await api.merge_patch(CONFIGMAPS, "shop", "fraud", {"a": 1})


async def test_foreign_bodies_are_not_passed_on(api: KubernetesApi, server: ApiServer) -> None:
    server.will(raw(502, b"<html>secret of a proxy</html>"), raw(403, b'{"message": "secret"}'), status(400, "", "x" * 5000))

    for error in (Unavailable, Forbidden, Invalid):
        with pytest.raises(error) as caught:
            await api.create(CONFIGMAPS, "shop", BODY)
        assert "secret" not in str(caught.value)
        assert len(str(caught.value)) < 1100


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000], ids=["empty", "cut", "list", "bytes", "deep"])
async def test_answers_that_are_no_object(api: KubernetesApi, server: ApiServer, body: bytes) -> None:
    server.will(raw(200, body))

    with pytest.raises(Unavailable):
        await api.get(CONFIGMAPS, "shop", "fraud")


async def test_dropped_connection(api: KubernetesApi, server: ApiServer) -> None:
    server.will(dropped(), dropped())

    with pytest.raises(Unavailable):
        await api.create(CONFIGMAPS, "shop", BODY)


async def test_nobody_listens() -> None:
    api = client("http://127.0.0.1:9")

    with pytest.raises(Unavailable, match="could not be reached"):
        await api.get(CONFIGMAPS, "shop", "fraud")
    await api.close()


async def test_every_call_has_a_time_limit(url: str, server: ApiServer) -> None:
    server.will(*[server.silent()] * 3, server.hanging(b'{"metadata"'))
    api = client(url, timeout_seconds=0.05)

    for call in (
        api.get(CONFIGMAPS, "shop", "fraud"),
        api.list(CONFIGMAPS, "shop"),
        api.delete(CONFIGMAPS, "shop", "fraud"),
        api.get(CONFIGMAPS, "shop", "fraud"),
    ):
        with pytest.raises(Unavailable, match="in time"):
            await asyncio.wait_for(call, 1.0)
    await api.close()


async def test_credentials_that_cannot_be_read(api: KubernetesApi) -> None:
    async def gone(configuration: Any) -> None:
        raise FileNotFoundError("token")

    api._configuration.refresh_api_key_hook = gone

    with pytest.raises(Unavailable):
        await api.get(CONFIGMAPS, "shop", "fraud")


@pytest.mark.parametrize("body", [{"data": {"a": "x" * MOST_BODY_BYTES}}, {"data": {"a": math.nan}}], ids=["large", "not a number"])
async def test_bodies_that_are_not_sent(api: KubernetesApi, server: ApiServer, body: Object) -> None:
    with pytest.raises(Invalid):
        await api.create(CONFIGMAPS, "shop", {**BODY, **body})

    assert server.requests == []


async def test_list_follows_pages(api: KubernetesApi, server: ApiServer) -> None:
    server.will(listing(7, item("a", 1), item("b", 2), more="page two"), listing(7, item("c", 3)))

    found = await api.list(CONFIGMAPS, None, labels={"a": "b", "c": "d"}, label_exists="e")

    assert [body["metadata"]["name"] for body in found] == ["a", "b", "c"]
    assert all((body["apiVersion"], body["kind"]) == ("v1", "ConfigMap") for body in found)
    first, second = (dict(request.query) for request in server.requests)
    assert first == {"labelSelector": "a=b,c=d,e", "limit": str(PAGE_SIZE)}
    assert second == {**first, "continue": "page two"}
    assert server.requests[0].path == "/api/v1/configmaps"


async def test_list_begins_again_when_it_expires(api: KubernetesApi, server: ApiServer) -> None:
    server.will(listing(7, item("a", 1), more="x"), status(410, "Expired"), listing(8, item("a", 1), item("b", 8)))

    assert len(await api.list(CONFIGMAPS, "shop")) == 2


async def test_list_that_expires_for_ever_is_given_up(api: KubernetesApi, server: ApiServer) -> None:
    server.will(*[status(410, "Expired")] * 10)

    with pytest.raises(Unavailable):
        await api.list(CONFIGMAPS, "shop")
    assert len(server.requests) < 10


async def test_unguarded_replace_of_a_custom_resource(api: KubernetesApi, server: ApiServer) -> None:
    refusal = status(422, "Invalid", "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update")
    current, newer = document(item("fraud", 5)), document(item("fraud", 6))
    server.will(refusal, current, status(409, "Conflict"), newer, document(item("fraud", 7)))

    new = await api.replace(HTTPROUTES, "shop", BODY)

    assert new["metadata"]["resourceVersion"] == "7"
    assert [body["metadata"]["resourceVersion"] for body in server.bodies if body and "resourceVersion" in body["metadata"]] == ["5", "6"]
    assert "resourceVersion" not in BODY["metadata"]


async def test_unguarded_replace_is_given_up(api: KubernetesApi, server: ApiServer) -> None:
    refusal = status(422, "Invalid", "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update")
    server.will(refusal, *[document(item("fraud", 5)), status(409, "Conflict")] * 20)

    with pytest.raises(Unavailable):
        await api.replace(HTTPROUTES, "shop", BODY)


@pytest.mark.parametrize("name", ["", "..", "a/b"])
@pytest.mark.parametrize(
    "call",
    [
        lambda api, name: api.get(CONFIGMAPS, "shop", name),
        lambda api, name: api.delete(CONFIGMAPS, "shop", name),
        lambda api, name: api.delete(CONFIGMAPS, name, "fraud"),
        lambda api, name: api.replace(CONFIGMAPS, "shop", {"metadata": {"name": name}}),
    ],
)
async def test_nothing_is_sent_for_a_name_that_is_none(
    api: KubernetesApi, server: ApiServer, name: str, call: Callable[[KubernetesApi, str], Awaitable[object]]
) -> None:
    with pytest.raises(Invalid):
        await call(api, name)

    assert server.requests == []
