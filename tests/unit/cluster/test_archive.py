"""The image archives."""

import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest

from tests.cluster.archive import File, Folder, Image, Link, write


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program-1.2"
    path.write_bytes(b"\x7fELF")
    return path


def image_of(program: Path) -> Image:
    return Image(
        "kanarya/thing:dev",
        (File(program, "/usr/bin/thing"), Link("/usr/bin/alias", "thing"), Folder("/data", mode=0o1777)),
        entrypoint=("/usr/bin/thing",),
        user="65534",
        labels=(("made-with", "a"),),
    )


def test_same_content_gives_the_same_bytes_whatever_its_age_and_the_order(program: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.tar", tmp_path / "second.tar"
    image = image_of(program)
    write(image, first, tmp_path)
    os.utime(program, (1, 1))
    write(Image(image.name, image.entries[::-1], image.entrypoint, image.user, labels=image.labels), second, tmp_path)
    assert first.read_bytes() == second.read_bytes()


def test_an_archive_describes_its_layer(program: Path, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    write(image_of(program), archive, tmp_path)
    with tarfile.open(archive) as tar:

        def read(name: str) -> bytes:
            content = tar.extractfile(name)
            assert content is not None
            return content.read()

        (manifest,) = json.loads(read("manifest.json"))
        config = json.loads(read(manifest["Config"]))
        layer = read(manifest["Layers"][0])
    assert manifest["RepoTags"] == ["kanarya/thing:dev"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert config["config"]["User"] == "65534"
    assert config["config"]["Labels"] == {"made-with": "a"}


def test_a_layer_has_every_folder_once_and_before_what_is_in_it(program: Path, tmp_path: Path) -> None:
    archive, layer = tmp_path / "image.tar", tmp_path / "layer.tar"
    write(image_of(program), archive, tmp_path)
    with tarfile.open(archive) as tar:
        content = tar.extractfile(next(name for name in tar.getnames() if name.endswith("layer.tar")))
        assert content is not None
        layer.write_bytes(content.read())
    with tarfile.open(layer) as tar:
        members = {member.name: member for member in tar}
        assert tar.getnames() == ["data", "usr", "usr/bin", "usr/bin/alias", "usr/bin/thing"]
    assert members["data"].mode == 0o1777
    assert members["usr/bin/alias"].linkname == "thing"
    assert {member.mtime for member in members.values()} == {0}


def test_a_link_to_a_library_becomes_its_content(program: Path, tmp_path: Path) -> None:
    link = tmp_path / "program"
    link.symlink_to(program.name)
    by_link, direct = tmp_path / "link.tar", tmp_path / "direct.tar"
    write(Image("a:b", (File(link, "/p"),)), by_link, tmp_path)
    write(Image("a:b", (File(program, "/p"),)), direct, tmp_path)
    assert by_link.read_bytes() == direct.read_bytes()
