"""What can happen in a story, and how everything heals.

Each happening is a method: its name and arguments are what an `Event` says. What somebody else than the operator lays hands on is
noted with the oracle, which then expects repair instead of perfection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from kanarya.cluster import names
from kanarya.cluster.port import CONFIGMAPS, DEPLOYMENTS, HTTPROUTES, PODS, ROLLOUTS, SERVICES, Object
from tests.world.client import Weather
from tests.world.cluster import Health
from tests.world.foreign import ForeignHands
from tests.world.prometheus import Trouble
from tests.world.router import Track
from tests.world.service import NAME, template
from tests.world.story import Event
from tests.world.traffic import Model
from tests.world.world import World

FATE_SECONDS = 12.0
"""So long an operator has to come to the point at which it dies."""


def happen(world: World, event: Event) -> None:
    """Let an event of the story happen."""
    world.tell(str(event))
    kind = next((str(value) for key, value in event.arguments.items() if key in ("kind", "what", "track", "whose")), "")
    world.exercised[f"{event.what} {kind}".strip()] += 1
    getattr(Happenings(world), event.what)(**event.arguments)


def heal(world: World) -> None:
    """End every fault. What was broken is left for the operator to repair."""
    world.tell("all is well from here on")
    for operator in world.operators:
        operator.crash_at, operator.crash_in = "", None
    while len(world.operators) > 1:
        world.operators[0].kill("as one too many")
    world.away = 0.0
    if not world.operators:
        world.boot()
    world.weather.clear()
    world.deaf, world.event_delay, world.repeating = 0.0, 0.05, False
    world.traffic.rate = world.story.rate
    prometheus = world.prometheus
    prometheus.trouble, prometheus.blind, prometheus.spoiling, prometheus.doubling, prometheus.late = "", False, False, False, 0.0
    prometheus.down = False
    world.operator_offset = 0.0
    world.node_offset = max(world.node_offset, 0.0)  # Prometheus takes no sample that is older than its last
    world.sick.clear()
    world.create_rollout()
    world.create_target(world.desired)
    world.edit(ROLLOUTS, NAME, lambda body: body.update(spec=world.spec()))
    if world.api.peek(DEPLOYMENTS, NAME)["spec"]["template"] != template(world.desired):  # type: ignore[index]
        world.release(world.desired)
    world.step_soon()


def label_all(world: World) -> None:
    """Do what the refusal of a name that is taken asks for, where the object is from this rollout."""
    services = [(SERVICES, names.stable_service(NAME)), (SERVICES, names.candidate_service(NAME))]
    for resource, name in [(HTTPROUTES, NAME), *services, (CONFIGMAPS, names.settings(NAME))]:
        world.edit(resource, name, lambda body: body["metadata"].setdefault("labels", {}).update(names.labels(NAME)))


class Happenings(ForeignHands):
    """One method for each."""

    def _for(self, seconds: float, undo: Callable[[], object], *touched: str) -> None:
        """Undo after some seconds; until then, and for a while after, things are not as they should be."""
        world = self._world
        world.calm_at = max(world.calm_at, world.now() + seconds)
        self._oracle.touch(*touched, lasting=seconds)

        def over() -> None:
            undo()
            world.tell("over: what lasted some seconds")

        asyncio.get_running_loop().call_later(seconds, over)

    # -- people -----------------------------------------------------------------------------------------------------------

    def release(self, version: str) -> None:
        self._world.release(version)

    def back(self) -> None:
        """The template goes back to what stable is."""
        stable = (self._world.checkpoint().get("stable") or {}).get("version")
        if stable:
            self._world.release(stable)

    def abort(self) -> None:
        run = self._world.checkpoint().get("run")
        if run:
            self._oracle.touch("abort")
            self._world.annotate(names.ABORT, run["id"])

    def retry(self) -> None:
        self._world.annotate(names.RETRY, self._world.checkpoint().get("lastRun") or "none")

    def pause(self, seconds: float) -> None:
        self._edit_spec(paused=True)
        self._oracle.touch("pause")
        self._for(seconds, lambda: self._edit_spec(paused=False))

    def edit(self, spec: Object, seconds: float) -> None:
        """Somebody changes parts of the spec, and changes them back later."""
        self._edit_spec(**spec)
        self._oracle.touch("mode")
        self._for(seconds, lambda: self._world.edit(ROLLOUTS, NAME, lambda body: body.update(spec=self._world.spec())))

    def _edit_spec(self, **changes: Any) -> None:
        self._world.edit(ROLLOUTS, NAME, lambda body: body["spec"].update(changes))

    def delete_rollout(self, seconds: float) -> None:
        self._world.api.drop(ROLLOUTS, NAME)
        self._oracle.touch("rollout")
        self._for(seconds, self._world.create_rollout)

    def delete_target(self, seconds: float) -> None:
        self._world.api.drop(DEPLOYMENTS, NAME)
        self._for(seconds, lambda: self._world.create_target(self._world.desired))

    def scale_target(self, replicas: int) -> None:
        self._world.edit(DEPLOYMENTS, NAME, lambda body: body["spec"].update(replicas=replicas))

    def unusable_target(self, seconds: float) -> None:
        """A template from which no Service can be made: two ports, none of them named."""
        body = template("odd")
        body["spec"]["containers"][0]["ports"] = [{"containerPort": 1}, {"containerPort": 2}]
        self._world.edit(DEPLOYMENTS, NAME, lambda target: target["spec"].update(template=body))
        self._for(seconds, lambda: self._world.release(self._world.desired))

    # -- the API server ---------------------------------------------------------------------------------------------------

    def api(self, kind: str, scope: str, share: float, seconds: float) -> None:
        weather = Weather(kind, scope, share)
        self._world.weather.append(weather)
        self._for(seconds, lambda: self._clear_up(weather), "api")

    def _clear_up(self, weather: Weather) -> None:
        if weather in self._world.weather:
            self._world.weather.remove(weather)

    def deaf(self, share: float, delay: float, seconds: float) -> None:
        """Watch events get lost, or come late."""
        self._world.deaf, self._world.event_delay = share, delay
        self._for(seconds, self._hear, "api", "events")

    def _hear(self) -> None:
        self._world.deaf, self._world.event_delay = 0.0, 0.05

    def repeat(self, seconds: float) -> None:
        self._world.repeating = True
        self._for(seconds, lambda: setattr(self._world, "repeating", False))

    # -- operators --------------------------------------------------------------------------------------------------------

    def crash(self, away: float, point: str = "", calls: int = 0) -> None:
        """The operator dies when it comes to a point, or after some calls; it is back after a while."""
        self._world.away = away
        for operator in self._world.operators[:1]:
            operator.crash_at = point
            operator.crash_in = calls or None
        self._for(away + FATE_SECONDS, lambda: None)

    def second(self, seconds: float, oldest_goes: bool) -> None:
        """Another operator runs at the same time; one of the two goes in the end."""
        self._world.boot()

        def one_goes() -> None:
            if len(self._world.operators) > 1:
                self._world.operators[0 if oldest_goes else -1].kill("as one too many")

        self._for(seconds, one_goes)

    def jump(self, by: float, whose: str) -> None:
        """Clocks are set: those of the whole cluster, or the operator's alone."""
        if whose == "all":
            if by < 0:
                self._world.latest_wall = max(self._world.latest_wall, self._world.wall())
                self._oracle.touch("clocks back")
            self._world.node_offset += by
        else:
            self._world.operator_offset += by
        self._oracle.touch("clock")
        # Prometheus shows nothing that can be trusted until a clock that was set back has caught up.
        self._world.calm_at = max(self._world.calm_at, self._world.now() + max(20.0, 20.0 - by))

    # -- Prometheus -------------------------------------------------------------------------------------------------------

    def trouble(self, kind: Trouble, seconds: float) -> None:
        self._world.prometheus.trouble = kind
        self._for(seconds, lambda: setattr(self._world.prometheus, "trouble", ""))

    def outage(self, seconds: float, forget: bool) -> None:
        """Prometheus is away, scrapes nothing, and may come back with an empty store."""
        prometheus = self._world.prometheus
        prometheus.down = True

        def back() -> None:
            prometheus.down = False
            if forget:
                prometheus.forget()

        self._for(seconds, back, "scrapes")

    def scrapes(self, kind: Literal["blind", "spoiling", "doubling"], seconds: float) -> None:
        setattr(self._world.prometheus, kind, True)
        self._for(seconds, lambda: setattr(self._world.prometheus, kind, False), "scrapes")

    def late(self, by: float, seconds: float) -> None:
        self._world.prometheus.late = by
        self._for(seconds, lambda: setattr(self._world.prometheus, "late", 0.0), "scrapes")

    def restart_router(self, index: int) -> None:
        self._oracle.touch("scrapes")
        self._world.traffic.restart_router(index)

    # -- pods and requests ------------------------------------------------------------------------------------------------

    def sicken(self, track: Track, what: Literal["unready", "restarting", "crashing"], seconds: float) -> None:
        health = {
            "unready": Health(ready=False),
            "restarting": Health(ready=False, restarts=1),
            "crashing": Health(ready=False, restarts=2, waiting="CrashLoopBackOff"),
        }[what]
        world = self._world
        world.sick[track] = health
        world.step_soon()

        def over() -> None:
            world.sick.pop(track, None)
            for name in self._pods(track):
                world.restarts[name] += health.restarts
                if health.restarts:
                    world.traffic.restart_pod(name)
            world.step_soon()

        self._for(seconds, over, f"{track} pods")

    def kill_pods(self, track: Track) -> None:
        """A node goes, with the track's pods on it."""
        self._oracle.touch(f"{track} pods")
        for name in self._pods(track):
            self._world.api.drop(PODS, name)

    def _pods(self, track: Track) -> list[str]:
        every = [body["metadata"] for body in self._world.api.all(PODS)]
        return [metadata["name"] for metadata in every if (names.TRACK in metadata["labels"]) == (track == "stable")]

    def rate(self, value: float, seconds: float) -> None:
        self._world.traffic.flow()
        self._world.traffic.rate = value
        self._for(seconds, self._usual_rate)

    def _usual_rate(self) -> None:
        self._world.traffic.flow()
        self._world.traffic.rate = self._world.story.rate

    def degrade(self, version: str, errors: float) -> None:
        """A version that was good is so no more."""
        self._world.traffic.flow()
        image = f"model:{version}"
        self._world.models[image] = replace(self._world.models.get(image, Model()), errors=errors)
        self._world.degraded.add(version)
