"""The inference server as a plain ASGI application: at this size a framework would cost more than the model."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from kanarya_inference.server.body import BodyError, Receive
from kanarya_inference.server.counts import Counts
from kanarya_inference.server.docs_page import DOCS_PAGE, HTML
from kanarya_inference.server.faults import Faults
from kanarya_inference.server.feature_log import FeatureLog
from kanarya_inference.server.logs import current_scope
from kanarya_inference.server.metrics import ServerMetrics
from kanarya_inference.server.oip import Infer
from kanarya_inference.server.openapi import openapi
from kanarya_inference.server.outcomes import Outcomes
from kanarya_inference.server.plane import DataPlane, Form
from kanarya_inference.server.predict import BatchOfPredictions, SinglePrediction
from kanarya_inference.server.replies import Refused, Reply, document, error
from kanarya_inference.server.requests import Handler, Request
from kanarya_inference.server.routes_ml import MlRoutes
from kanarya_inference.server.routes_v2 import V2Routes
from kanarya_inference.server.settings import ServerSettings
from kanarya_inference.server.store import ModelStore

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PREDICT, BATCH = "/ml/predict", "/ml/predict/batch"
BINARY_TENSORS = b"inference-header-content-length"
log = logging.getLogger(__name__)


class InferenceApp:
    """Serves the model in `folder`.

    Ready means: sums and parity scores checked, model loaded and warmed up, not draining. A model that cannot be loaded leaves the
    server up and not ready, so that its reason can be read from `/ml/health`. While draining, predictions are still answered:
    endpoints take a moment to leave the load balancers. With `fault_control` anyone who reaches the server can switch its faults,
    with `settings.model_control` its models. `latency_bounds` are further bucket bounds, in milliseconds.
    """

    def __init__(
        self,
        folder: Path,
        settings: ServerSettings | None = None,
        *,
        faults: Faults | None = None,
        fault_control: bool = False,
        feature_log: FeatureLog | None = None,
        latency_bounds: Sequence[float] = (),
        draining: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.settings = settings or ServerSettings()
        faults = faults or Faults()
        self.counts = Counts(latency_bounds)
        self.outcomes = Outcomes(ids=self.settings.outcome_ids, seconds=self.settings.outcome_seconds, window=self.settings.outcome_window)
        self.metrics = ServerMetrics(self.counts, self.outcomes, feature_log)
        self.store = ModelStore(folder, self.settings, self.counts, self.outcomes)
        self.plane = DataPlane(
            self.settings,
            store=self.store,
            counts=self.counts,
            outcomes=self.outcomes,
            faults=faults,
            feature_log=feature_log,
            clock=clock,
        )
        self._draining = draining
        self._forms: dict[str, Form] = {PREDICT: SinglePrediction(), BATCH: BatchOfPredictions(self.settings.batch_rows)}
        self._infer = Infer(self.settings.name, self.settings.batch_rows)
        self._usual: dict[str, Form] = {**self._forms, f"/v2/models/{self.settings.name}/infer": self._infer}
        ml = MlRoutes(
            self.settings,
            store=self.store,
            metrics=self.metrics,
            outcomes=self.outcomes,
            faults=faults if fault_control else None,
            feature_log=feature_log,
            draining=draining,
        )
        self._v2 = V2Routes(self.settings, store=self.store, draining=draining)
        self._handlers: dict[str, dict[str, Handler]] = {
            **ml.handlers,
            **self._v2.handlers,
            "/openapi.json": {"GET": self._openapi},
            "/docs": {"GET": _docs},
        }

    @property
    def ready(self) -> bool:
        """Whether `/ml/health` answers 200."""
        return self.store.active is not None and not self._draining()

    def load(self) -> None:
        """Load the model; a failure becomes the reason for not being ready. Blocks for up to seconds."""
        self.store.load_first()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        form = self._usual.get(scope["path"])
        if form is not None and scope["method"] == "POST" and not _is_binary(scope):
            reply = await self.plane.answer(scope, receive, form)
        else:
            reply = await self._answer(scope, receive)
        if reply is not None:
            headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            await send({"type": "http.response.body", "body": reply.body})

    async def _answer(self, scope: Scope, receive: Receive) -> Reply | None:
        path, method = scope["path"], scope["method"]
        try:
            if path in self._forms:
                _must_be(method, ["POST"], path)
                return await self.plane.answer(scope, receive, self._forms[path])
            if (methods := self._handlers.get(path)) is not None:
                return await self._handle(methods, Request(scope, receive), path)
            if path.startswith(("/v2/models/", "/v2/repository/models/")):
                return await self._of_model(scope, receive)
        except Refused as refused:
            return error(refused.status, str(refused), refused.headers)
        except BodyError as problem:
            if problem.status is None:
                return None
            return error(problem.status, str(problem), [(b"connection", b"close")] if problem.close else [])
        except Exception:  # one path's failure is not the server's
            log.exception("%s failed", method)
            return error(500, "the request failed; the reason is in the server's log")
        return error(404, f"no such path; there are {', '.join([*self._forms, *self._handlers])}, /v2/models/{self.settings.name}")

    async def _handle(self, methods: dict[str, Handler], request: Request, path: str) -> Reply:
        _must_be(request.scope["method"], list(methods), path)
        current_scope.set(request.scope)
        return await methods[request.scope["method"]](request)

    async def _of_model(self, scope: Scope, receive: Receive) -> Reply | None:
        """Answer `/v2/models/{m}[/versions/{v}][/ready|/infer]` and `/v2/repository/models/{m}/load|unload`."""
        _, _, *parts = scope["path"].split("/")
        repository = parts[0] == "repository"
        name, *rest = parts[2:] if repository else parts[1:]
        if name != self.settings.name:
            raise Refused(404, f"there is no model {name[:63]!r}: this server has {self.settings.name}")
        if repository:
            handlers, version = self._v2.repository_handlers, None
        else:
            handlers, version = self._v2.model_handlers, None
            if rest[:1] == ["versions"] and len(rest) > 1:
                version, rest = rest[1], rest[2:]
        call = rest[0] if len(rest) == 1 else "/".join(rest)
        if call == "infer" and not repository:
            _must_be(scope["method"], ["POST"], "infer")
            if _is_binary(scope):
                raise Refused(501, "binary tensors are not implemented: send JSON")
            return await self.plane.answer(scope, receive, self._infer, version)
        if (methods := handlers.get(call)) is None:
            raise Refused(
                404, f"a model has no {call[:63]!r}; there are {', '.join(filter(None, [*handlers, *([] if repository else ['infer'])]))}"
            )
        return await self._handle(methods, Request(scope, receive, version), call or name)

    async def _openapi(self, _: Request) -> Reply:
        model = self.store.active
        return document(openapi(self.settings, model.artefact.schema if model is not None else None))


async def _docs(_: Request) -> Reply:
    return Reply(200, DOCS_PAGE, HTML)


def _is_binary(scope: Scope) -> bool:
    for name, _ in scope["headers"]:  # noqa: SIM110 -- a loop costs a third of any() with a generator, on every request
        if name == BINARY_TENSORS:
            return True
    return False


def _must_be(method: str, allowed: list[str], path: str) -> None:
    if method not in allowed:
        names = ", ".join(allowed)
        raise Refused(405, f"{path[:100]} answers {names}", headers=[(b"allow", names.encode())])
