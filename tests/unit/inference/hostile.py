"""Bodies that nobody should send: seeds kept in `corpus/`, and 10,000 made of them by chance with a fixed seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus" / "bodies.json"
PATHS = ("/ml/predict", "/ml/predict/batch", "/v2/models/model/infer", "/ml/outcomes", "/v2/repository/index", "/ml/reload")
NUMBERS = [
    b"NaN", b"-Infinity", b"1e999", b"-1e999", b"1e-999", b"9" * 400, b"9" * 5000, b"-0", b"-0.0", b"01", b"1.", b".5", b"+1", b"0x1f",
    b"3.5e38", b"-3.5e38", b"1e309", b"18446744073709551616", b"-9223372036854775809", b"1_000", b"true", b"null", b'"1"', b"[]", b"{}",
]  # fmt: skip
STRINGS = [
    rb'"\ud800"', b'"\xed\xa0\x80"', b'"\xff\xfe"', b'"\x00"', rb'"\u0000"', b'"' + b"a" * 9000 + b'"', b'"\xf0\x9f\xa6\x86"', b'"\\',
    rb'"\x41"', b'"../../../etc/passwd"', b'"${jndi:ldap://x}"', b'"__proto__"', b'"' + b"\\u0041" * 500 + b'"',
]  # fmt: skip
LARGEST = (1 << 20) + 100
"""Just above what the server takes."""
SEPARATORS = b'{}[]:,"'


def corpus() -> list[bytes]:
    """The kept seeds: valid bodies of every path, and whatever once found a fault."""
    return [text.encode("latin-1") for text in json.loads(CORPUS.read_text())]


def bodies(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield a path and a body, each seed unchanged on every path first."""
    chance = random.Random(seed)
    seeds = corpus()
    made = [(path, body) for body in seeds for path in PATHS]
    yield from made[:count]
    for _ in range(count - len(made)):
        body = chance.choice(seeds)
        for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
            body = chance.choice(CHANGES)(chance, body)[:LARGEST]
        yield chance.choice(PATHS), body


def _truncated(chance: random.Random, body: bytes) -> bytes:
    return body[: chance.randrange(len(body) + 1)]


def _flipped(chance: random.Random, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _token(body: bytes, chance: random.Random) -> tuple[int, int]:
    """The place of a value: from a colon, comma or bracket to the next of them."""
    starts = [index + 1 for index, byte in enumerate(body[:2000]) if byte in b":,["]
    if not starts:
        return 0, len(body)
    start = chance.choice(starts)
    end = next((index for index in range(start, len(body)) if body[index] in b",]}"), len(body))
    return start, end


def _other_value(chance: random.Random, body: bytes) -> bytes:
    start, end = _token(body, chance)
    return body[:start] + chance.choice(NUMBERS + STRINGS) + body[end:]


def _deeper(chance: random.Random, body: bytes) -> bytes:
    start, end = _token(body, chance)
    depth = chance.choice((2, 9, 100, 1100, 9000))
    opening, closing = chance.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return body[:start] + opening * depth + body[start:end] + closing * chance.choice((depth, 0)) + body[end:]


def _repeated(chance: random.Random, body: bytes) -> bytes:
    start, end = _token(body, chance)
    return body[:end] + (b"," + body[start:end]) * chance.choice((1, 10, 300)) + body[end:]


def _inserted(chance: random.Random, body: bytes) -> bytes:
    place = chance.randrange(len(body) + 1)
    return body[:place] + bytes(chance.choice(SEPARATORS) for _ in range(chance.randint(1, 3))) + body[place:]


def _encoded(chance: random.Random, body: bytes) -> bytes:
    text = body.decode("latin-1")
    encoding = chance.choice(("utf-16", "utf-16-be", "utf-32", "utf-8-sig", "utf-7", "cp037"))
    return text.encode(encoding, "replace")


def _padded(chance: random.Random, body: bytes) -> bytes:
    size = LARGEST if chance.random() < 0.05 else chance.choice((10, 1000))
    return body + chance.choice((b" ", b"\x00", b"\n", b"]")) * size


def _larger_numbers(chance: random.Random, body: bytes) -> bytes:
    return body.replace(b"1", chance.choice((b"1" * 30, b"-1", b"1e30", b"1e300", b"11111111")))


CHANGES: list[Callable[[random.Random, bytes], bytes]] = [
    _truncated, _flipped, _other_value, _other_value, _other_value, _deeper, _repeated, _inserted, _encoded, _padded, _larger_numbers,
]  # fmt: skip
