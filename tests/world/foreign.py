"""Foreign hands: what people and tools do to the operator's own objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from kanarya.cluster import names
from kanarya.cluster.port import CONFIGMAPS, DEPLOYMENTS, HTTPROUTES, SERVICES, Object, Resource
from tests.world.service import NAME
from tests.world.world import World

Owned = Literal["route", "stable Service", "candidate Service", "stable", "settings", "checkpoint", "evidence"]


class ForeignHands:
    """One method for each thing they do; each is noted with the oracle, but for names that were theirs first."""

    def __init__(self, world: World) -> None:
        self._world, self._oracle = world, world.oracle

    def set_weight(self, weight: int) -> None:
        """Somebody writes the route's weights."""

        def write(body: Object) -> None:
            for rule in body["spec"].get("rules", []):
                for backend in rule.get("backendRefs", []):
                    if backend["name"] == names.candidate_service(NAME):
                        backend["weight"] = weight
                    elif backend["name"] == names.stable_service(NAME):
                        backend["weight"] = 100 - weight

        self._touch("route")
        self._world.edit(HTTPROUTES, NAME, write)

    def meddle(self, what: Owned) -> None:
        """Somebody changes an object of the operator's in a way that matters."""
        self._touch(what)
        for resource, name in self._objects(what):
            self._world.edit(resource, name, _MEDDLING[what])

    def delete(self, what: Owned) -> None:
        self._touch(what)
        self._oracle.touch(f"{what} deleted")
        for resource, name in self._objects(what):
            self._world.api.drop(resource, name)

    def strip(self, what: Owned) -> None:
        """Somebody takes the labels off."""
        self._touch(what)
        for resource, name in self._objects(what):
            self._world.edit(resource, name, lambda body: body["metadata"].update(labels={}))

    def squat(self, what: Owned) -> None:
        """Somebody has an object of a name that the operator needs, if it has none yet."""
        for resource, name in self._objects(what):
            if self._world.api.peek(resource, name) is None:
                self._world.api.put(resource, {"metadata": {"name": name}, **_FOREIGN[what]})

    def scale_stable(self, replicas: int) -> None:
        self._touch("stable")
        for resource, name in self._objects("stable"):
            self._world.edit(resource, name, lambda body: body["spec"].update(replicas=replicas))

    def _touch(self, what: Owned) -> None:
        self._oracle.touch(what, *(name for _, name in self._objects(what)))

    def _objects(self, what: Owned) -> list[tuple[Resource, str]]:
        api = self._world.api
        one: dict[str, tuple[Resource, str]] = {
            "route": (HTTPROUTES, NAME),
            "stable Service": (SERVICES, names.stable_service(NAME)),
            "candidate Service": (SERVICES, names.candidate_service(NAME)),
            "settings": (CONFIGMAPS, names.settings(NAME)),
            "checkpoint": (CONFIGMAPS, names.checkpoint(NAME)),
        }
        if what in one:
            return [one[what]]
        if what == "stable":
            return [(DEPLOYMENTS, body["metadata"]["name"]) for body in api.all(DEPLOYMENTS) if body["metadata"]["name"] != NAME]
        return [(CONFIGMAPS, body["metadata"]["name"]) for body in api.all(CONFIGMAPS) if "-evidence-" in body["metadata"]["name"]]


def _evil_image(body: Object) -> None:
    body["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"


def _evil_route(body: Object) -> None:
    body["spec"]["rules"] = [{"backendRefs": [{"kind": "Service", "name": "elsewhere", "port": 80}]}]


_FOREIGN: dict[str, Object] = {
    "route": {"spec": {"rules": [{"backendRefs": [{"kind": "Service", "name": "elsewhere", "port": 80}]}]}},
    "stable Service": {"spec": {"selector": {"app": "elsewhere"}, "ports": [{"port": 80}]}},
    "candidate Service": {"spec": {"selector": {"app": "elsewhere"}, "ports": [{"port": 80}]}},
    "settings": {"data": {"own": "data"}},
}
_MEDDLING: dict[str, Callable[[Object], object]] = {
    "route": _evil_route,
    "stable Service": lambda body: body["spec"].update(selector={"app": "elsewhere"}),
    "candidate Service": lambda body: body["spec"].update(selector={"app": "elsewhere"}),
    "stable": _evil_image,
    "settings": lambda body: body["data"].update({"settings.json": "{}"}),
    "checkpoint": lambda body: body["data"].update({"checkpoint.json": "{"}),
    "evidence": lambda body: body["data"].update({"evidence.json": "[]"}),
}
