"""Writing container images without a container engine: a docker archive with one layer, the same bytes for the same files."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

PATH_VARIABLE = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COPY_CHUNK = 1 << 20


@dataclass(frozen=True)
class File:
    """A file of the image, read from here."""

    source: Path
    target: str
    mode: int = 0o755


@dataclass(frozen=True)
class Link:
    """A symbolic link of the image."""

    target: str
    to: str


@dataclass(frozen=True)
class Folder:
    """A folder of the image that must be there though nothing is in it, or that needs another mode."""

    target: str
    mode: int = 0o755


Entry = File | Link | Folder


@dataclass(frozen=True)
class Image:
    """An image to be: its name, its entries, and how its process starts."""

    name: str
    entries: tuple[Entry, ...]
    entrypoint: tuple[str, ...] = ()
    user: str = ""
    environment: tuple[str, ...] = (PATH_VARIABLE,)
    labels: tuple[tuple[str, str], ...] = ()


def write(image: Image, archive: Path, scratch: Path) -> None:
    """Write the image as an archive that `docker load` and `ctr images import` read.

    Times, owners and the order of entries are fixed: the image's id depends on nothing but what the caller put in.
    """
    layer = scratch / f"{archive.name}.layer"
    with layer.open("wb") as out:
        write_layer(image.entries, out)
    digest = _sha256(layer)
    process = {
        "Env": list(image.environment),
        "Entrypoint": list(image.entrypoint) or None,
        "User": image.user,
        "Labels": dict(image.labels),
    }
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": process,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        },
        sort_keys=True,
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    layer_name = f"{digest}/layer.tar"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [image.name], "Layers": [layer_name]}]).encode()
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in ((config_name, config), ("manifest.json", manifest)):
            tar.addfile(_entry(name, size=len(content)), io.BytesIO(content))
        with layer.open("rb") as content_of_layer:
            tar.addfile(_entry(layer_name, size=layer.stat().st_size), content_of_layer)
    layer.unlink()


def write_layer(entries: tuple[Entry, ...], out: IO[bytes]) -> None:
    """Write the entries, and the folders above them, as a tar stream."""
    by_target = {str(PurePosixPath(entry.target.lstrip("/"))): entry for entry in entries}
    folders = {str(parent) for target in by_target for parent in PurePosixPath(target).parents} - {"."}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for target in sorted(folders | by_target.keys()):
            match by_target.get(target):
                case None:
                    tar.addfile(_entry(target, kind=tarfile.DIRTYPE, mode=0o755))
                case Folder(mode=mode):
                    tar.addfile(_entry(target, kind=tarfile.DIRTYPE, mode=mode))
                case Link(to=to):
                    tar.addfile(_entry(target, kind=tarfile.SYMTYPE, mode=0o777, link=to))
                case File(source=source, mode=mode):
                    # A library is often a link to its versioned name; the image gets the content under the name that is asked for.
                    source = source.resolve()
                    with source.open("rb") as content:
                        tar.addfile(_entry(target, size=source.stat().st_size, mode=mode), content)


def _entry(name: str, *, kind: bytes = tarfile.REGTYPE, size: int = 0, mode: int = 0o644, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode, info.linkname = kind, size, mode, link
    return info


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(COPY_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
