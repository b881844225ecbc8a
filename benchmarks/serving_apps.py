"""What the inference server is measured against, each a process of its own: `python -m benchmarks.serving_apps KIND FOLDER PORT`.

`floor`
    the least that serves this model: a plain ASGI function with the same JSON library, the same ONNX session and the same uvicorn. It
    checks nothing, counts nothing, and knows no other path.
`echo`
    the floor without JSON and model: what HTTP itself costs.
`bare`
    our server with metrics and drift counting taken out.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import uvicorn
import uvloop

from kanarya_inference.server.app import InferenceApp
from kanarya_inference.server.counts import VersionCounts
from kanarya_inference.server.settings import ServerSettings
from kanarya_inference.serving import AsgiApp, Drain, Listener, Receive, Scope, Send, serve

HEADERS = [(b"content-type", b"application/json")]


class FloorTensor(msgspec.Struct):
    """A tensor, unchecked."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class FloorRequest(msgspec.Struct):
    """A request, unchecked."""

    inputs: list[FloorTensor]


class FloorAnswer(msgspec.Struct):
    """An answer."""

    model_name: str
    model_version: str
    outputs: list[FloorTensor]


async def body_of(receive: Receive) -> bytes:
    """Read a whole body."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def respond(send: Send, body: bytes) -> None:
    """Send a 200."""
    headers = [*HEADERS, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def floor(folder: Path) -> AsgiApp:
    """Make the floor."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    decoder, encoder = msgspec.json.Decoder(FloorRequest), msgspec.json.Encoder()

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        tensor = decoder.decode(await body_of(receive)).inputs[0]
        rows = np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
        scores = session.run(["probabilities"], {"features": rows})[0][:, 1].tolist()
        await respond(send, encoder.encode(FloorAnswer("model", "v1", [FloorTensor("score", [len(scores)], "FP32", scores)])))

    return app


def echo(_: Path) -> AsgiApp:
    """Make an application that answers a fixed text of a usual length."""
    body = b'{"model_name":"model","model_version":"v1","outputs":[{"name":"score","shape":[1],"datatype":"FP32","data":[0.523]}]}'

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await body_of(receive)
        await respond(send, body)

    return app


class Uncounted(VersionCounts):
    """Counts nothing."""

    def request(self, *_: Any) -> None:
        """Do nothing."""

    def features(self, *_: Any) -> None:
        """Do nothing."""

    def score(self, *_: Any) -> None:
        """Do nothing."""


def bare(folder: Path) -> InferenceApp:
    """Make our server without counting."""
    app = InferenceApp(folder, ServerSettings(client_rate=0))
    app.load()
    if (model := app.store.active) is None:
        raise SystemExit(f"{folder} cannot be served: {app.store.problem}")
    model.counts.__class__ = Uncounted
    return app


def main(arguments: Sequence[str]) -> None:
    """Serve on loopback until SIGTERM."""
    kind, folder, port = arguments
    if kind == "bare":
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve([Listener(bare(Path(folder)), int(port), "127.0.0.1")], drain=Drain(), drain_seconds=0))
        return
    app = {"floor": floor, "echo": echo}[kind](Path(folder))
    uvicorn.run(
        app, host="127.0.0.1", port=int(port), http="httptools", loop="uvloop", ws="none", lifespan="off", access_log=False,
        server_header=False, date_header=False, log_level="warning",
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
