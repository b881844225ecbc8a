"""One operator's connection to the API server, and what can be wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from kanarya.cluster.fake import Call, FakeApi
from kanarya.cluster.port import Conflict, Forbidden, Object, Resource, Subresource, Unavailable

if TYPE_CHECKING:
    from tests.world.operators import Operator

T = TypeVar("T")
READS = ("get", "list")
TIME_LIMIT = 10.0
"""Seconds after which a real client gives a call up."""


@dataclass(frozen=True)
class Weather:
    """What goes wrong with a share of the operators' calls.

    `kind`: `unavailable`, `timeout` (not carried out), `lost` (carried out, no answer), `late` (carried out when
    nobody waits for it any more), `conflict`, `forbidden`, `stale` (the answer is
    old when it comes), `slow`. `scope`: `all`, `reads`, `writes`, or the plural of a kind.
    """

    kind: str
    scope: str = "all"
    share: float = 1.0

    def hits(self, call: Call, random: Random) -> bool:
        is_read = call.verb in READS
        if self.scope not in ("all", "reads" if is_read else "writes", call.resource.plural):
            return False
        if (self.kind in ("lost", "late", "conflict") and is_read) or (self.kind == "stale" and not is_read):
            return False
        return random.random() < self.share


class Client:
    """One operator's connection to the API server: it takes time, and may fail in every way that real ones do."""

    def __init__(self, api: FakeApi, operator: Operator) -> None:
        self._api, self._operator = api, operator

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        return await self._do(Call("get", resource, namespace, name), lambda: self._api.get(resource, namespace, name))

    async def list(
        self, resource: Resource, namespace: str | None, *, labels: Mapping[str, str] | None = None, label_exists: str | None = None
    ) -> Sequence[Object]:
        call = Call("list", resource, namespace, None)
        return await self._do(call, lambda: self._api.list(resource, namespace, labels=labels, label_exists=label_exists))

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        call = Call("create", resource, namespace, body["metadata"]["name"], body)
        return await self._do(call, lambda: self._api.create(resource, namespace, body))

    async def replace(self, resource: Resource, namespace: str, body: Object) -> Object:
        call = Call("replace", resource, namespace, body["metadata"]["name"], body)
        return await self._do(call, lambda: self._api.replace(resource, namespace, body))

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, patch: Object, *, subresource: Subresource | None = None
    ) -> Object:
        call = Call("merge_patch", resource, namespace, name, patch, subresource)
        return await self._do(call, lambda: self._api.merge_patch(resource, namespace, name, patch, subresource=subresource))

    async def json_patch(self, resource: Resource, namespace: str, name: str, operations: Sequence[Object]) -> Object:
        call = Call("json_patch", resource, namespace, name, operations)
        return await self._do(call, lambda: self._api.json_patch(resource, namespace, name, operations))

    async def delete(self, resource: Resource, namespace: str, name: str) -> None:
        call = Call("delete", resource, namespace, name)
        return await self._do(call, lambda: self._api.delete(resource, namespace, name))

    def watch(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("the reconciler watches nothing: events come from the shell")

    async def close(self) -> None: ...

    async def _do(self, call: Call, do: Callable[[], Awaitable[T]]) -> T:
        operator = self._operator
        operator.between(f"before {call.verb} {call.resource.plural}")
        await asyncio.sleep(operator.random.uniform(0.0005, 0.006))
        operator.check()
        trouble = next((one.kind for one in operator.weather() if one.hits(call, operator.random)), "")
        if trouble:
            operator.exercised[f"api {trouble}"] += 1
        await self._fail(trouble)
        operator.check()
        operator.arrives(call)
        if trouble == "late":
            asyncio.get_running_loop().call_later(operator.random.uniform(0.5, 5.0), operator.carry_out_late, do)
            await asyncio.sleep(operator.random.choice((0.1, TIME_LIMIT)))
            raise Unavailable("given up before the server came to it")
        result = await do()
        if trouble == "lost":
            await asyncio.sleep(operator.random.choice((0.1, TIME_LIMIT)))
            raise Unavailable("the answer was lost")
        if trouble == "stale":
            await asyncio.sleep(operator.random.uniform(0.3, 4.0))
        operator.answered(call, result)
        operator.between(f"after {call.verb} {call.resource.plural}")
        return result

    async def _fail(self, trouble: str) -> None:
        if trouble == "unavailable":
            raise Unavailable("injected")
        if trouble == "timeout":
            await asyncio.sleep(TIME_LIMIT)
            raise Unavailable("no answer in time")
        if trouble == "conflict":
            raise Conflict("injected")
        if trouble == "forbidden":
            raise Forbidden("injected")
        if trouble == "slow":
            await asyncio.sleep(self._operator.random.uniform(0.2, 3.0))
