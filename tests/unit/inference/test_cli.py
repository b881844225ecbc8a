import contextlib
import http.client
import json
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pytest

from kanarya_inference import cli
from kanarya_inference.server import command as serve_command
from kanarya_inference.server.settings import ServerSettings
from tests.unit.inference.support import SNAPSHOT, free_port

pytestmark = pytest.mark.slow


def test_train_writes_an_artefact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--out", str(tmp_path / "new"), "--version", "v2", "--rows", "500", "--kind", "drifted"]) == 0
    assert "drifted model v2 from 500 rows" in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "new").iterdir()} == {"model.onnx", "reference.json", "parity.json", "metadata.json"}


def test_serving_needs_none_of_the_libraries_that_its_image_leaves_out() -> None:
    absent = ["scipy", "rich", "pygments", "markdown_it", "sklearn", "pandas", "matplotlib", "pyarrow", "kopf", "httpx"]
    modules = "kanarya_inference.router.main, kanarya_inference.server.command, kanarya_inference.load, kanarya_inference.cli"
    script = f"import sys; sys.modules.update(dict.fromkeys({absent!r})); import {modules}"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_train_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--out", str(tmp_path), "--version", "v 2"]) == 1
    assert "cannot be a label" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert cli.main(["train", "--out", str(tmp_path / "file"), "--version", "v2", "--rows", "500"]) == 1
    assert "File exists" in capsys.readouterr().err


def test_train_without_its_libraries_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train", "convert"):
        monkeypatch.delitem(sys.modules, f"kanarya_inference.training.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    assert cli.main(["train", "--out", str(tmp_path), "--version", "v2"]) == 2
    assert capsys.readouterr().err == (
        "kanarya-ml train needs skl2onnx, which the training extra brings: pip install 'kanarya[training]'\n"
    )


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["--help"]])
def test_without_a_command_it_names_them(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == (0 if arguments == ["--help"] else 2)
    output = "".join(capsys.readouterr())
    if arguments != []:
        assert all(command in output for command in ("train", "serve", "router", "load"))


def test_faults_can_be_set_by_the_environment() -> None:
    parser = ArgumentParser()
    serve_command.add_arguments(
        parser, env={"KANARYA_FAULT_LATENCY_MS": "800", "KANARYA_FAULT_ERROR_RATE": "0.2", "KANARYA_FAULT_SEED": "3"}
    )
    args = parser.parse_args(["--model", "m"])
    assert (args.fault_latency_ms, args.fault_error_rate, args.fault_seed) == (800.0, 0.2, 3)
    assert parser.parse_args(["--model", "m", "--fault-latency-ms", "1"]).fault_latency_ms == 1
    assert (args.port, args.drain_seconds, args.listen_host) == (4010, 5.0, None)


def test_a_fault_setting_that_is_no_number_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser()
    serve_command.add_arguments(parser, env={"KANARYA_FAULT_ERROR_RATE": "often"})
    with pytest.raises(SystemExit):
        parser.parse_args(["--model", "m"])
    assert "'often'" in capsys.readouterr().err


def test_serve_refuses_senseless_faults(baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--model", str(baseline), "--fault-error-rate", "2"]) == 2
    assert "the fault error rate is a share" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("--queue=-1", "the queue is -1"),
        ("--name=a/b", "the model's name"),
        ("--feature-log=- --feature-log-share=2", "share of the feature log"),
    ],
)
def test_serve_refuses_senseless_settings(baseline: Path, capsys: pytest.CaptureFixture[str], argument: str, sentence: str) -> None:
    assert cli.main(["serve", "--model", str(baseline), *argument.split()]) == 2
    assert sentence in capsys.readouterr().err


def test_a_fallback_that_is_none_is_refused(baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["serve", "--model", str(baseline), "--fallback", "constant:2"])
    assert "is no fallback" in capsys.readouterr().err


def test_the_defaults_of_the_command_are_those_of_the_settings() -> None:
    parser = ArgumentParser()
    serve_command.add_arguments(parser, env={})
    assert serve_command.settings_of(parser.parse_args(["--model", "m"])) == ServerSettings()


def test_serving_imports_no_training_and_no_kubernetes_library() -> None:
    script = (
        "import sys, kanarya_inference.cli, kanarya_inference.server.command\n"
        "print([name for name in ('sklearn', 'pandas', 'scipy', 'skl2onnx', 'onnx', 'kubernetes', 'aiohttp') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"


def call(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, json.load(response)


def until_ready(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(ConnectionError):
            status, health = call(port, "GET", "/ml/health")
            if status == 200:
                return
            assert status == 503
            assert "being loaded" in health["reason"]
        time.sleep(0.05)
    raise AssertionError("the server never became ready")


def test_the_real_process_becomes_ready_predicts_and_drains(baseline: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "kanarya_inference.cli", "serve", "--model", str(baseline), "--port", str(port)]
    process = subprocess.Popen([*command, "--drain-seconds", "0.5"], stderr=subprocess.PIPE)
    try:
        until_ready(port)
        process.send_signal(signal.SIGTERM)
        status, answer = call(port, "POST", "/ml/predict", json.dumps({"snapshot": SNAPSHOT}).encode())
        assert (status, answer["model_version"]) == (200, "v1.8.0")
        _, log = process.communicate(timeout=10)
        assert process.returncode == 0, log
        assert b"model v1.8.0 loaded" in log
    finally:
        process.kill()
        process.wait(5)
