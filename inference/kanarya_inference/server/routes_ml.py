"""`/ml/*` beside the predictions: health, models, outcomes, faults."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec

from kanarya_inference.server.faults import Faults
from kanarya_inference.server.feature_log import FeatureLog
from kanarya_inference.server.metrics import CONTENT_TYPE, ServerMetrics
from kanarya_inference.server.outcomes import MAX_OUTCOMES, Outcome, Outcomes
from kanarya_inference.server.replies import Refused, Reply, document, not_ready
from kanarya_inference.server.requests import Handler, Request, decode
from kanarya_inference.server.settings import ServerSettings
from kanarya_inference.server.store import ModelStore

log = logging.getLogger(__name__)


class OutcomeBody(msgspec.Struct):
    """Body of `/ml/outcomes`."""

    outcomes: list[Outcome]


class ReloadBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `/ml/reload`; without a version the folder of the start is read again."""

    version: str | None = None


class MlRoutes:
    """The handlers by method and path."""

    def __init__(
        self,
        settings: ServerSettings,
        *,
        store: ModelStore,
        metrics: ServerMetrics,
        outcomes: Outcomes,
        faults: Faults | None,
        feature_log: FeatureLog | None,
        draining: Callable[[], bool],
    ) -> None:
        self._settings, self._store, self._metrics, self._outcomes = settings, store, metrics, outcomes
        self._faults, self._feature_log, self._draining = faults, feature_log, draining
        self.handlers: dict[str, dict[str, Handler]] = {
            "/ml/health": {"GET": self._health},
            "/ml/health/live": {"GET": self._live},
            "/ml/metrics": {"GET": self._exposition},
            "/ml/model/info": {"GET": self._info},
            "/ml/models": {"GET": self._models},
            "/ml/outcomes": {"POST": self._take_outcomes},
            "/ml/reload": {"POST": self._reload},
        }
        if faults is not None:
            self.handlers["/ml/faults"] = {"POST": self._change_faults}

    async def _health(self, _: Request) -> Reply:
        active, draining = self._store.active, self._draining()
        ready = active is not None and not draining
        answer: dict[str, Any] = {"live": True, "ready": ready}
        if not ready:
            answer["reason"] = "the server is draining" if draining else self._store.problem
        if active is not None:
            answer["model_version"] = active.artefact.version
        if self._store.last_refusal is not None and active is not None:
            answer["last_refusal"] = self._store.last_refusal
        return document(answer, status=200 if ready else 503)

    async def _live(self, _: Request) -> Reply:
        return document({"live": True})

    async def _exposition(self, _: Request) -> Reply:
        return Reply(200, self._metrics.exposition(), [(b"content-type", CONTENT_TYPE)])

    async def _info(self, _: Request) -> Reply:
        if (model := self._store.active) is None:
            raise not_ready(self._store.problem)
        artefact = model.artefact
        content = {
            "model_version": artefact.version,
            "sha256": artefact.model_sha256,
            "drift_reference_sha256": artefact.reference_sha256,
            "decision_threshold": artefact.decision_threshold,
            "features": [column.to_json() for column in artefact.schema.columns],
            "libraries": artefact.metadata.get("libraries"),
            "training": {key: artefact.metadata.get(key) for key in ("kind", "rows", "seed", "quality")},
        }
        return document(content, [model.version_header])

    async def _models(self, _: Request) -> Reply:
        active, previous, loaded = self._store.active, self._store.previous, self._store.loaded
        models = [
            {"version": version, "loaded": version in loaded, "refused": self._store.refusal_of(version)}
            for version in self._store.versions()
        ]
        content = {
            "name": self._settings.name,
            "active": active.artefact.version if active else None,
            "previous": previous.artefact.version if previous else None,
            "models": models,
        }
        return document(content)

    async def _take_outcomes(self, request: Request) -> Reply:
        body = decode(await request.body(), OutcomeBody)
        if len(body.outcomes) > MAX_OUTCOMES:
            raise Refused(422, f"there are {len(body.outcomes)} outcomes: send {MAX_OUTCOMES} at most")
        results = {"accepted": 0, "unknown": 0, "duplicate": 0}
        for outcome in body.outcomes:
            result = self._outcomes.take(outcome)
            results[result] += 1
            if result == "accepted" and self._feature_log is not None and self._feature_log.wants(outcome.prediction_id):
                self._feature_log.outcome(outcome.prediction_id, outcome.label)
        return document(results)

    async def _reload(self, request: Request) -> Reply:
        request.must_control(self._settings.model_control)
        body = decode(await request.body() or b"{}", ReloadBody)
        before = self._store.active
        model = await self._store.activate(body.version, by=request.client)
        previous = before.artefact.version if before else None
        return document({"model_version": model.artefact.version, "previous_version": previous}, [model.version_header])

    async def _change_faults(self, request: Request) -> Reply:
        if self._faults is None:
            raise Refused(404, "the server was started without --fault-control")
        try:
            self._faults.change(await request.body())
        except ValueError as error:
            raise Refused(422, str(error)) from None
        log.warning("faults changed: %s", self._faults)
        return document({"since": time.time()})
