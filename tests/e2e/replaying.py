"""Deciding a run again from what the cluster's Prometheus has stored, with the command that users have."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from examples import lab

FORWARDED = re.compile(r"Forwarding from (127\.0\.0\.1:\d+)")
PATIENCE_SECONDS = 120


def check_replay(service: lab.ModelService, entries: Sequence[Mapping[str, Any]]) -> None:
    """Check that `kanarya replay` makes every decision of a recorded run again, at the look at which it was made."""
    with tempfile.TemporaryDirectory() as folder, prometheus_forwarded() as url:
        rollout, recorded, written = (Path(folder) / name for name in ("rollout.json", "recorded.json", "again.json"))
        rollout.write_text(json.dumps(lab.get(service.namespace, "mlr", service.name)))
        recorded.write_text(json.dumps(entries))
        command = [
            sys.executable, "-m", "kanarya.cli.main", "replay", "--rollout", str(rollout), "--prometheus", url,
            "--scrape-interval", str(lab.SCRAPE_SECONDS), "--evidence", str(recorded), "--write", str(written),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr
        lab.run(sys.executable, "-m", "kanarya.cli.main", "evidence", "verify", str(written))


@contextmanager
def prometheus_forwarded() -> Iterator[str]:
    """Give the address of the cluster's Prometheus on this machine."""
    command = ["kubectl", "port-forward", "-n", "monitoring", "deployment/prometheus", ":9090", "--address", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forwarding:
        try:
            assert forwarding.stdout is not None
            found = FORWARDED.search(forwarding.stdout.readline())
            assert found is not None, "kubectl port-forward did not start"
            yield f"http://{found[1]}"
        finally:
            forwarding.terminate()
            forwarding.wait(timeout=10)
