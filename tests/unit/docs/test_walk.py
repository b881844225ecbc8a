"""The walk from a table to a registered model: its blocks are run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs/how-to/train-and-evaluate.md"


@pytest.mark.slow
def test_the_walk_works_by_copy_and_paste(tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 7
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", "\n".join(blocks)],
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
