"""The registry on a real folder: stages and lineage, what it refuses, two writers, and writers that are killed."""

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest

from kanarya_inference import cli
from kanarya_inference.registry import ArtefactError, IntegrityError, ParityError, Registry, RegistryError, load_verified

pytestmark = pytest.mark.slow

WRITER = """
import json, sys, onnxruntime
from pathlib import Path
from kanarya_inference.registry import Registry
from kanarya_inference.registry.artefact import write_artefact
root, source, prefix, count = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
registry = Registry(root, "fraud")
print("ready", flush=True)
for number in range(count):
    folder = root / f"source-{prefix}-{number}"
    folder.mkdir(exist_ok=True)
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    metadata = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps({**metadata, "version": f"{prefix}-{number}"}))
    registry.add(folder)
"""


def writer(root: Path, source: Path, prefix: str, count: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", WRITER, str(root), str(source), prefix, str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
    return process


def report(folder: Path, artefact: Path, verdict: str = "PASS", **changes: str) -> Path:
    metadata = json.loads((artefact / "metadata.json").read_text())
    document = {
        "version": metadata["version"],
        "modelSha256": metadata["sha256"]["model.onnx"],
        "verdict": verdict,
        "golden": {"sha256": "0" * 64},
        **changes,
    }
    path = folder / "offline_report.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    ticks = iter(range(1000))
    return Registry(tmp_path / "registry", "fraud", clock=lambda: float(next(ticks)))


def test_versions_stages_and_lineage(registry: Registry, artefacts: Path, tmp_path: Path) -> None:
    assert registry.add(artefacts / "baseline") == "v1.8.0"
    registry.add(artefacts / "candidate", parent="v1.8.0")
    registry.add(artefacts / "drifted", parent="v1.8.1")
    assert registry.lineage("v1.8.3") == ["v1.8.3", "v1.8.1", "v1.8.0"]
    for name, version in (("baseline", "v1.8.0"), ("candidate", "v1.8.1")):
        registry.attach(version, report(tmp_path, artefacts / name))
    assert registry.promote("v1.8.0", "production") == []
    assert registry.promote("v1.8.1", "production") == ["v1.8.0"]
    assert [(version, entry["stage"]) for version, entry in registry.versions().items()] == [
        ("v1.8.0", "archived"),
        ("v1.8.1", "production"),
        ("v1.8.3", "candidate"),
    ]
    assert [one["stage"] for one in registry.entry("v1.8.0")["history"]] == ["candidate", "production", "archived"]
    assert registry.in_stage("production") == ["v1.8.1"]
    assert registry.load_verified("v1.8.1").version == "v1.8.1"
    assert registry.verify() == {}


def test_a_version_never_changes(registry: Registry, artefacts: Path, tmp_path: Path) -> None:
    registry.add(artefacts / "baseline")
    registry.add(artefacts / "baseline")
    other = shutil.copytree(artefacts / "candidate", tmp_path / "other")
    metadata = json.loads((other / "metadata.json").read_text())
    (other / "metadata.json").write_text(json.dumps({**metadata, "version": "v1.8.0"}))
    with pytest.raises(RegistryError, match="a version never changes"):
        registry.add(other)
    assert registry.verify() == {}


def test_production_needs_a_report_that_passed_about_this_very_model(registry: Registry, artefacts: Path, tmp_path: Path) -> None:
    registry.add(artefacts / "baseline")
    with pytest.raises(RegistryError, match=r"no offline report that passed \(verdict: none"):
        registry.promote("v1.8.0", "production")
    registry.attach("v1.8.0", report(tmp_path, artefacts / "baseline", "FAIL"))
    with pytest.raises(RegistryError, match="verdict: FAIL"):
        registry.promote("v1.8.0", "production")
    with pytest.raises(RegistryError, match="not about this v1"):
        registry.attach("v1.8.0", report(tmp_path, artefacts / "baseline", modelSha256="0" * 64))
    with pytest.raises(RegistryError, match="is no offline report"):
        registry.attach("v1.8.0", artefacts / "baseline" / "model.onnx")
    assert registry.promote("v1.8.0", "production", unevaluated=True) == []


@pytest.mark.parametrize("name", ["model.onnx", "reference.json", "parity.json", "metadata.json"])
def test_a_changed_file_is_never_loaded(registry: Registry, artefacts: Path, name: str) -> None:
    registry.add(artefacts / "baseline")
    path = registry.path("v1.8.0") / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(IntegrityError, match="the index says") as caught:
        registry.load_verified("v1.8.0")
    assert caught.value.reason == "ChecksumMismatch"
    assert list(registry.verify()) == ["v1.8.0"]


def other_model(artefacts: Path, folder: Path) -> Path:
    """Exchange the model for another one, with sums that hold: only its scores give it away."""
    import hashlib  # noqa: PLC0415

    shutil.copytree(artefacts / "baseline", folder)
    content = (artefacts / "candidate" / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content)
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["sha256"]["model.onnx"] = hashlib.sha256(content).hexdigest()
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder


def test_a_model_with_other_scores_is_never_loaded(registry: Registry, artefacts: Path, tmp_path: Path) -> None:
    folder = other_model(artefacts, tmp_path / "other")
    with pytest.raises(ParityError, match="differ from training's") as caught:
        load_verified(folder)
    assert caught.value.reason == "ParityMismatch"
    with pytest.raises(ParityError):
        registry.add(folder)
    assert registry.versions() == {}
    assert load_verified(artefacts / "baseline").version == "v1.8.0"


def test_an_artefact_without_a_parity_batch_still_has_to_score(artefacts: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(artefacts / "baseline", tmp_path / "old")
    metadata = json.loads((folder / "metadata.json").read_text())
    del metadata["sha256"]["parity.json"]
    (folder / "metadata.json").write_text(json.dumps(metadata))
    (folder / "parity.json").unlink()
    assert load_verified(folder).parity is None


def test_a_model_that_does_not_load_is_unusable(artefacts: Path, tmp_path: Path) -> None:
    import hashlib  # noqa: PLC0415

    folder = shutil.copytree(artefacts / "baseline", tmp_path / "broken")
    content = onnx.ModelProto().SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["sha256"]["model.onnx"] = hashlib.sha256(content).hexdigest()
    (folder / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(ArtefactError, match="does not work") as caught:
        load_verified(folder)
    assert caught.value.reason == "ArtefactUnusable"


def test_two_writers_lose_nothing(registry: Registry, artefacts: Path, tmp_path: Path) -> None:
    root = tmp_path / "registry"
    root.mkdir()
    both = [writer(root, artefacts / "baseline", prefix, 12) for prefix in ("a", "b")]
    assert [process.wait(120) for process in both] == [0, 0]
    assert set(registry.versions()) == {f"{prefix}-{number}" for prefix in "ab" for number in range(12)}
    assert registry.verify() == {}


def test_a_killed_writer_leaves_a_registry_that_holds(registry: Registry, artefacts: Path, tmp_path: Path) -> None:
    root, rng = tmp_path / "registry", random.Random(4)
    root.mkdir()
    known: set[str] = set()
    for attempt in range(5):
        process = writer(root, artefacts / "baseline", f"k{attempt}", 10_000)
        time.sleep(rng.uniform(0.02, 0.4))
        process.kill()
        process.wait(10)
        assert known <= set(registry.versions())  # what was there once stays
        known = set(registry.versions())
        assert registry.verify() == {}
    registry.add(artefacts / "baseline")
    assert {path.name for path in (root / "fraud" / "versions").iterdir()} >= set(registry.versions())
    assert known
    again = writer(root, artefacts / "baseline", "k0", 10_000)  # the first version may stand there without being named
    time.sleep(0.3)
    again.kill()
    again.wait(10)
    assert registry.verify() == {}


def test_a_held_lock_is_waited_for_and_then_refused(registry: Registry, artefacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kanarya_inference.registry import files, store  # noqa: PLC0415

    registry.add(artefacts / "baseline")
    monkeypatch.setattr(store, "locked", lambda path: files.locked(path, seconds=0.2))
    with files.locked(registry.folder / ".lock"), pytest.raises(RegistryError, match="held by another writer"):
        registry.add(artefacts / "candidate")
    registry.add(artefacts / "candidate")


@pytest.mark.parametrize("name", ["", "../x", "Fraud", "a" * 64])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RegistryError, match="model name"):
        Registry(tmp_path, name)


def test_an_index_of_another_kind_is_refused(registry: Registry) -> None:
    registry.folder.mkdir(parents=True)
    for content in ("[]", "{", '{"schemaVersion": 2, "versions": {}}'):
        (registry.folder / "index.json").write_text(content)
        with pytest.raises(RegistryError):
            registry.versions()


def test_the_command(artefacts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["registry", "--root", str(tmp_path / "registry"), "--name", "fraud"]
    assert cli.main([*command, "add", str(artefacts / "baseline"), "--report", str(report(tmp_path, artefacts / "baseline"))]) == 0
    assert cli.main([*command, "add", str(artefacts / "candidate"), "--parent", "v1.8.0"]) == 0
    assert cli.main([*command, "promote", "v1.8.0"]) == 0
    assert cli.main([*command, "promote", "v1.8.1"]) == 1
    assert "evaluate it" in capsys.readouterr().err
    assert cli.main([*command, "list"]) == 0
    assert [line.split()[:4] for line in capsys.readouterr().out.splitlines()] == [
        ["VERSION", "STAGE", "PARENT", "OFFLINE"],
        ["v1.8.0", "production", "-", "PASS"],
        ["v1.8.1", "candidate", "v1.8.0", "-"],
    ]
    assert cli.main([*command, "show", "v1.8.1"]) == 0
    assert json.loads(capsys.readouterr().out)["lineage"] == ["v1.8.1", "v1.8.0"]
    assert cli.main([*command, "verify"]) == 0
    model = tmp_path / "registry" / "fraud" / "versions" / "v1.8.1" / "model.onnx"
    model.write_bytes(b"")
    assert cli.main([*command, "verify"]) == 1
    assert "v1.8.1: ChecksumMismatch" in capsys.readouterr().out
