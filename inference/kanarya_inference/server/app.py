"""The inference server as a plain ASGI application: at this size a framework would cost more than the model."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from kanarya_inference.features import MalformedRequestError, SnapshotError
from kanarya_inference.registry import ArtefactError, IntegrityError, read_artefact
from kanarya_inference.server.body import BodyError, Receive, read_body
from kanarya_inference.server.faults import Faults
from kanarya_inference.server.metrics import CONTENT_TYPE, ServerMetrics, Status
from kanarya_inference.server.model import Model, load_model
from kanarya_inference.serving import UNPROCESSED_HEADER

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PREDICT = "/ml/predict"
FAULTS = "/ml/faults"
_JSON = (b"content-type", b"application/json")
log = logging.getLogger(__name__)


class Prediction(msgspec.Struct):
    """Answer of `/ml/predict`; `latency_ms` is the server's own time."""

    score: float
    label: int
    model_version: str
    latency_ms: float


class InferenceApp:
    """Serves the model in `folder`.

    Ready means: sums checked, model loaded, one inference done, not draining. A model that cannot be loaded leaves the
    server up and not ready, so that its reason can be read from `/ml/health`. While draining, predictions are still answered:
    endpoints take a moment to leave the load balancers. With `fault_control` anyone who reaches the server can switch its faults.
    """

    def __init__(
        self,
        folder: Path,
        *,
        faults: Faults | None = None,
        fault_control: bool = False,
        latency_bounds: Sequence[float] = (),
        draining: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.metrics = ServerMetrics(latency_bounds)
        self._folder = folder
        self._faults = faults or Faults()
        self._fault_control = fault_control
        self._clock = clock
        self._model: Model | None = None
        self._version_header: list[tuple[bytes, bytes]] = []
        self._problem = "the model is being loaded"
        self._draining = draining
        self._routes = {
            "/ml/health": self._health,
            "/ml/health/live": self._live,
            "/ml/metrics": self._metrics,
            "/ml/model/info": self._info,
        }

    @property
    def ready(self) -> bool:
        """Whether `/ml/health` answers 200."""
        return self._model is not None and not self._draining()

    def load(self) -> None:
        """Read, check, load and warm the model up; a failure becomes the reason for not being ready. Blocks for up to seconds."""
        try:
            artefact = read_artefact(self._folder)
            model = load_model(artefact)
        except ArtefactError as error:
            self.metrics.integrity_errors += isinstance(error, IntegrityError)
            self._problem = str(error)
            log.error("model refused: %s", error)  # noqa: TRY400 -- the sentence says it all
            return
        except Exception as error:  # a server that cannot say why it is not ready helps nobody
            self._problem = f"the model could not be loaded: {type(error).__name__}; see the server's log"
            log.exception("model not loaded")
            return
        self.metrics.use(artefact)
        self._version_header = [(b"x-model-version", artefact.version.encode())]
        self._model = model
        log.info("model %s loaded, sha256 %s", artefact.version, artefact.model_sha256)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        path, method = scope["path"], scope["method"]
        if path == PREDICT:
            if method == "POST":
                await self._predict(receive, send)
            else:
                await _error(send, 405, f"{PREDICT} answers POST", [(b"allow", b"POST")])
        elif path == FAULTS and self._fault_control and method == "POST":
            await self._change_faults(receive, send)
        elif (answer := self._routes.get(path)) is None:
            await _error(send, 404, f"no such path; there are {PREDICT}, {', '.join(self._routes)}")
        elif method == "GET":
            await answer(send)
        else:
            await _error(send, 405, f"{path} answers GET", [(b"allow", b"GET")])

    async def _predict(self, receive: Receive, send: Send) -> None:
        started = self._clock()
        status: Status = "invalid"
        try:
            body = await read_body(receive)
            status = "error"
            if (model := self._model) is None:
                await _error(send, 503, f"not ready: {self._problem}", [(UNPROCESSED_HEADER, b"not-ready")])
                return
            row, bins = model.reader.read(body)
            self.metrics.features(bins)
            if self._faults.latency_milliseconds:
                await asyncio.sleep(self._faults.latency_milliseconds / 1000)
            if self._faults.fails():
                await _error(send, 500, "injected fault", self._version_header)
                return
            score = model.score(row)
            self.metrics.score(score)
            artefact = model.artefact
            prediction = Prediction(
                score=score,
                label=int(score >= artefact.decision_threshold),
                model_version=artefact.version,
                latency_ms=(self._clock() - started) * 1000,
            )
            status = "ok"
            await _send(send, 200, msgspec.json.encode(prediction), [_JSON, *self._version_header])
        except BodyError as error:
            if error.status is not None:
                headers = [*self._version_header, *([(b"connection", b"close")] if error.close else [])]
                await _error(send, error.status, str(error), headers)
        except MalformedRequestError as error:
            status = "invalid"
            await _error(send, 400, str(error), self._version_header)
        except SnapshotError as error:
            status = "invalid"
            await _error(send, 422, str(error), self._version_header)
        except Exception:  # whatever fails in a prediction is this request's failure, never the server's
            if status == "ok":  # the answer was on its way already
                raise
            log.exception("prediction failed")
            await _error(send, 500, "the prediction failed; the reason is in the server's log", self._version_header)
        finally:
            self.metrics.request(status, (self._clock() - started) * 1000)

    async def _change_faults(self, receive: Receive, send: Send) -> None:
        try:
            self._faults.change(await read_body(receive))
        except BodyError as error:
            if error.status is not None:
                await _error(send, error.status, str(error))
        except ValueError as error:
            await _error(send, 422, str(error))
        else:
            log.warning("faults changed: %s", self._faults)
            await _send(send, 200, msgspec.json.encode({"since": time.time()}), [_JSON])

    async def _health(self, send: Send) -> None:
        document: dict[str, Any] = {"live": True, "ready": self.ready}
        if not self.ready:
            document["reason"] = "the server is draining" if self._draining() else self._problem
        if self._model is not None:
            document["model_version"] = self._model.artefact.version
        await _send(send, 200 if self.ready else 503, msgspec.json.encode(document), [_JSON])

    async def _live(self, send: Send) -> None:
        await _send(send, 200, b'{"live":true}', [_JSON])

    async def _metrics(self, send: Send) -> None:
        await _send(send, 200, self.metrics.exposition(), [(b"content-type", CONTENT_TYPE.encode())])

    async def _info(self, send: Send) -> None:
        if self._model is None:
            await _error(send, 503, f"not ready: {self._problem}")
            return
        artefact = self._model.artefact
        document = {
            "model_version": artefact.version,
            "sha256": artefact.model_sha256,
            "drift_reference_sha256": artefact.reference_sha256,
            "decision_threshold": artefact.decision_threshold,
            "features": [column.to_json() for column in artefact.schema.columns],
            "libraries": artefact.metadata.get("libraries"),
            "training": {key: artefact.metadata.get(key) for key in ("kind", "rows", "seed", "quality")},
        }
        await _send(send, 200, msgspec.json.encode(document), [_JSON, *self._version_header])


async def _error(send: Send, status: int, message: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    await _send(send, status, msgspec.json.encode({"error": message}), [_JSON, *(headers or [])])


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
