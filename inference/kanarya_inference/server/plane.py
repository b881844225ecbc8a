"""The data plane: from a request's body to scores, the same for every protocol."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from kanarya_inference.features import MalformedRequestError, SnapshotError
from kanarya_inference.server.body import BodyError, Receive, read_body
from kanarya_inference.server.counts import Counts, Status
from kanarya_inference.server.faults import Faults
from kanarya_inference.server.feature_log import FeatureLog
from kanarya_inference.server.limits import Admission
from kanarya_inference.server.logs import current_scope
from kanarya_inference.server.model import Model
from kanarya_inference.server.outcomes import Outcomes
from kanarya_inference.server.replies import JSON, Header, Refused, Reply, error
from kanarya_inference.server.settings import ServerSettings
from kanarya_inference.server.store import ModelStore
from kanarya_inference.serving import Scope

log = logging.getLogger(__name__)


class Rows(msgspec.Struct):
    """What a body asks for: n x columns, the bin of each watched column of each row, and what the answer's form needs."""

    matrix: NDArray[np.float32]
    bins: Sequence[Sequence[int]]
    context: Any = None


class Scored(msgspec.Struct):
    """What is answered: scores and labels of a version, the prediction ids (none for a fallback), the server's milliseconds."""

    model: Model
    scores: list[float]
    ids: Sequence[str]
    fallback: str | None
    milliseconds: float

    def label(self, score: float) -> int:
        """Return the label of a score."""
        return int(score >= self.model.artefact.decision_threshold)


class Form(Protocol):
    """How a protocol writes requests and answers. `read` raises `Refused`, `MalformedRequestError` or `SnapshotError`."""

    snapshot_status: int

    def read(self, model: Model, body: bytes) -> Rows:
        """Turn a body into rows of the model's columns."""

    def write(self, rows: Rows, scored: Scored) -> bytes:
        """Turn scores into a body."""


class DataPlane:
    """Answers prediction requests, within limits and budget, and counts them."""

    def __init__(
        self,
        settings: ServerSettings,
        *,
        store: ModelStore,
        counts: Counts,
        outcomes: Outcomes,
        faults: Faults,
        feature_log: FeatureLog | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._store, self._counts, self._outcomes, self._faults, self._feature_log = store, counts, outcomes, faults, feature_log
        self._settings = settings
        self._clock = clock
        self._budget = settings.budget_milliseconds / 1000 or None
        self._admission = Admission(settings, counts, time.monotonic)
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="inference")

    async def answer(self, scope: Scope, receive: Receive, form: Form, version: str | None = None) -> Reply | None:
        """Answer one prediction request; None when the client has gone away."""
        started = self._clock()
        current_scope.set(scope)
        status: Status = "invalid"
        active = self._store.active
        counts = self._counts.of(None) if active is None else active.counts
        headers: tuple[Header, ...] = () if active is None else (active.version_header,)
        try:
            self._admission.enter(scope)
            try:
                body = await read_body(receive)
                model = active if active is not None and version is None else await self._store.get(version)
                counts, headers = model.counts, (model.version_header,)
                rows = form.read(model, body)
                counts.features(rows.bins)
            finally:
                self._admission.leave()
            status = "error"
            if self._faults.on:
                await self._fail_on_demand()
            matrix = rows.matrix
            scores = model.scores(matrix) if model.inline(len(matrix)) else await self._on_thread(model, matrix)
            if scores is not None:
                scored = self._counted(model, rows, scores, started)
                status = "ok"
                return Reply(200, form.write(rows, scored), (JSON, model.version_header))
            scored = self._fallback(model, form, body, len(matrix), started)
            status = "fallback"
            return Reply(200, form.write(rows, scored), (JSON, scored.model.version_header, *_fallback_header(scored)))
        except Refused as refused:
            status = refused.counted
            return error(refused.status, str(refused), (*headers, *refused.headers))
        except BodyError as problem:
            if problem.status is None:
                return None
            return error(problem.status, str(problem), (*headers, *([(b"connection", b"close")] if problem.close else [])))
        except MalformedRequestError as problem:
            return error(400, str(problem), headers)
        except SnapshotError as problem:
            return error(form.snapshot_status, str(problem), headers)
        except Exception:  # whatever fails in a prediction is this request's failure, never the server's
            status = "error"
            self._counts.errors["inference"] += 1
            log.exception("prediction failed")
            return error(500, "the prediction failed; the reason is in the server's log", headers)
        finally:
            counts.request(status, (self._clock() - started) * 1000)

    def close(self) -> None:
        """Take no more work; what runs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _counted(self, model: Model, rows: Rows, scores: list[float], started: float) -> Scored:
        """Count scores and remember them under the ids that clients get."""
        model.counts.score(scores)
        first = self._outcomes.register(model.number, scores)
        id_of = self._outcomes.id_of
        ids = [id_of(first)] if len(scores) == 1 else [id_of(first + index) for index in range(len(scores))]
        if self._feature_log is not None:
            for index, prediction_id in enumerate(ids):
                if self._feature_log.wants(prediction_id):
                    self._feature_log.prediction(model.artefact, prediction_id, rows.matrix[index], rows.bins[index], scores[index])
        return Scored(model, scores, ids, None, (self._clock() - started) * 1000)

    async def _on_thread(self, model: Model, matrix: NDArray[np.float32]) -> list[float] | None:
        """Score on the thread, so that others are answered meanwhile; None at the end of the budget.

        What waits for the thread is then taken back; what it works on is finished for nobody.
        """
        self._counts.queue_depth += 1
        try:
            work = asyncio.get_running_loop().run_in_executor(self._threads, model.scores, matrix)
            return await asyncio.wait_for(work, self._budget)
        except TimeoutError:
            self._counts.errors["budget"] += 1
            return None
        finally:
            self._counts.queue_depth -= 1

    def _fallback(self, model: Model, form: Form, body: bytes, size: int, started: float) -> Scored:
        """Answer without the model. Raises `Refused` when there is nothing to answer with."""
        kind = self._settings.fallback
        if isinstance(kind, float):
            return Scored(model, [kind] * size, (), "constant", (self._clock() - started) * 1000)
        previous = self._store.previous
        if kind == "previous" and previous is not None and previous.inline(size):
            # A body that the earlier version's schema does not fit is no mistake of the client's.
            with contextlib.suppress(Refused, MalformedRequestError, SnapshotError):
                scores = previous.scores(form.read(previous, body).matrix)
                return Scored(previous, scores, (), "previous", (self._clock() - started) * 1000)
        budget = self._settings.budget_milliseconds
        raise Refused(503, f"the prediction would take longer than its budget of {budget:g} ms", counted="error")

    async def _fail_on_demand(self) -> None:
        """Do what the faults ask for. Their latency is like that of a slow network: outside the budget and the queue."""
        if self._faults.latency_milliseconds:
            await asyncio.sleep(self._faults.latency_milliseconds / 1000)
        if self._faults.fails():
            self._counts.errors["injected"] += 1
            raise Refused(500, "injected fault", counted="error")


def _fallback_header(scored: Scored) -> tuple[Header, ...]:
    return () if scored.fallback is None else ((b"x-kanarya-fallback", scored.fallback.encode()),)
