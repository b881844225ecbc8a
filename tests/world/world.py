"""The whole: one rollout, its cluster, its traffic, its operators, and the clocks."""

from __future__ import annotations

import asyncio
import copy
import json
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

import numpy as np

from kanarya.cluster import names
from kanarya.cluster.port import (
    CONFIGMAPS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    HTTPROUTES,
    PODS,
    REPLICASETS,
    ROLLOUTS,
    SERVICES,
    Object,
    Resource,
)
from tests.world.api import OpenApi
from tests.world.client import Weather
from tests.world.cluster import Controllers, Health, template_hash
from tests.world.operators import ACTOR, WATCHED, Operator
from tests.world.oracle import Oracle
from tests.world.prometheus import Prometheus
from tests.world.service import ANALYSIS, EPOCH, NAME, NAMESPACE, PLAN, SELECTOR, merged, template, weight_of
from tests.world.story import Story
from tests.world.traffic import Model, Traffic


class World:
    """Everything there is. The parts know each other through here."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.random = Random(f"{story.seed} world")
        self.exercised: Counter[str] = Counter()
        self.timeline: list[str] = []
        self.node_offset = 0.0
        """How far the clocks of the whole cluster are off."""
        self.operator_offset = 0.0
        """How far the operators' clock is off those."""
        self.latest_wall = float("-inf")
        """The latest time that the cluster's clocks had shown when they were set back."""
        self.weather: list[Weather] = []
        self.deaf = 0.0
        """Share of watch events that are lost."""
        self.event_delay = 0.05
        self.repeating = False
        """Watch events come twice."""
        self.operators: list[Operator] = []
        self.calm_at = 0.0
        """When the last fault of the story is over."""
        self.points_crashed: Counter[str] = Counter()
        self.sick: dict[str, Health] = {}
        """How pods are doing, by track, when a story says so."""
        self.restarts: Counter[str] = Counter()
        self.degraded: set[str] = set()
        """Versions that turned bad after their release."""
        self.wanted_abort = ""
        """The run that people have asked to abort in the end."""
        self.away = 0.0
        """Seconds until an operator that died is back."""
        self.ending = False
        self.desired = "v1"
        """The version that the target's template last asked for."""
        self.api = OpenApi(NAMESPACE, clock=lambda: datetime.fromtimestamp(self.wall(), UTC))
        self.controllers = Controllers(self.api, self._health)
        self.models = {f"model:{version}": model for version, model in story.models.items()}
        self.traffic = Traffic(
            self.api,
            NAME,
            random=np.random.default_rng(story.seed),
            now=self.now,
            wall=self.wall,
            rate=story.rate,
            models=self.models,
            routers=story.routers,
        )
        self.prometheus = Prometheus(
            self.traffic, namespace=NAMESPACE, scrape=story.scrape, random=Random(f"{story.seed} scrapes"), now=self.now, wall=self.wall
        )
        self.oracle = Oracle(self)
        self.traffic.served, self.traffic.unserved = self.oracle.serving.served, self.oracle.serving.unserved
        self.api.listeners += [self.oracle.changed, self._changed]
        self._born: dict[str, float] = {}
        self._stepping: asyncio.TimerHandle | None = None
        self._booted = 0
        self._checkpoint: tuple[Object | None, Object] = (None, {})

    # -- clocks -----------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return EPOCH + self.now() + self.node_offset

    def operator_clock(self) -> float:
        return self.wall() + self.operator_offset

    def tell(self, what: str) -> None:
        """Add a line to the story's timeline."""
        self.timeline.append(f"{self.now():7.2f}  {what:60.100}  {self.oracle.summary()}")

    # -- people -----------------------------------------------------------------------------------------------------------

    def install(self) -> None:
        self.create_target("v1")
        service = {"metadata": {"name": NAME}, "spec": {"selector": {"app": "router"}, "ports": [{"port": 80, "name": "http"}]}}
        self.api.put(SERVICES, service)
        self.create_rollout()
        self.spawn(self.prometheus.run())
        self.boot()

    def spec(self) -> Object:
        own = {
            "targetRef": {"name": NAME},
            "serviceRef": {"name": NAME},
            "plan": PLAN,
            "analysis": ANALYSIS,
            "scaleDownDelaySeconds": 10,
        }
        return merged(own, self.story.spec)

    def create_rollout(self) -> None:
        if self.api.peek(ROLLOUTS, NAME) is None:
            self.api.put(ROLLOUTS, {"metadata": {"name": NAME}, "spec": self.spec()})

    def create_target(self, version: str) -> None:
        self.desired = version
        if self.api.peek(DEPLOYMENTS, NAME) is None:
            body = {
                "metadata": {"name": NAME},
                "spec": {"selector": {"matchLabels": SELECTOR}, "replicas": 2, "template": template(version)},
            }
            self.api.put(DEPLOYMENTS, body)

    def release(self, version: str) -> None:
        self.desired = version
        self.edit(DEPLOYMENTS, NAME, lambda body: body["spec"].update(template=template(version)))

    def annotate(self, key: str, value: str) -> None:
        self.edit(ROLLOUTS, NAME, lambda body: body["metadata"].setdefault("annotations", {}).update({key: value}))

    def edit(self, resource: Resource, name: str, change: Callable[[Object], object]) -> bool:
        """Have somebody change an object; False when there is none."""
        body = self.api.peek(resource, name)
        if body is None:
            return False
        new = copy.deepcopy(body)
        change(new)
        self.api.put(resource, new)
        return True

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a part of the world; its error is the world's end."""
        loop = asyncio.get_running_loop()

        def ended(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                loop.call_exception_handler({"message": "a part of the world broke", "exception": error})

        task = loop.create_task(work)
        task.add_done_callback(ended)
        return task

    # -- operators --------------------------------------------------------------------------------------------------------

    def boot(self) -> Operator:
        """Start an operator's process."""
        self._booted += 1
        operator = Operator(
            f"operator-{self._booted}",
            self.api,
            self.prometheus,
            self.oracle,
            clock=self.operator_clock,
            server_clock=self.wall,
            random=Random(f"{self.story.seed} operator {self._booted}"),
            weather=lambda: self.weather,
            exercised=self.exercised,
            died=self._died,
        )
        self.operators.append(operator)
        self.oracle.booted(operator)
        for resource in WATCHED:
            for body in self.api.all(resource):
                self._notify(operator, resource, "ADDED", body)
        return operator

    def _died(self, operator: Operator, where: str) -> None:
        self.operators.remove(operator)
        self.points_crashed[where] += 1
        self.tell(f"{operator.name} dies {where}")
        if not self.ending:
            self.oracle.touch("api", lasting=self.away)
            self._later(self.away, self._revive)

    def _revive(self) -> None:
        if not self.operators and not self.ending:
            self.tell("an operator starts")
            self.boot()

    def _notify(self, operator: Operator, resource: Resource, kind: str, body: Object) -> None:
        if self.deaf and self.random.random() < self.deaf:
            self.exercised["event lost"] += 1
            return
        for _ in range(2 if self.repeating else 1):
            delay = self.random.uniform(0.0, self.event_delay)
            asyncio.get_running_loop().call_later(delay, operator.notify, resource, kind, body)

    # -- the cluster ------------------------------------------------------------------------------------------------------

    def _changed(self, resource: Resource, old: Object | None, new: Object | None) -> None:
        body = new or old
        assert body is not None
        if resource in WATCHED:
            kind = "ADDED" if old is None else "DELETED" if new is None else "MODIFIED"
            for operator in self.operators:
                self._notify(operator, resource, kind, body)
        if resource in (DEPLOYMENTS, SERVICES, PODS, REPLICASETS):
            self.step_soon()
        elif resource == ENDPOINTSLICES:
            self._later(0.0, self.traffic.notice_endpoints)
        elif (resource == HTTPROUTES and not _only_status(old, new)) or (
            resource == CONFIGMAPS and body["metadata"]["name"] == names.settings(NAME)
        ):
            for router in self.traffic.routers:
                self._later(self.random.uniform(0.02, 0.9), partial(self.traffic.follow, router))
        if resource == PODS and old is None and new is not None:
            name = new["metadata"]["name"]
            self._born[name] = self.now()
            self._later(self._startup(new) + 0.01, self.step_soon)

    def _later(self, seconds: float, do: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_later(seconds, do)

    def step_soon(self) -> None:
        """Let the cluster's controllers act a moment from now."""
        if self._stepping is None:
            self._stepping = asyncio.get_running_loop().call_later(self.random.uniform(0.02, 0.2), self._step)

    def _step(self) -> None:
        self._stepping = None
        token = ACTOR.set("cluster")
        self.controllers.step()
        ACTOR.reset(token)

    def _model(self, pod: Object) -> Model:
        return self.models.get(pod["spec"]["containers"][0]["image"], Model())

    def _startup(self, pod: Object) -> float:
        return self._model(pod).startup

    def _health(self, pod: Object) -> Health:
        name, labels = pod["metadata"]["name"], pod["metadata"]["labels"]
        track = "stable" if names.TRACK in labels else "candidate"
        model, restarts = self._model(pod), self.restarts[name]
        sick = self.sick.get(track)
        if model.pods == "crash" and self.now() - self._born[name] > model.startup:
            return Health(ready=False, restarts=restarts + 3, waiting="CrashLoopBackOff")
        up = self.now() - self._born.get(name, 0.0) >= model.startup and model.pods == "well"
        if sick is not None:
            return Health(ready=up and sick.ready, restarts=restarts + sick.restarts, waiting=sick.waiting)
        return Health(ready=up, restarts=restarts)

    # -- what can be seen -------------------------------------------------------------------------------------------------

    def revision(self, version: str) -> str:
        return template_hash(template(version))

    def weight(self) -> int | None:
        """Give the candidate's weight on the route; None without a route of ours."""
        route = self.api.peek(HTTPROUTES, NAME)
        if route is None:
            return None
        return weight_of(route)

    def stable_is_sound(self) -> bool:
        """Whether the model that the checkpoint calls stable fails nobody."""
        stable = (self.checkpoint().get("stable") or {}).get("version")
        return self.models.get(f"model:{stable}", Model()).is_sound

    def checkpoint(self) -> Object:
        """Give the checkpoint's document, empty when there is none that can be read. It may not be changed."""
        body = self.api.peek(CONFIGMAPS, names.checkpoint(NAME))
        if self._checkpoint[0] is not body:
            try:
                document = json.loads((body or {})["data"]["checkpoint.json"])
            except (KeyError, TypeError, ValueError):
                document = {}
            self._checkpoint = body, document if isinstance(document, dict) else {}
        return self._checkpoint[1]

    def status(self) -> Object:
        rollout = self.api.peek(ROLLOUTS, NAME)
        return {} if rollout is None else rollout.get("status", {})


def _only_status(old: Object | None, new: Object | None) -> bool:
    """Whether nothing changed that a router follows: the spec, or the labels by which it finds the route."""
    if old is None or new is None:
        return False
    return all(old["metadata"].get(key) == new["metadata"].get(key) for key in ("generation", "labels"))
