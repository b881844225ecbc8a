"""A pod's answer, held whole or passed on while it arrives."""

from __future__ import annotations

import re

import aiohttp

from kanarya_inference.router.endpoints import Endpoint

SHORT_ANSWER = 2**20
"""An answer of a known length up to this is held until it is whole: should the pod break off, another can answer instead."""
KEPT_ANSWER = 10 * 2**20
"""Longest answer that is kept to be compared, or shown."""
CHUNK = 64 * 2**10

_CONTROL_CHARACTER = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class UnusableAnswer(Exception):  # noqa: N818 -- these name what happened
    """The pod answered something that cannot be passed on."""


class BrokenAnswer(Exception):  # noqa: N818
    """The connection broke in the middle of the answer."""


class Rest:
    """The body of an answer whose head has come. The pod counts as busy until it is closed."""

    def __init__(self, response: aiohttp.ClientResponse, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.length = None if b"transfer-encoding" in {name.lower() for name, _ in response.raw_headers} else response.content_length
        self._response = response
        self._open = True
        endpoint.outstanding += 1

    async def next(self) -> tuple[bytes, bool]:
        """Wait for the next piece; gives it, and whether it is the last. Raises `BrokenAnswer`."""
        content = self._response.content
        try:
            piece = await content.readany()
        except (aiohttp.ClientError, aiohttp.http.HttpProcessingError) as error:
            raise BrokenAnswer from error
        return piece, content.at_eof()

    def close(self) -> None:
        """Give the connection back when the answer is whole, else close it; saying it twice is fine."""
        if self._open:
            self._open = False
            self.endpoint.outstanding -= 1
            self._response.close()


def check(response: aiohttp.ClientResponse) -> None:
    """Refuse a head that the client's parser lets through and that no server may pass on. Raises `UnusableAnswer`."""
    if not 200 <= response.status < 600:
        response.close()
        raise UnusableAnswer(f"{response.status} is no status of an answer")
    if _CONTROL_CHARACTER.search(b"".join([value for _, value in response.raw_headers])):
        raise UnusableAnswer("a header has a control character in it")


def is_short(response: aiohttp.ClientResponse) -> bool:
    """Tell whether an answer is here already, is known to be short, or has failed already."""
    length = response.content_length
    if length is not None and length <= SHORT_ANSWER:
        return True
    content = response.content
    return content.is_eof() or content.exception() is not None


async def read_long(response: aiohttp.ClientResponse) -> bytes | None:
    """Read a body to its end; gives None for one that is too long to be kept."""
    kept: bytearray | None = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK):
        if kept is not None:
            kept += chunk
            if len(kept) > KEPT_ANSWER:
                kept = None
    return None if kept is None else bytes(kept)
