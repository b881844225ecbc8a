"""How a Prometheus is reached: the HTTP client of a source with its certificates, and the headers that hold its credentials.

Files are read for each query, not watched: they are small and in memory (Secrets, projected tokens), and what was rotated, or came
late, is then used at once. The client is made anew only when what it was made of has changed.
"""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from kanarya.telemetry.configuration import SourceConfig

MAX_SECRET_BYTES = 64 * 1024
MAX_CA_BYTES = 4 * 1024 * 1024
"""A bundle of all public authorities has 0.2 MiB."""

_TOKEN = re.compile(r"[!-~]+")


class FileProblem(Exception):  # noqa: N818 -- reads as the condition it becomes
    """A file that the configuration names cannot be used. The message names it, and holds nothing of what is in it."""


class Access:
    """The way to one Prometheus. A given `client` is used as it is, and not closed here."""

    def __init__(self, config: SourceConfig, client: httpx.AsyncClient | None = None) -> None:
        self._config = config
        self._given = client
        self._made_of: tuple[bytes, ...] | None = None
        self._client: httpx.AsyncClient | None = None
        self._in_use: dict[httpx.AsyncClient, int] = {}
        self._closed = False

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """Lend the client; one that was replaced meanwhile is closed when nobody uses it any more. Raises `FileProblem`."""
        client = self._given or await self._current()
        self._in_use[client] = self._in_use.get(client, 0) + 1
        try:
            yield client
        finally:
            self._in_use[client] -= 1
            if not self._in_use[client]:
                del self._in_use[client]
                if client is not self._client and client is not self._given:
                    await client.aclose()

    def headers(self) -> dict[str, str]:
        """Give the configured headers and the credentials as they are in their files at this moment. Raises `FileProblem`."""
        config, found = self._config, dict(self._config.headers)
        if config.bearer_token_file is not None:
            found["Authorization"] = f"Bearer {_secret('bearerTokenFile', config.bearer_token_file)}"
        elif config.username is not None and config.password_file is not None:
            password = _secret("passwordFile", config.password_file, blanks=True)
            found["Authorization"] = "Basic " + base64.b64encode(f"{config.username}:{password}".encode()).decode("ascii")
        return found

    @property
    def extensions(self) -> dict[str, str]:
        """Give what the client is told beside the request: the name that the certificate must have."""
        return {} if self._config.server_name is None else {"sni_hostname": self._config.server_name}

    async def _current(self) -> httpx.AsyncClient:
        if self._closed:
            raise RuntimeError("closed")
        made_of = self._material()
        if self._client is None or made_of != self._made_of:
            replaced, self._client = self._client, _new_client(self._config)
            self._made_of = made_of
            if replaced is not None and replaced not in self._in_use:
                await replaced.aclose()
        return self._client

    def _material(self) -> tuple[bytes, ...]:
        config = self._config
        files = [("caFile", config.ca_file, MAX_CA_BYTES), ("certFile", config.cert_file, MAX_CA_BYTES)]
        files.append(("keyFile", config.key_file, MAX_SECRET_BYTES))
        return tuple(_read(what, path, limit) for what, path, limit in files if path is not None)

    async def close(self) -> None:
        """Give up connections."""
        self._closed = True
        if self._client is not None:
            await self._client.aclose()


def _new_client(config: SourceConfig) -> httpx.AsyncClient:
    # No proxies and no netrc from the environment: the address is meant as it stands.
    return httpx.AsyncClient(
        verify=_tls(config), trust_env=False, limits=httpx.Limits(max_connections=4, max_keepalive_connections=2, keepalive_expiry=60)
    )


def _tls(config: SourceConfig) -> ssl.SSLContext:
    if config.ca_file is None:
        context = httpx.create_ssl_context(trust_env=False)
    else:
        try:
            # Not create_default_context(cadata=...): it takes an empty text for none given, and trusts everybody that the system trusts.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=_read("caFile", config.ca_file, MAX_CA_BYTES).decode("ascii", "replace"))
        except (ssl.SSLError, ValueError):
            raise FileProblem(f"caFile {config.ca_file} holds no certificates that can be read (PEM)") from None
        # A self-signed server certificate is an anchor too, which is why there is no way to verify nothing. Authorities made by hand
        # often lack extensions that a strict reading of RFC 5280 asks for, which is not asked for here.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if config.cert_file is not None and config.key_file is not None:
        try:
            # With a password given, OpenSSL does not ask for one at the terminal.
            context.load_cert_chain(config.cert_file, config.key_file, password="")
        except (ssl.SSLError, ValueError, OSError):
            pair = f"certFile {config.cert_file} and keyFile {config.key_file}"
            raise FileProblem(f"{pair} are no certificate and its key without a password (PEM)") from None
    return context


def _secret(what: str, path: str, *, blanks: bool = False) -> str:
    """Read a secret of one line; `blanks` may be in it."""
    try:
        text = _read(what, path, MAX_SECRET_BYTES).decode("utf-8").strip("\r\n" if blanks else None)
    except UnicodeDecodeError:
        raise FileProblem(f"{what} {path} is not text") from None
    if not text:
        raise FileProblem(f"{what} {path} is empty")
    if not (text.isprintable() if blanks else _TOKEN.fullmatch(text)):
        raise FileProblem(f"{what} {path} must hold one line{'' if blanks else ' of printable ASCII'} and nothing else")
    return text


def _read(what: str, path: str, limit: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise FileProblem(f"{what} {path} cannot be read: {error.strerror}") from None
    if len(content) > limit:
        raise FileProblem(f"{what} {path} is larger than {limit // 1024} KiB")
    return content
