"""Looking at a release until it has ended, and at the weight on the route meanwhile."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Thread
from types import TracebackType
from typing import Any, Self

from examples import lab
from examples.demo.screen import Screen
from examples.demo.text import Look

PAUSE = 0.5
NO_RUN_SECONDS = 60.0
"""A change of the pod template that has begun no run by then was none."""
ROUTES = (
    "/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes?watch=1&timeoutSeconds=1800&fieldSelector=metadata.name={name}"
)


class NotEnded(Exception):  # noqa: N818 -- reads as what happened
    """A release did not end in time, or never began; the message says which."""


def look(service: lab.ModelService) -> Look:
    """Look once. The operator and the load may be away for a moment; the API server may not."""
    stats: Mapping[str, Any] = {}
    with suppress(lab.CommandFailed, ValueError):
        stats = service.stats()
    return Look(service.rollout(), service.live(), stats)


def follow(service: lab.ModelService, version: str, known: frozenset[tuple[str, str]], screen: Screen, seconds: float) -> Mapping[str, Any]:
    """Show a release until its run has ended; gives the run's history entry.

    Raises
    ------
    NotEnded
        When no run begins, or the run does not end within `seconds`.
    """
    began, running = time.monotonic(), False
    while True:
        seen = look(service)
        screen.show(seen)
        entry = seen.ended(known, version)
        if entry is not None:
            return entry
        running = running or (seen.status.get("run") or {}).get("version") == version
        lasted = time.monotonic() - began
        if not running and lasted > NO_RUN_SECONDS:
            stable = (seen.status.get("stable") or {}).get("version")
            raise NotEnded(f"no run of {version} began within {NO_RUN_SECONDS:.0f} s (stable is {stable}): did the pod template change?")
        if lasted > seconds:
            raise NotEnded(f"the run of {version} has not ended within {seconds:.0f} s; it says {seen.live.get('reason', 'nothing')}")
        time.sleep(PAUSE)


class Turning:
    """A screen beside which something happens, once, when the candidate is first seen with a weight."""

    def __init__(self, screen: Screen, happen: Callable[[], None]) -> None:
        self._screen, self._happen, self._done = screen, happen, False

    def show(self, look: Look) -> None:
        """Show a look, and let it happen if it is time."""
        self._screen.show(look)
        if not self._done and int((look.status.get("run") or {}).get("weight", 0)) > 0:
            self._done = True
            self._happen()


class Weights:
    """The candidate's weights on the route, each with the time it was seen, by a watch of its own."""

    def __init__(self, service: lab.ModelService, now: Callable[[], float] = time.time) -> None:
        self.seen: list[tuple[float, int]] = []
        self._service, self._now = service, now
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Begin."""
        path = ROUTES.format(namespace=self._service.namespace, name=self._service.name)
        command = ["kubectl", "get", "--raw", path]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # noqa: S603
        Thread(target=self._read, args=(self._process,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the watch."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)

    def _read(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            with suppress(ValueError, KeyError, TypeError):
                weight = weight_of(json.loads(line)["object"], f"{self._service.name}-candidate")
                if weight is not None and (not self.seen or self.seen[-1][1] != weight):
                    self.seen.append((self._now(), weight))


def weight_of(route: Mapping[str, Any], backend: str) -> int | None:
    """Give a backend's weight in a route; None if the route does not have it."""
    for rule in route["spec"]["rules"]:
        for entry in rule["backendRefs"]:
            if entry["name"] == backend:
                return int(entry["weight"])
    return None
