"""Requests, the router that splits and copies them, and the models that answer: what really happened, and what of it is counted.

Which route and which settings are in force is the decision of the router's real control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from kanarya.cluster import names
from kanarya.cluster.port import CONFIGMAPS, ENDPOINTSLICES, HTTPROUTES, PODS, Object
from kanarya_inference.router.breaker import FAILURE_RATE, FAILURES_IN_A_ROW, MINIMUM_IN_WINDOW, OPEN_SECONDS
from tests.world.api import OpenApi
from tests.world.cluster import accept_route
from tests.world.router import Labels, Router, Row, Track, Truth

FEATURE = "spread_bp"
REFERENCE = (100.0,) * 10 + (10.0,)
EVEN = np.array(REFERENCE) / sum(REFERENCE)
SHIFTED = np.array([0.0] * 5 + [2.0] * 5 + [0.1]) / 10.1


@dataclass(frozen=True)
class Model:
    """What a version of the model is like: shares of its answers, and how its pods behave."""

    errors: float = 0.0
    slow: float = 0.0
    """Slower than the SLO, faster than the abort level."""
    very_slow: float = 0.0
    mismatches: float = 0.0
    shifted: bool = False
    startup: float = 2.0
    """Seconds until a pod is ready."""
    pods: Literal["well", "never ready", "crash"] = "well"

    @property
    def is_sound(self) -> bool:
        return self == Model(startup=self.startup)


@dataclass(frozen=True)
class Pod:
    name: str
    revision: str
    image: str


@dataclass(eq=False)
class ModelPod:
    """What a model server counts of its inputs."""

    name: str
    started: float
    bins: Any = field(default_factory=lambda: np.zeros(11, dtype=int))

    def expose(self) -> Iterator[Row]:
        yield _MODEL_START, self.started
        for labels, value in zip(_MODEL_BINS, self.bins, strict=True):
            yield labels, float(value)
        for labels, value in zip(_MODEL_REFERENCE, REFERENCE, strict=True):
            yield labels, value


def _bins(name: str) -> tuple[Labels, ...]:
    common = {"__name__": name, "model_version": "x", "feature": FEATURE}
    return tuple(tuple(sorted({**common, "bin": label}.items())) for label in (*map(str, range(10)), "missing"))


_MODEL_START: Labels = (("__name__", "process_start_time_seconds"),)
_MODEL_BINS, _MODEL_REFERENCE = _bins("ml_feature_bin_total"), _bins("ml_feature_reference_bin")


@dataclass
class Failures:
    """Live requests that clients saw fail, by why."""

    no_stable: int = 0
    """Stable should have answered, and had no ready pod."""
    candidate: int = 0
    stable: int = 0


class Traffic:
    """All requests of the service. `flow` accounts for the time since it was last called, as things stood in that time.

    `served` is told of live requests: track, pod, how many.
    """

    def __init__(
        self,
        api: OpenApi,
        rollout: str,
        *,
        random: np.random.Generator,
        now: Callable[[], float],
        wall: Callable[[], float],
        rate: float,
        models: Mapping[str, Model],
        routers: int,
    ) -> None:
        self.rate = rate
        self.models = models
        self.failures = Failures()
        self.served: Callable[[Track, Pod, int], None] = lambda *_: None
        self.unserved: Callable[[int], None] = lambda _: None
        self.pods: dict[str, ModelPod] = {}
        self._api, self._rollout, self._random = api, rollout, random
        self._now, self._wall = now, wall
        self._since = now()
        self._made = 0
        self._serving: dict[Track, list[Pod]] = {"stable": [], "candidate": []}
        self.routers = [self._router() for _ in range(routers)]

    def _router(self) -> Router:
        self._made += 1
        return Router(f"{names.router_pods(self._rollout)}6c9f8d-{self._made:05d}", self._rollout, self._wall(), self._now(), self._now)

    # -- what changes -----------------------------------------------------------------------------------------------------

    def follow(self, router: Router) -> None:
        """Let a router see route and settings as they are; the first one answers on the route."""
        self.flow()
        route = self._api.peek(HTTPROUTES, self._rollout)
        router.follow(route, self._api.peek(CONFIGMAPS, names.settings(self._rollout)))
        if route is not None and router is self.routers[0] and router.control.verdict is not None:
            refusal = router.control.verdict.refusal
            accept_route(self._api, route, str(refusal) if refusal else "")

    def restart_router(self, index: int) -> None:
        """End a router's process; another pod takes its place, and counts from 0."""
        self.flow()
        self.routers[index % len(self.routers)] = fresh = self._router()
        self.follow(fresh)

    def notice_endpoints(self) -> None:
        """Take note of the pods behind both Services."""
        self.flow()
        for track, service in (("stable", names.stable_service(self._rollout)), ("candidate", names.candidate_service(self._rollout))):
            piece = self._api.peek(ENDPOINTSLICES, f"{service}-x")
            found = [self._api.peek(PODS, entry["targetRef"]["name"]) for entry in (piece or {}).get("endpoints", [])]
            self._serving[track] = [_pod(body) for body in found if body is not None]  # type: ignore[index]
        living = {body["metadata"]["name"]: body for body in self._api.all(PODS)}
        self.pods = {name: self.pods.get(name) or ModelPod(name, self._wall()) for name in living}

    def restart_pod(self, name: str) -> None:
        """A model server's process ended and began again: it counts from 0."""
        self.flow()
        if name in self.pods:
            self.pods[name] = ModelPod(name, self._wall())

    def ready(self, track: Track) -> int:
        return len(self._serving[track])

    def serving(self, track: Track) -> list[Pod]:
        """Give the pods behind a track's Service, as the routers last saw them."""
        return list(self._serving[track])

    # -- requests ---------------------------------------------------------------------------------------------------------

    def flow(self) -> None:
        now = self._now()
        seconds, self._since = now - self._since, now
        if seconds <= 0 or self.rate <= 0:
            return
        for router in self.routers:
            number = int(self._random.poisson(self.rate * seconds / len(self.routers)))
            if number and router.control.plan is not None:
                self._send(router, number)

    def _send(self, router: Router, number: int) -> None:
        plan = router.control.plan
        assert plan is not None
        stable, candidate = str(plan.stable.revision), plan.candidate.revision
        to_candidate = int(self._random.binomial(number, router.share())) if candidate is not None else 0
        to_stable = number - to_candidate
        if to_stable:
            self._attempt(router, "stable", stable, "live", to_stable)
        if candidate is None:
            return
        if to_candidate:
            self._attempt(router, "candidate", candidate, "live", to_candidate)
        percent = plan.settings.mirror_percent / 100
        for number_of, track, revision in ((to_stable, "candidate", candidate), (to_candidate, "stable", stable)):
            chosen = int(self._random.binomial(number_of, percent)) if number_of else 0
            if chosen:
                self._mirror(router, track, revision, chosen, candidate)  # type: ignore[arg-type]

    def _mirror(self, router: Router, track: Track, revision: str, number: int, candidate: str) -> None:
        row, now, key = router.comparisons[candidate], self._now(), (track, revision)
        if not self._serving[track] and router.open_until.get(key, 0.0) == 0.0:
            return  # nothing is mirrored to a track whose pods are not there yet
        until = router.open_until.get(key, 0.0)
        if until > now:
            row["dropped"] += number
            return
        errors = self._attempt(router, track, revision, "mirror", number)
        good = number - errors
        mismatched = int(self._random.binomial(good, self._model("candidate").mismatches)) if good else 0
        row["match"] += good - mismatched
        row["mismatch"] += mismatched
        row["not_compared"] += errors
        truth = router.truth.setdefault(candidate, Truth())
        truth.compared += good
        truth.mismatched += mismatched
        over_rate = number >= MINIMUM_IN_WINDOW and errors > FAILURE_RATE * number
        if until and errors < number:
            router.open_until[key] = 0.0
        elif over_rate or (errors >= min(number, FAILURES_IN_A_ROW) > 0 and errors > number / 2):
            router.open_until[key] = now + OPEN_SECONDS

    def _model(self, track: Track) -> Model:
        pods = self._serving[track]
        return self.models.get(pods[0].image, Model()) if pods else Model()

    def _attempt(self, router: Router, track: Track, revision: str, exposure: str, number: int) -> int:
        """Send requests to a track, spread over its pods; gives how many failed."""
        pods = self._serving[track]
        if not pods:
            router.count(track, revision, exposure, "unreachable", (number, number, number))
            if exposure == "live" and track == "stable":
                self.failures.no_stable += number
                self.unserved(number)
            self._tell(router, track, revision, exposure, number, number, 0, 0)
            return number
        failed = 0
        share, left = divmod(number, len(pods))
        for index, pod in enumerate(pods):
            sent = share + (index < left)
            if sent:
                failed += self._answer(router, track, revision, exposure, pod, sent)
        return failed

    def _answer(self, router: Router, track: Track, revision: str, exposure: str, pod: Pod, number: int) -> int:
        model, draw = self.models.get(pod.image, Model()), self._random.binomial
        if exposure == "live":
            self.served(track, pod, number)
        errors = int(draw(number, model.errors)) if model.errors else 0
        timeouts = errors // 3
        good = number - errors
        very_slow = int(draw(good, model.very_slow)) if model.very_slow else 0
        slow = int(draw(good - very_slow, model.slow)) if model.slow else 0
        router.count(track, revision, exposure, "success", (good - very_slow - slow, good - very_slow, good))
        if errors:
            router.count(track, revision, exposure, "server_error", (errors - timeouts,) * 3)
            router.count(track, revision, exposure, "timeout", (0, 0, timeouts))
            if exposure == "live":
                setattr(self.failures, track, getattr(self.failures, track) + errors)
        self._tell(router, track, revision, exposure, number, errors, slow + very_slow + timeouts, very_slow + timeouts)
        counted = self.pods.get(pod.name)
        if track == "candidate" and counted is not None:
            counted.bins += self._random.multinomial(good, SHIFTED if model.shifted else EVEN)
        return errors

    @staticmethod
    def _tell(router: Router, track: Track, revision: str, exposure: str, number: int, errors: int, slow: int, very_slow: int) -> None:
        if track != "candidate":
            return
        truth = router.truth.setdefault(revision, Truth())
        for key, value in (("", number), ("_errors", errors), ("_slow", slow), ("_very_slow", very_slow)):
            setattr(truth, exposure + key, getattr(truth, exposure + key) + value)


def _pod(body: Object) -> Pod:
    labels = body["metadata"]["labels"]
    revision = labels.get(names.REVISION) or labels.get(names.HASH, "")
    return Pod(body["metadata"]["name"], revision, body["spec"]["containers"][0]["image"])
