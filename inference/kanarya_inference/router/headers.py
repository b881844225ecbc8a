"""Which headers cross the router, in both directions."""

from __future__ import annotations

from kanarya_inference.router.model import Answer
from kanarya_inference.serving import UNPROCESSED_HEADER, Scope

TRACK_HEADER = b"x-kanarya-track"

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_NOT_SENT_UPSTREAM = _HOP_BY_HOP | {
    b"content-length",  # set anew
    b"expect",  # answered by our own server
    b"accept-encoding",  # an answer must be readable to be compared
    b"x-forwarded-for",  # extended below
    b"x-kanarya-mirror",  # says that a request is our copy: not for clients to claim
}
_NOT_PASSED_ON = _HOP_BY_HOP | {b"content-length", TRACK_HEADER, UNPROCESSED_HEADER}
_WITHOUT_BODY = frozenset({204, 304})
_ORDINARY_CONNECTION = frozenset({b"", b"keep-alive", b"close"})


def request_headers(scope: Scope) -> list[tuple[str, str]]:
    """Headers to send upstream, the client's address added to `x-forwarded-for`."""
    received: list[tuple[bytes, bytes]] = scope["headers"]
    dropped = _NOT_SENT_UPSTREAM | _named_by_connection(received)
    headers = [(name.decode("latin-1"), _text(value)) for name, value in received if name not in dropped]
    hops = [_text(value) for name, value in received if name == b"x-forwarded-for"]
    client = scope.get("client")
    if client:
        hops.append(client[0].removeprefix("::ffff:"))
    if hops:
        headers.append(("x-forwarded-for", ", ".join(hops)))
    return headers


def answer_headers(answer: Answer, method: str, track: str) -> list[tuple[bytes, bytes]]:
    """Headers to pass on to the client, with the track that answered."""
    received = [(name.lower(), value) for name, value in answer.headers]
    dropped = _NOT_PASSED_ON | _named_by_connection(received)
    headers = [header for header in received if header[0] not in dropped]
    headers.append((TRACK_HEADER, track.encode()))
    if method == "HEAD":
        headers += [header for header in received if header[0] == b"content-length"]
    elif answer.status not in _WITHOUT_BODY and (length := _length(answer)) is not None:
        headers.append((b"content-length", str(length).encode()))
    return headers


def _length(answer: Answer) -> int | None:
    if answer.body is not None:
        return len(answer.body)
    return None if answer.rest is None else answer.rest.length


def _named_by_connection(headers: list[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Headers that `Connection` declares to be for this hop only."""
    named: set[bytes] = set()
    for name, value in headers:
        if name == b"connection":
            named.update(token.strip().lower() for token in value.split(b","))
    return frozenset(named) - _ORDINARY_CONNECTION


def _text(value: bytes) -> str:
    """Decode so that the client's bytes come out again: the HTTP client writes UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
