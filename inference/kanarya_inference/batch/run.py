"""Scores a file in chunks on both cores, and goes on where it was stopped.

What a killed run and the next one write together is, byte for byte, what one run would have written.
Results are appended in the input's order to `<out>.partial` and `<bad>.partial`; a checkpoint names their sizes after they are on
the disk. The next run cuts both back to it. At the end the files take their names, and the checkpoint goes.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

import msgspec
import pyarrow as pa
from pyarrow import csv, parquet

from kanarya_inference.batch.scoring import ChunkScorer, Scored, as_arrow, as_csv, as_lines, numbered
from kanarya_inference.batch.source import Chunk, Source, open_source
from kanarya_inference.features.tables import TableError
from kanarya_inference.registry import Artefact, load_verified, onnx_scorer
from kanarya_inference.registry.files import flush_folder, locked, write_atomically

CHECKPOINT_VERSION = 1
CHECKPOINT_SECONDS = 2.0
CHUNK_ROWS = 65_536
IDENTITY_BYTES = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """How far a run has come; `identity` says of which input, model and settings."""

    identity: str
    position: int = 0
    rows: int = 0
    bad: int = 0
    out_bytes: int = 0
    bad_bytes: int = 0
    scored: bool = False
    """Whether all that is left to do is to give the files their names."""


@dataclass(frozen=True)
class Job:
    """What to score and where to; `bad` takes the bad rows, `keep` names columns that are copied to the output."""

    artefact: Path
    source: Path
    out: Path
    bad: Path
    keep: tuple[str, ...] = ()
    workers: int = 2


Progress = Callable[[Checkpoint, Source], None]


def run(job: Job, progress: Progress = lambda *_: None) -> Checkpoint:
    """Score the file; returns the last counts. Raises `TableError`, `ArtefactError`, `OSError`.

    A second run of the same output waits for the first one's lock and is refused.
    """
    for path in (job.out, job.bad):
        path.parent.mkdir(parents=True, exist_ok=True)
    with locked(_beside(job.out, "lock"), seconds=1.0):
        done = _run(job, progress)
    _beside(job.out, "lock").unlink(missing_ok=True)
    return done


def _run(job: Job, progress: Progress) -> Checkpoint:
    artefact = load_verified(job.artefact)
    source = open_source(job.source)
    scorer = ChunkScorer(artefact, onnx_scorer(artefact), source, job.keep)
    state = _resume(job, _identity(job, artefact, source))
    progress(state, source)
    if not state.scored:
        with _partial(job.out, state.out_bytes) as out, _partial(job.bad, state.bad_bytes) as bad:
            state = _append(job, scorer, source, state, out=out, bad=bad, progress=progress)
            state = _save(job, replace(state, scored=True), out, bad)
    _finish(job)
    return state


def _append(
    job: Job, scorer: ChunkScorer, source: Source, state: Checkpoint, *, out: BinaryIO, bad: BinaryIO, progress: Progress
) -> Checkpoint:
    schema = numbered(scorer.score(source.empty).table, 0).schema
    write = as_arrow if _to_parquet(job) else as_csv
    if out.tell() == 0:
        out.write(_head(schema, arrow=_to_parquet(job)))
    saved = time.monotonic()
    for chunk, scored in _in_order(scorer, source, state.position, job.workers):
        out.write(write(numbered(scored.table, state.rows).cast(schema)))
        bad.write(as_lines([(state.rows + row + 1, reason) for row, reason in scored.bad]))
        state = replace(state, position=chunk.position, rows=state.rows + scored.rows, bad=state.bad + len(scored.bad))
        if time.monotonic() - saved >= CHECKPOINT_SECONDS:
            state = _save(job, state, out, bad)
            saved = time.monotonic()
        progress(state, source)
    return state


def _in_order(scorer: ChunkScorer, source: Source, position: int, workers: int) -> Iterator[tuple[Chunk, Scored]]:
    """Score chunks on several threads and give them back in the input's order; few are held at a time."""
    chunks = source.chunks(position, CHUNK_ROWS)
    waiting: deque[tuple[Chunk, Future[Scored]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for chunk in chunks:
            waiting.append((chunk, pool.submit(scorer.score, chunk.content)))
            if len(waiting) > workers:
                ready, future = waiting.popleft()
                yield ready, future.result()
        while waiting:
            ready, future = waiting.popleft()
            yield ready, future.result()


def _identity(job: Job, artefact: Artefact, source: Source) -> str:
    """Sum up what the output depends on: the model, the settings, and the input by size, time of change, first and last megabyte."""
    stat = job.source.stat()
    digest = hashlib.sha256()
    with job.source.open("rb") as file:
        digest.update(file.read(IDENTITY_BYTES))
        file.seek(max(0, stat.st_size - IDENTITY_BYTES))
        digest.update(file.read(IDENTITY_BYTES))
    settings = [artefact.model_sha256, artefact.reference_sha256, artefact.version, source.columns, job.keep, _to_parquet(job)]
    digest.update(json.dumps([CHUNK_ROWS, stat.st_size, stat.st_mtime_ns, *settings]).encode())
    return digest.hexdigest()


def _resume(job: Job, identity: str) -> Checkpoint:
    try:
        document = msgspec.json.decode(_beside(job.out, "checkpoint").read_bytes())
    except FileNotFoundError:
        return Checkpoint(identity)
    version = document.pop("schemaVersion", None)
    if version != CHECKPOINT_VERSION or document.get("identity") != identity:
        raise TableError(f"{_beside(job.out, 'checkpoint')} is of a run with another input, model or setting: delete it to begin anew")
    return Checkpoint(**document)


def _save(job: Job, state: Checkpoint, out: BinaryIO, bad: BinaryIO) -> Checkpoint:
    for file in (out, bad):
        file.flush()
        os.fsync(file.fileno())
    state = replace(state, out_bytes=out.tell(), bad_bytes=bad.tell())
    document = {"schemaVersion": CHECKPOINT_VERSION, **asdict(state)}
    write_atomically(_beside(job.out, "checkpoint"), json.dumps(document).encode())
    return state


def _partial(path: Path, size: int) -> BinaryIO:
    file = _beside(path, "partial").open("r+b" if size else "w+b")
    file.truncate(size)
    file.seek(size)
    return file


def _head(schema: pa.Schema, *, arrow: bool) -> bytes:
    if arrow:
        return bytes(schema.serialize().to_pybytes())
    target = pa.BufferOutputStream()
    csv.write_csv(schema.empty_table(), target)
    return bytes(target.getvalue().to_pybytes())


def _finish(job: Job) -> None:
    """Give the files their names. Each step may have been done by a run that was killed; the checkpoint goes last."""
    out, bad = _beside(job.out, "partial"), _beside(job.bad, "partial")
    if out.exists() and _to_parquet(job):
        target = _beside(job.out, "parquet-partial")
        _to_parquet_file(out, target)
        target.replace(job.out)
        out.unlink()
    elif out.exists():
        out.replace(job.out)
    if bad.exists():
        bad.replace(job.bad)
    flush_folder(job.out.parent)
    _beside(job.out, "checkpoint").unlink()


def _to_parquet_file(stream: Path, target: Path) -> None:
    with stream.open("rb") as file, pa.ipc.open_stream(file) as reader, parquet.ParquetWriter(target, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


def _to_parquet(job: Job) -> bool:
    return job.out.suffix.lower() == ".parquet"


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{ending}")
