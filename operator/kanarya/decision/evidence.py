"""Evidence entries and their hash chain.

Each entry names the one before it by hash: SHA-256 over the entry's canonical JSON (RFC 8785) without its own hash. Whoever has the
last hash can tell whether any entry before it was changed, left out or put in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import rfc8785

from kanarya.decision.state import Chain, Identity, Run

SCHEMA_VERSION = 1
ENTRIES_LIMIT = 512
"""Most entries of one run. Periodic ones stop first, so that decisions always find room."""
RESERVED = 128
"""Entries kept free for decisions."""
GENESIS = "0" * 64


def digest(document: Any) -> str:
    """Give the SHA-256 of a JSON document's canonical form, in hex."""
    return sha256(rfc8785.dumps(document)).hexdigest()


def run_started(run: Run, whole: Mapping[str, Any], *, stable: Identity | None, replicas: int) -> dict[str, Any]:
    """Give what the first entry of a run says: `whole` is the part of the spec that it keeps to, in its JSON form."""
    return {
        "run": run.id,
        "spec": whole,
        "specDigest": digest(whole),
        "candidate": run.candidate.model_dump(mode="json"),
        "stable": None if stable is None else stable.model_dump(mode="json"),
        "replicas": replicas,
    }


def append(chain: Chain, kind: str, at: float, data: Mapping[str, Any], *, periodic: bool = False) -> Chain:
    """Append an entry to the chain's outbox; returns the chain unchanged once it is full."""
    if chain.sequence >= (ENTRIES_LIMIT - RESERVED if periodic else ENTRIES_LIMIT):
        return chain
    entry: dict[str, Any] = {"sequence": chain.sequence + 1, "at": at, "kind": kind, "previous": chain.head or GENESIS, **data}
    entry["hash"] = digest(entry)
    return chain.model_copy(update={"sequence": chain.sequence + 1, "head": entry["hash"], "outbox": (*chain.outbox, entry)})


def first_break(entries: Sequence[Mapping[str, Any]]) -> str | None:
    """Give a sentence on the first entry that does not fit the chain, None when all do."""
    previous = GENESIS
    for position, entry in enumerate(entries, start=1):
        if entry.get("sequence") != position:
            return f"entry {position} has sequence {entry.get('sequence')}: an entry is missing or out of order"
        if entry.get("previous") != previous:
            return f"entry {position} does not follow the entry before it"
        previous = digest({key: value for key, value in entry.items() if key != "hash"})
        if entry.get("hash") != previous:
            return f"entry {position} was changed after it was written"
    return None
