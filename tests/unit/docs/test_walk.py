"""The walk from a table to a registered model: its blocks are run as they stand. Those that need a cluster: tests/e2e/test_walk.py."""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from kanarya.api.rollout import parse_spec
from kanarya_inference import load
from tests.unit.charts.chart import Chart
from tests.unit.docs.walk import CLUSTER, TABLE, blocks, files

MOST_BYTES = 700_000
"""A ConfigMap holds 1 MiB, and what is binary grows by a third in its text form."""


@pytest.mark.slow
def test_the_walk_works_by_copy_and_paste(tmp_path: Path) -> None:
    assert len(blocks(TABLE)) == 7
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", "\n".join(blocks(TABLE))],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS v1.8.0" in done.stdout
    assert re.search(r"v1.8.0 +production +- +PASS", done.stdout)
    assert re.search(r"v1.9.0 +candidate +v1.8.0 +PASS", done.stdout)
    assert (tmp_path / "scores.csv").read_text().count("\n") == 1001
    assert (tmp_path / "report-v1.8.0" / "offline_report.html").exists()
    # The next page makes ConfigMaps of these.
    for version in ("v1.8.0", "v1.9.0"):
        folder = tmp_path / "registry/fraud/versions" / version
        assert json.loads((folder / "offline_report.json").read_text())["verdict"] == "PASS"
        assert sum(path.stat().st_size for path in folder.iterdir()) < MOST_BYTES
    assert (tmp_path / "golden.csv").stat().st_size < MOST_BYTES


def test_the_walk_on_a_cluster_is_a_script_that_the_chart_and_the_programs_take() -> None:
    """All that can be seen of it without a cluster: nothing here is run."""
    assert len(blocks(CLUSTER)) == 6
    script = "\n".join(blocks(CLUSTER))
    subprocess.run(["bash", "-n", "-c", script], check=True, timeout=10)
    values, pod = (yaml.safe_load(text) for text in files(CLUSTER))
    jsonschema.validate(values, Chart("inference").schema)
    spec = parse_spec({"targetRef": {"name": "fraud"}, "serviceRef": {"name": "fraud"}, **values["rollout"]["spec"]})
    assert spec.analysis.offline_report == "Required"
    command = pod["spec"]["containers"][0]["command"]
    assert command[:2] == ["kanarya-ml", "load"]
    parser = argparse.ArgumentParser()
    load.add_arguments(parser)
    parser.parse_args(command[2:])
    assert set(re.findall(r"-n (\S+)", script)) == {"walk", "kanarya-system"}
