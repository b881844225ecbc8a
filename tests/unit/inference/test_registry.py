import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kanarya_inference.registry import ArtefactError, IntegrityError, check_version, read_artefact
from kanarya_inference.registry import artefact as registry


@pytest.fixture
def copy(baseline: Path, tmp_path: Path) -> Path:
    return shutil.copytree(baseline, tmp_path / "copy")


def change_metadata(folder: Path, **changes: Any) -> None:
    path = folder / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_reads_what_training_wrote(baseline: Path) -> None:
    artefact = read_artefact(baseline)
    assert artefact.version == "v1.8.0"
    assert artefact.model == (baseline / "model.onnx").read_bytes()
    sums = {"model.onnx": artefact.model_sha256, "reference.json": artefact.reference_sha256}
    parity = hashlib.sha256((baseline / "parity.json").read_bytes()).hexdigest()
    assert artefact.metadata["sha256"] == {**sums, "parity.json": parity}


def test_reads_a_configmap_mount_whose_files_are_links(baseline: Path, tmp_path: Path) -> None:
    settled = shutil.copytree(baseline, tmp_path / "mount" / "..2026_11_21")
    mount = settled.parent
    (mount / "..data").symlink_to(settled.name)
    for file in settled.iterdir():
        (mount / file.name).symlink_to(f"..data/{file.name}")
    assert read_artefact(mount) == read_artefact(baseline)


def test_an_update_of_the_mount_halfway_cannot_mix_two_versions(artefacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = tmp_path / "mount"
    for name in ("baseline", "candidate"):
        shutil.copytree(artefacts / name, mount / f"..{name}")
    (mount / "..data").symlink_to("..baseline")
    read = registry._read

    def read_then_swap(folder: Path, name: str, limit: int) -> bytes:
        content = read(folder, name, limit)
        (mount / "..data").unlink()
        (mount / "..data").symlink_to("..candidate")
        return content

    monkeypatch.setattr(registry, "_read", read_then_swap)
    assert read_artefact(mount).version == "v1.8.0"


@pytest.mark.parametrize("name", ["model.onnx", "reference.json", "parity.json", "metadata.json"])
def test_a_file_that_is_left_out_is_refused(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ArtefactError, match=rf"{name} cannot be read"):
        read_artefact(copy)


@pytest.mark.parametrize("name", ["model.onnx", "reference.json"])
def test_a_changed_file_is_refused(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=f"{name} has sha256 .* says .* not the one that was trained"):
        read_artefact(copy)


@pytest.mark.parametrize("sums", [None, {}, {"model.onnx": 3}])
def test_an_artefact_without_sums_is_refused(copy: Path, sums: Any) -> None:
    change_metadata(copy, sha256=sums)
    with pytest.raises(IntegrityError, match="no sha256"):
        read_artefact(copy)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "metadata.json").unlink(), "metadata.json cannot be read: No such file"),
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx cannot be read"),
        (lambda folder: (folder / "metadata.json").write_text("{"), "metadata.json is not JSON"),
        (lambda folder: (folder / "metadata.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "metadata.json").write_bytes(b" " * (1 << 20) + b"{}"), "more than 1048576 bytes"),
        (lambda folder: change_metadata(folder, schemaVersion=2), "schema version 2 is unknown"),
        (lambda folder: change_metadata(folder, version="v 1"), "cannot be a label"),
        (lambda folder: change_metadata(folder, decisionThreshold=1), "between 0 and 1"),
        (lambda folder: change_metadata(folder, features={}), "schema version None is unknown"),
    ],
)
def test_an_unusable_folder_is_refused_with_a_reason(copy: Path, spoil: Callable[[Path], Any], sentence: str) -> None:
    spoil(copy)
    with pytest.raises(ArtefactError, match=sentence) as caught:
        read_artefact(copy)
    assert not isinstance(caught.value, IntegrityError)


@pytest.mark.parametrize("version", ["v1.8.0", "1", "a" * 63, "2026-11-21_b"])
def test_versions_that_can_be_labels(version: str) -> None:
    assert check_version(version) == version


@pytest.mark.parametrize("version", ["", "-v1", "v1.", "v1\r\nx: y", "a" * 64, "ü", None, 1, "v1\n"])
def test_versions_that_cannot(version: Any) -> None:
    with pytest.raises(ArtefactError):
        check_version(version)
