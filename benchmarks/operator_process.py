"""The operator as a process of this machine, with the rights of its service account in the cluster."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from examples import lab

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class OperatorProcess:
    """`kanarya operator`, limited to one namespace, reading the Prometheus at `source`.

    It signs in with a token of the operator's own service account, so that the API server's rules for it (permissions, priority and
    fairness) hold here as in its pod.
    """

    def __init__(self, folder: Path, namespace: str, source: str, scrape_seconds: float) -> None:
        config, kubeconfig = folder / "operator.yaml", folder / "kubeconfig"
        sources = {"default": {"url": source, "scrapeIntervalSeconds": scrape_seconds, "timeoutSeconds": 5}}
        config.write_text(yaml.safe_dump({"sources": sources}))
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(json.dumps(_kubeconfig()))
        self.log = folder / "operator.log"
        command = [str(Path(sys.executable).with_name("kanarya")), "operator", "--config", str(config), "--kubeconfig", str(kubeconfig)]
        command += ["--namespace", namespace, "--port", str(_free_port())]
        if os.environ.get("KANARYA_PROFILE"):  # where the time goes: python -m pstats build/out/operator.prof
            command = [sys.executable, "-m", "cProfile", "-o", os.environ["KANARYA_PROFILE"], *command]
        environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
        with self.log.open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)  # noqa: S603

    def check(self) -> None:
        """Raise `RuntimeError`, with the end of its log, when it has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the operator ended with {self._process.returncode}:\n{self.log.read_text()[-2000:]}")

    def cpu_seconds(self) -> float:
        """Give the processor time it has used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def peak_mebibytes(self) -> float:
        """Give the most memory it has held so far."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    def stop(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _kubeconfig() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    token = lab.kubectl("create", "token", "kanarya", "-n", lab.OPERATOR_NAMESPACE, "--duration=1h").strip()
    for user in found["users"]:
        user["user"] = {"token": token}
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
