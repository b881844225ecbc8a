"""Real server processes: their log, signals and memory."""

import contextlib
import http.client
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kanarya_inference.server.logs import trace_of
from tests.unit.inference.making import rewritten, slow_model
from tests.unit.inference.support import SNAPSHOT, free_port

pytestmark = pytest.mark.slow

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Process:
    def __init__(self, folder: Path, log: Path, *arguments: str) -> None:
        self.port, self.log = free_port(), log
        command = [sys.executable, "-m", "kanarya_inference.cli", "serve", "--model", str(folder), "--port", str(self.port)]
        with log.open("wb") as stderr:
            self.process = subprocess.Popen([*command, "--listen-host", "127.0.0.1", "--drain-seconds", "0.3", *arguments], stderr=stderr)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            return response.status, json.load(response)

    def until(self, condition: Any) -> None:
        for _ in range(400):
            with contextlib.suppress(ConnectionError):
                if condition():
                    return
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def process(folder: Path, log: Path, *arguments: str) -> Iterator[Process]:
    started = Process(folder, log, *arguments)
    try:
        started.until(lambda: started.call("GET", "/ml/health")[0] == 200)
        yield started
        started.process.terminate()
        assert started.process.wait(10) == 0, log.read_text()
    finally:
        started.process.kill()
        started.process.wait(5)


def test_the_log_names_traces_and_every_change_of_model(baseline: Path, candidate: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(baseline, tmp_path / "model")
    with process(folder, tmp_path / "log", "--model-control", "--fault-control") as server:
        shutil.rmtree(folder)
        shutil.copytree(candidate, folder)
        server.process.send_signal(signal.SIGHUP)
        server.until(lambda: server.call("GET", "/ml/health")[1]["model_version"] == "v1.8.1")
        (folder / "model.onnx").write_bytes(b"")
        status, _ = server.call("POST", "/ml/reload", {}, traceparent=f"00-{TRACE}-{PARENT}-01")
        assert status == 503
        status, answer = server.call("POST", "/ml/predict", {"snapshot": SNAPSHOT})
        assert (status, answer["model_version"]) == (200, "v1.8.1")
    lines = server.lines()
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    audit = [line for line in lines if line.get("event") == "model_change"]
    assert [(line["action"], line["version"], line.get("by"), line.get("previous_version")) for line in audit] == [
        ("activate", "v1.8.0", "start", None),
        ("activate", "v1.8.1", "SIGHUP", "v1.8.0"),
        ("refuse", None, None, None),
    ]
    assert audit[0]["sha256"] == json.loads((baseline / "metadata.json").read_text())["sha256"]["model.onnx"]
    assert (audit[2]["trace_id"], audit[2]["parent_id"]) == (TRACE, PARENT)
    assert "trace_id" not in audit[0]
    assert lines[-1]["message"] == "draining"


def test_memory_stays_small_with_three_models_and_many_predictions(baseline: Path, candidate: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    for name in ("a", "b", "c", "d"):
        rewritten(candidate, repository / name, version=name)
    arguments = ["--repository", str(repository), "--client-rate", "0"]
    with process(baseline, tmp_path / "log", *arguments) as server:
        for _ in range(30):
            assert server.call("POST", "/ml/predict/batch", {"snapshots": [SNAPSHOT] * 1000})[0] == 200
        row = [1, 100, 3, 11, 50, 1]
        body = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 6], "data": row}]}
        for name in ("a", "b", "c", "d") * 3:
            assert server.call("POST", f"/v2/models/model/versions/{name}/infer", body)[0] == 200
        status = (Path("/proc") / str(server.process.pid) / "status").read_text()
    (peak,) = [int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM")]
    assert peak < 256, f"{peak} MiB; the pod has 512"


def test_a_drain_lets_a_slow_prediction_finish(baseline: Path, tmp_path: Path) -> None:
    folder = rewritten(baseline, tmp_path / "slow", version="slow", model=slow_model(6, products=8))
    with process(folder, tmp_path / "log", "--budget-ms", "0") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("POST", "/ml/predict", json.dumps({"snapshot": SNAPSHOT}))
            server.process.send_signal(signal.SIGTERM)
            response = connection.getresponse()
            assert (response.status, json.load(response)["score"]) == (200, 0.5)
        assert server.process.wait(20) == 0


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-brings", True),
        (f"00-{TRACE}-{PARENT}-01-more", False),
        (f"ff-{TRACE}-{PARENT}-01", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{PARENT}-01", False),
        ("", False),
        ("00", False),
    ],
)
def test_trace_context(value: str, valid: bool) -> None:
    found = trace_of({"headers": [(b"traceparent", value.encode())]})
    assert found == ({"trace_id": TRACE, "parent_id": PARENT} if valid else {})


def test_two_trace_contexts_are_none() -> None:
    header = (b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())
    assert trace_of({"headers": [header, header]}) == {}
