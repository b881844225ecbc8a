"""Operator processes: the real reconciler, queue, collector and shell handlers, and ways for them to die."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import Any, NoReturn, Protocol

import kopf

from kanarya.cluster.fake import Call, FakeApi
from kanarya.cluster.port import (
    DEPLOYMENTS,
    HTTPROUTES,
    ROLLOUTS,
    SERVICES,
    ApiError,
    Object,
    Resource,
)
from kanarya.controller import shell
from kanarya.controller.config import OperatorConfig
from kanarya.controller.metrics import Metrics
from kanarya.controller.queue import Key, Queue
from kanarya.controller.reconcile import Reconciler
from kanarya.decision.state import Stage
from kanarya.telemetry.collector import Collector
from tests.world.client import Client, Weather
from tests.world.prometheus import Connection, Prometheus, Read

ACTOR: ContextVar[str] = ContextVar("actor", default="world")
"""Who is acting: the name of an operator, or the world."""
LATE = "late call"
"""Actor of a write that the server carries out after its operator has given it up."""
PASS: ContextVar[Pass | None] = ContextVar("pass", default=None)
"""The pass that a call belongs to, though it may have ended; None for what calls beside it."""
WATCHED = (ROLLOUTS, DEPLOYMENTS, HTTPROUTES, SERVICES)
"""Kinds whose events may reach an operator; its own handlers choose among them."""


class Crash(BaseException):
    """The process ends here: not an `Exception`, so nothing may catch it."""


@dataclass(eq=False)
class Pass:
    """One pass of an operator over the rollout, as the world saw it."""

    operator: str
    booted: float
    began: float
    rolling_back: bool
    """The operator knew at its beginning of a rollback that is not finished."""
    run: str = ""
    """The run that the operator knew of at its beginning; empty when it knew of none."""
    calls: list[Call] = field(default_factory=list)
    route_version: str = ""
    """Version of the route as this pass read it last."""


class Watcher(Protocol):
    """Who is told of what operators do."""

    def pass_began(self, one: Pass) -> None: ...
    def call_arrives(self, one: Pass | None, call: Call) -> None: ...
    def pass_ended(self, one: Pass, error: Exception | None) -> None: ...


class Operator:
    """One process. `weather` gives what is wrong with the API just now; `exercised` counts what really happened to it."""

    def __init__(
        self,
        name: str,
        api: FakeApi,
        prometheus: Prometheus,
        watcher: Watcher,
        *,
        clock: Callable[[], float],
        server_clock: Callable[[], float],
        random: Random,
        weather: Callable[[], Sequence[Weather]],
        exercised: Counter[str],
        died: Callable[[Operator, str], None],
    ) -> None:
        self.name, self.random, self.weather, self.exercised = name, random, weather, exercised
        self.booted = asyncio.get_running_loop().time()
        self.dead = False
        self.current: Pass | None = None
        self.last_read: Read | None = None
        self.crash_at = ""
        """Fault point at which it dies, when it comes there."""
        self.crash_in: int | None = None
        """It dies after so many more calls, before or after one."""
        self._watcher, self._died = watcher, died
        self._late: set[asyncio.Task[None]] = set()
        client = Client(api, self)
        connection = Connection(
            prometheus, clock=clock, server_clock=server_clock, random=random, between=self.between, told=self._has_read
        )
        self.reconciler = Reconciler(
            client,
            {"default": Collector(connection, clock)},
            clock=clock,
            steady=asyncio.get_running_loop().time,
            metrics=_QuietMetrics(),
            version="0.0.0",
            instance=name,
            at=self._at,
        )
        self.queue = Queue(self._handle, random, urgent=shell.has_run(self.reconciler.memory))
        self._targets = shell.Targets()
        registry = kopf.OperatorRegistry()
        shell.wake_on_events(registry, self.queue, self._targets)
        self._handlers: Any = registry._watching.get_all_handlers()
        self._resync = asyncio.create_task(self._keep_resyncing(client), name=f"resync of {name}")

    async def _keep_resyncing(self, client: Client) -> None:
        ACTOR.set(self.name)
        await shell.resync(client, _OPTIONS, self.queue, self._targets, [0.0], random=self.random)

    async def _handle(self, key: Key) -> float | None:
        ACTOR.set(self.name)
        memory = self.reconciler.memory(key)
        run = memory.state.run if memory is not None and memory.state is not None else None
        began, back = asyncio.get_running_loop().time(), run is not None and run.stage is Stage.ROLLING_BACK
        one = Pass(self.name, self.booted, began, back, "" if run is None else run.id)
        self.current = one
        belonging = PASS.set(one)
        self._watcher.pass_began(one)
        try:
            again = await self.reconciler.reconcile(key)
        except Exception as error:
            self._watcher.pass_ended(one, error)
            raise
        finally:
            self.current = None
            PASS.reset(belonging)
        self._watcher.pass_ended(one, None)
        return again

    # -- what it sees -----------------------------------------------------------------------------------------------------

    def notify(self, resource: Resource, kind: str, body: Object) -> None:
        """Hand over a watch event, as kopf does."""
        if self.dead:
            return
        for handler in self._handlers:
            if handler.selector is not None and handler.selector.any_name == resource.plural:
                known: Any = body
                _finish(handler.fn(body=kopf.Body(known), event={"type": kind}))

    def _has_read(self, read: Read) -> None:
        self.last_read = read

    def arrives(self, call: Call) -> None:
        """A call has come to the API server, and is about to be carried out."""
        one = PASS.get()
        if one is not None:
            one.calls.append(call)
        self._watcher.call_arrives(one, call)

    def answered(self, call: Call, result: Any) -> None:
        one = PASS.get()
        if one is not None and call.resource == HTTPROUTES and call.verb == "get" and result is not None:
            one.route_version = result["metadata"]["resourceVersion"]

    def carry_out_late(self, do: Callable[[], Awaitable[Any]]) -> None:
        """Let the server come to a call that its client has given up."""

        async def now() -> None:
            ACTOR.set(LATE)
            with suppress(ApiError):
                await do()

        task = asyncio.get_running_loop().create_task(now())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    # -- how it dies ------------------------------------------------------------------------------------------------------

    async def _at(self, point: str) -> None:
        self.check()
        if point == self.crash_at:
            self.crash(f"at {point}")

    def between(self, what: str) -> None:
        """Pass a moment at which the process may die."""
        self.check()
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in <= 0:
                self.crash(what)

    def check(self) -> None:
        if self.dead:
            raise Crash(self.name)

    def crash(self, where: str) -> NoReturn:
        self.kill(where)
        raise Crash(where)

    def kill(self, where: str) -> None:
        """End the process, wherever it is."""
        if not self.dead:
            self.dead = True
            self._died(self, where)
            asyncio.get_running_loop().call_soon(self._bury)

    def _bury(self) -> None:
        for task in [self._resync, *(slot.task for slot in self.queue._slots.values() if slot.task is not None)]:
            task.cancel()
            task.add_done_callback(lambda task: task.cancelled() or task.exception())


def _finish(handling: Coroutine[Any, Any, None]) -> None:
    """Run a handler that waits for nothing."""
    try:
        handling.send(None)
    except StopIteration:
        return
    raise AssertionError("an event handler waits for something")


class _QuietMetrics(Metrics):
    """Metrics without the labels of every verdict, which take longer than the decision."""

    def show(self, *_: Any) -> None: ...


_OPTIONS = shell.Options(OperatorConfig(sources={}), "0.0.0")
