"""The port on a real API server, through the Kubernetes client's asynchronous REST layer.

Only its configuration and transport are used: bodies stay dicts, and its generated models are never loaded.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from kanarya.cluster.kube_config import NotConfigured, load_configuration
from kanarya.cluster.kube_errors import Gone, error_from, transport_failures
from kanarya.cluster.paths import check_body, collection_path, label_selector, object_path
from kanarya.cluster.port import Conflict, Invalid, NotFound, Object, Resource, Subresource, Unavailable, WatchEvent
from kanarya.cluster.watching import Lines, Listing, WatchTiming, watch_for_ever

PAGE_SIZE = 500
_MOST_PAGES = 2000
_LIST_ATTEMPTS = 3
_REPLACE_ATTEMPTS = 5


class KubernetesApi:
    """`KubeApi` on an API server. Make one with `connect`, give it up with `close`; it belongs to one event loop."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        timeout_seconds: float = 10.0,
        watch_timing: WatchTiming | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._configuration = configuration
        # Every call gets a connection at once: with a limit, a write of weight 0 would wait for those that others' reads hold.
        configuration.connection_pool_maxsize = 0
        self._rest = RESTClientObject(configuration)
        self._timeout_seconds = timeout_seconds
        self._watch_timing = watch_timing or WatchTiming()
        self._rng = rng or random.Random()  # noqa: S311 -- spreads load, guards nothing
        self._closed = asyncio.Event()
        self._streams: set[aiohttp.ClientResponse] = set()

    @classmethod
    async def connect(
        cls,
        *,
        kubeconfig: Path | None = None,
        context: str | None = None,
        timeout_seconds: float = 10.0,
        watch_timing: WatchTiming | None = None,
        rng: random.Random | None = None,
    ) -> Self:
        """Return a client for the cluster this pod runs in, or for the one a kubeconfig names.

        Nothing is sent yet. `timeout_seconds` limits each call, and each page of a list. Raises `NotConfigured`.
        """
        configuration = await load_configuration(kubeconfig, context)
        try:
            return cls(configuration, timeout_seconds=timeout_seconds, watch_timing=watch_timing, rng=rng)
        except OSError as error:
            raise NotConfigured(f"The cluster's certificates cannot be used: {error}") from error

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """See `KubeApi.get`."""
        try:
            return await self._call("GET", object_path(resource, namespace, name), _what("get", resource, namespace, name))
        except NotFound:
            return None

    async def list(
        self, resource: Resource, namespace: str | None, *, labels: Mapping[str, str] | None = None, label_exists: str | None = None
    ) -> Sequence[Object]:
        """See `KubeApi.list`."""
        selector = label_selector(labels, label_exists)
        return (await self.list_all(resource, namespace, {"labelSelector": selector} if selector else {})).items

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        """See `KubeApi.create`."""
        name = _metadata(body).get("name", "")
        what = _what("create", resource, namespace, name)
        if "resourceVersion" in _metadata(body):
            # The API server answers 500 to this, which would be tried again for ever.
            raise Invalid(f"{what}: metadata.resourceVersion must not be set on an object to be created")
        return await self._call("POST", collection_path(resource, namespace), what, body=_typed(resource, body))

    async def replace(self, resource: Resource, namespace: str, body: Object) -> Object:
        """See `KubeApi.replace`."""
        name = _metadata(body).get("name", "")
        path, what = object_path(resource, namespace, name), _what("replace", resource, namespace, name)
        body = _typed(resource, body)
        try:
            return await self._call("PUT", path, what, body=body)
        except Invalid as error:
            if "resourceVersion" in _metadata(body) or "metadata.resourceVersion" not in str(error):
                raise
        return await self._replace_unguarded(path, what, body)

    async def _replace_unguarded(self, path: str, what: str, body: Object) -> Object:
        """Replace a custom resource whatever its version: the API server insists on one, so ours is the latest."""
        for attempt in range(_REPLACE_ATTEMPTS):
            if attempt:
                await asyncio.sleep(0.01 * 2**attempt * self._rng.uniform(0.5, 1.0))
            current = await self._call("GET", path, what)
            version = current["metadata"]["resourceVersion"]
            guarded = {**body, "metadata": {**body["metadata"], "resourceVersion": version}}
            try:
                return await self._call("PUT", path, what, body=guarded)
            except Conflict:
                continue
        raise Unavailable(f"{what}: the object changed each of the {_REPLACE_ATTEMPTS} times it was written")

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, patch: Object, *, subresource: Subresource | None = None
    ) -> Object:
        """See `KubeApi.merge_patch`."""
        return await self._call(
            "PATCH",
            object_path(resource, namespace, name, subresource),
            _what("patch", resource, namespace, name, subresource),
            body=patch,
            content_type="application/merge-patch+json",
        )

    async def json_patch(self, resource: Resource, namespace: str, name: str, operations: Sequence[Object]) -> Object:
        """See `KubeApi.json_patch`."""
        return await self._call(
            "PATCH",
            object_path(resource, namespace, name),
            _what("patch", resource, namespace, name),
            body=list(operations),
            content_type="application/json-patch+json",
            has_test=any(operation.get("op") == "test" for operation in operations),
        )

    async def delete(self, resource: Resource, namespace: str, name: str) -> None:
        """See `KubeApi.delete`."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        path = object_path(resource, namespace, name)
        try:
            await self._call("DELETE", path, _what("delete", resource, namespace, name), body=options)
        except NotFound:
            return

    def watch(
        self, resource: Resource, namespace: str | None, *, labels: Mapping[str, str] | None = None, name: str | None = None
    ) -> AsyncGenerator[WatchEvent, None]:
        """See `KubeApi.watch`. It ends when the client is closed; close a watch left early with `contextlib.aclosing`."""
        query = {"labelSelector": label_selector(labels)} if labels else {}
        if name is not None:
            query["fieldSelector"] = f"metadata.name={name}"
        return watch_for_ever(_WatchedCollection(self, resource, namespace, query), self._watch_timing, self._rng)

    async def close(self) -> None:
        """See `KubeApi.close`. Calls after it raise `Unavailable`."""
        self._closed.set()
        # Closing the session alone leaves those who read from a TLS connection waiting.
        for response in list(self._streams):
            _drop(response)
        await self._rest.close()
        # One turn of the loop, in which dropped connections close their sockets.
        await asyncio.sleep(0)

    @property
    def closed(self) -> asyncio.Event:
        """Set when `close` was called."""
        return self._closed

    async def list_all(self, resource: Resource, namespace: str | None, query: Mapping[str, str]) -> Listing:
        """List page by page; from the start again when the API server forgets where we were. Raises `ApiError`."""
        what = _what("list", resource, namespace)
        for _ in range(_LIST_ATTEMPTS):
            try:
                return await self._list_pages(resource, namespace, query, what)
            except Gone:
                continue
        raise Unavailable(f"{what}: the list expired {_LIST_ATTEMPTS} times while it was read")

    async def _list_pages(self, resource: Resource, namespace: str | None, query: Mapping[str, str], what: str) -> Listing:
        items: list[Object] = []
        page: dict[str, str] = {**query, "limit": str(PAGE_SIZE)}
        for _ in range(_MOST_PAGES):
            answer = await self._call("GET", collection_path(resource, namespace), what, query=page)
            items += [{**item, "apiVersion": resource.api_version, "kind": resource.kind} for item in answer.get("items") or ()]
            metadata = answer.get("metadata") or {}
            if not metadata.get("continue"):
                return Listing(items, str(metadata.get("resourceVersion", "")))
            page["continue"] = metadata["continue"]
        raise Unavailable(f"{what}: more than {_MOST_PAGES} pages")

    async def _call(
        self,
        method: str,
        path: str,
        what: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        has_test: bool = False,
    ) -> Object:
        check_body(body, what)
        with transport_failures(what):
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._send(method, path, what, query=query, body=body, content_type=content_type)
                raw = await response.read()
        if not 200 <= response.status < 300:
            raise error_from(response.status, raw, what, has_test=has_test)
        with transport_failures(what):
            answer = json.loads(raw)
        if not isinstance(answer, dict):
            raise Unavailable(f"{what}: the answer is no object")
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        what: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> aiohttp.ClientResponse:
        if self._closed.is_set():
            raise Unavailable(f"{what}: the client is closed")
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": "kanarya"}
        # Asked for each call: this is where a service account's token is read again.
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token.strip()
        answer = await self._rest.request(
            method,
            f"{self._configuration.host}{path}{'?' + urlencode(query) if query else ''}",
            headers=headers,
            body=body,
            # The limits are ours; aiohttp's own default of five minutes would end a watch.
            _request_timeout=aiohttp.ClientTimeout(total=None),
        )
        response: aiohttp.ClientResponse = answer.response
        return response

    @asynccontextmanager
    async def open_stream(self, path: str, what: str, query: Mapping[str, str]) -> AsyncIterator[Lines]:
        """Open a watch; only the answer's first line is under the time limit. Raises `ApiError`."""
        response = None
        try:
            with transport_failures(what):
                async with asyncio.timeout(self._timeout_seconds):
                    response = await self._send("GET", path, what, query=query)
                    refusal = None if response.status == 200 else await response.read()
            if refusal is not None:
                raise error_from(response.status, refusal, what)
            self._streams.add(response)
            yield _ResponseLines(response, what)
        finally:
            # Not released to the pool: the rest of the stream would come with the next call's answer.
            if response is not None:
                self._streams.discard(response)
                _drop(response)


class _ResponseLines:
    def __init__(self, response: aiohttp.ClientResponse, what: str) -> None:
        self._content, self._what = response.content, what

    async def next(self) -> bytes:
        try:
            return await self._content.readline()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(f"{self._what}: the connection broke ({type(error).__name__})") from error


class _WatchedCollection:
    def __init__(self, api: KubernetesApi, resource: Resource, namespace: str | None, query: Mapping[str, str]) -> None:
        self._api, self._resource, self._namespace, self._query = api, resource, namespace, query
        self._path = collection_path(resource, namespace)
        self.name = f"{resource.plural} in {namespace or 'all namespaces'}"

    def is_closed(self) -> bool:
        return self._api.closed.is_set()

    async def pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._api.closed.wait()

    async def list(self) -> Listing:
        return await self._api.list_all(self._resource, self._namespace, self._query)

    def open(self, resource_version: str, seconds: int) -> Any:
        query = {
            **self._query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(seconds),
        }
        return self._api.open_stream(self._path, f"watch {self.name}", query)


def _drop(response: aiohttp.ClientResponse) -> None:
    """Cut the connection. A polite end of TLS waits for the other side, which may be what is dead."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


def _metadata(body: Object) -> Object:
    metadata = body.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _typed(resource: Resource, body: Object) -> Object:
    return {"apiVersion": resource.api_version, "kind": resource.kind, **body}


def _what(verb: str, resource: Resource, namespace: str | None, name: str = "", subresource: str | None = None) -> str:
    kind = f"{resource.plural}/{subresource}" if subresource else resource.plural
    return " ".join(filter(None, [verb, kind, "/".join(filter(None, [namespace, name]))]))
