"""From what the watches have seen to what is in force."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kanarya_inference.router.breaker import Breaker
from kanarya_inference.router.endpoints import Pool
from kanarya_inference.router.metrics import RouterMetrics
from kanarya_inference.router.model import TrackName
from kanarya_inference.router.plan import Plan, Track
from kanarya_inference.router.route import RouteRefused, Split, is_ours, read_split
from kanarya_inference.router.settings import Settings, SettingsError, read_settings
from kanarya_inference.router.windows import Clock

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What the router says of the route it saw last. `refusal` is None when it follows it; `note` is for people."""

    route: dict[str, Any]
    refusal: RouteRefused | None
    note: str


class Control:
    """Keeps the last route and settings that fit together in force, whatever comes after them.

    Settings are used with a route of their `routeGeneration` or later. A route that is refused, deleted or no longer ours, and
    settings that cannot be read, change nothing: fail static.
    """

    def __init__(
        self, rollout: str, pool: Callable[[str], Pool], metrics: RouterMetrics, clock: Clock, *, compare_only: bool = False
    ) -> None:
        self.plan: Plan | None = None
        self.verdict: Verdict | None = None
        self._rollout = rollout
        self._compare_only = compare_only
        self._pool = pool
        self._metrics = metrics
        self._clock = clock
        self._route: dict[str, Any] | None = None
        self._good_route: dict[str, Any] | None = None
        self._settings: Settings | None = None
        self._settings_problem = ""
        self._refusal = ""
        self._in_force: tuple[Settings, int, Split] | None = None

    @property
    def services(self) -> frozenset[str]:
        """The Services whose EndpointSlices matter: those in force and those about to be."""
        known = [settings for settings in (self._settings, self.plan.settings if self.plan else None) if settings is not None]
        return frozenset(track.service for settings in known for track in (settings.tracks.stable, settings.tracks.candidate))

    def see_route(self, route: dict[str, Any] | None) -> None:
        """Take note of the route as it is now, None when it is gone."""
        if route is None or not is_ours(route, self._rollout):
            if self._route is not None or route is not None:
                logger.warning("the route is gone, or not (any more) labelled for us and attached to a Service: what is in force stays")
            self._route, self.verdict = None, None
            return
        self._route = route
        self._settle()

    def see_settings(self, configmap: dict[str, Any] | None) -> None:
        """Take note of the settings' ConfigMap as it is now, None when it is gone."""
        if configmap is None:
            logger.warning("there are no settings: what is in force stays")
            return
        try:
            self._settings = read_settings(configmap, self._rollout)
            self._settings_problem = ""
        except SettingsError as error:
            self._settings_problem = f"the newest settings are not used: {error}"
            logger.warning("%s", self._settings_problem)
        self._settle()

    def _settle(self) -> None:
        self.verdict = None
        if self._compare_only:
            return self._settle_without_a_route()
        settings = self._fitting(self._route)
        if self._route is not None and settings is not None:
            try:
                split = read_split(self._route, settings)
            except RouteRefused as refusal:
                self.verdict = Verdict(self._route, refusal, f"{refusal}; {self._kept()}")
                if str(refusal) != self._refusal:
                    logger.warning("route refused: %s", refusal)
                self._refusal = str(refusal)
            else:
                self._refusal = ""
                self.verdict = Verdict(self._route, None, self._settings_problem or "followed by ml-router")
                self._enforce(self._route, settings, split)
                return None
        return self._settle_on_the_last_good_route()

    def _settle_without_a_route(self) -> None:
        """A gateway follows the route and draws; all that matters here is which revisions there are to compare."""
        if self._settings is not None:
            self._enforce({"metadata": {"generation": self._settings.route_generation}}, self._settings, Split(1, 0))

    def _settle_on_the_last_good_route(self) -> None:
        """Newer settings (the candidate left, say) count even while the newest route is refused."""
        settings = self._fitting(self._good_route)
        if self._good_route is None or settings is None or self.plan is None or settings == self.plan.settings:
            return
        try:
            split = read_split(self._good_route, settings)
        except RouteRefused:
            return
        self._enforce(self._good_route, settings, split)

    def _fitting(self, route: dict[str, Any] | None) -> Settings | None:
        """Choose the newest settings when the route is new enough for them, else those in force."""
        if route is not None and self._settings is not None and _generation(route) >= self._settings.route_generation:
            return self._settings
        return self.plan.settings if self.plan is not None else None

    def _kept(self) -> str:
        return f"generation {self.plan.generation} stays in force" if self.plan is not None else "nothing is in force yet"

    def _enforce(self, route: dict[str, Any], settings: Settings, split: Split) -> None:
        self._good_route = route
        in_force = (settings, _generation(route), split)
        if in_force == self._in_force:
            return  # only the route's status or metadata changed
        self._in_force = in_force
        self._metrics.follow(settings)
        stable = self._track("stable", settings.tracks.stable.service, settings.tracks.stable.revision)
        candidate = self._track("candidate", settings.tracks.candidate.service, settings.tracks.candidate.revision)
        total = split.stable + split.candidate
        # Without a revision no run is on, and no pod of the candidate may answer before its revision was judged.
        stable_weight = split.stable if candidate.revision is not None else total
        self.plan = Plan(settings, _generation(route), stable, candidate, stable_weight, total)
        if not self._compare_only:
            self._metrics.in_force(self.plan.generation, {"stable": stable_weight, "candidate": total - stable_weight})
        logger.info(
            "in force: route generation %d, weights %d/%d, revisions %s/%s",
            *(self.plan.generation, stable_weight, total - stable_weight, stable.revision, candidate.revision),
        )

    def _track(self, name: TrackName, service: str, revision: str | None) -> Track:
        """Keep the track while it names the same revision; a new revision begins with a closed breaker."""
        known = (self.plan.stable if name == "stable" else self.plan.candidate) if self.plan is not None else None
        if known is not None and (known.service, known.revision) == (service, revision):
            track = known
        else:
            pool = self._pool(service)
            pool.revision = revision
            track = Track(name, service, revision, pool, Breaker(self._clock), self._clock())
            if revision is not None:
                self._metrics.watch_breaker(name, revision, track.breaker)
        track.series = self._metrics.series(name, revision) if revision is not None else None
        return track


def _generation(route: dict[str, Any]) -> int:
    return int(route["metadata"].get("generation", 0))
