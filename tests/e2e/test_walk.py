"""The walk of the documentation, from a table to a promoted version on a cluster: the blocks of both pages, as they stand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples import lab
from tests.e2e.conftest import check_evidence, dump, no_client_error, weights_entered
from tests.unit.docs.walk import CLUSTER, TABLE, blocks

NAMESPACE = "walk"
"""As in the page."""
WALK_SECONDS = 900


@pytest.mark.usefixtures("laboratory")
@pytest.mark.alone  # the page installs the operator with values of its own
def test_a_table_becomes_a_rollout_by_copy_and_paste(tmp_path: Path) -> None:
    service = lab.ModelService(namespace=NAMESPACE, models=tmp_path)
    lab.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
    try:
        written = walk(tmp_path, "\n".join([*blocks(TABLE), *blocks(CLUSTER)]))
        check(service, written)
    except BaseException:
        dump(service, "walk")
        raise
    finally:
        service.delete()
        lab.install_operator()


def walk(folder: Path, script: str) -> str:
    """Run the blocks in an empty folder, as a reader does; gives what they write."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "KANARYA": str(lab.ROOT),
        "OMP_NUM_THREADS": "1",
    }
    with (folder.parent / "walk.log").open("w+", encoding="utf-8") as log:
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=WALK_SECONDS,
            check=False,
        )
        log.seek(0)
        written = log.read()
    assert done.returncode == 0, written[-5000:]
    return written


def check(service: lab.ModelService, written: str) -> None:
    """Check that the release was what the page says."""
    assert "every verdict the same when judged again" in written
    assert "fraud v1.9.0 is in stage production; archived: v1.8.0" in written
    (entry,) = service.status()["history"]
    assert (entry["version"], entry["outcome"], entry["reason"]) == ("v1.9.0", "Succeeded", "Promoted")
    entries = check_evidence(service, entry["run"])
    assert weights_entered(entries) == [10, 50, 100]
    assert (entries[0]["offlineReport"]["version"], entries[0]["offlineReport"]["verdict"]) == ("v1.9.0", "PASS")
    assert set(service.stats()["by_version"]) == {"v1.8.0", "v1.9.0"}
    no_client_error(service)
