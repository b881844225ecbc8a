"""Files that are there whole or not at all, whatever moment the process or the machine stops at, and a lock that dies with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

LOCK_SECONDS = 30.0
POLL_SECONDS = 0.05


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the file, flush to the disk, then take its name."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_flushed(beside, content)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def write_flushed(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the disk has the folder's names."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock file. The kernel lets go of it when the process ends, however it ends. Raises `TimeoutError`.

    On network file systems this needs one whose locks work across machines, such as NFS 4.
    """
    with path.open("a") as file:
        end = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise TimeoutError(f"{path} is held by another writer for more than {seconds:.0f} s") from None
                time.sleep(POLL_SECONDS)
            else:
                break
        yield
