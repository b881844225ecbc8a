"""A Prometheus behind TLS, a token and a tenant: a real HTTPS server on loopback that lets nobody in without them."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kanarya.telemetry import source as module
from kanarya.telemetry.feed import Feed, Interest
from kanarya.telemetry.source import PrometheusSource, SourceConfig, SourceError
from tests.unit.listening import listening
from tests.unit.telemetry.certificates import Authority, Pair

TOKEN, ROTATED = "first-token-3f9a", "second-token-77b1"
TENANT = {"X-Scope-OrgID": "fraud-team"}
EMPTY = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": []}}).encode()
BODY_SECRET = "hunter2-in-a-body"


class Guarded:
    """What the server demands, and what it saw."""

    def __init__(self) -> None:
        self.authorization = f"Bearer {TOKEN}"
        self.requests: list[dict[str, str]] = []
        self.connections = 0
        self.answer = EMPTY
        self.redirect = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            await self._one(reader, writer)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.splitlines()[1:] if line)}
        await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append(headers)
        status, extra, body = "200 OK", "", self.answer
        if self.redirect:
            status, extra, body = "307 Temporary Redirect", f"Location: {self.redirect}\r\n", b""
        elif headers.get("authorization") != self.authorization:
            status, body = "401 Unauthorized", BODY_SECRET.encode()
        elif headers.get("x-scope-orgid") != TENANT["X-Scope-OrgID"]:
            status, body = "403 Forbidden", BODY_SECRET.encode()
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body)
        await writer.drain()


@asynccontextmanager
async def behind(guarded: Guarded, pair: Pair | None, clients: Path | None = None) -> AsyncIterator[str]:
    context = None
    if pair is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients)
    # A refused handshake is what several tests want: asyncio would write it to the log.
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    async with listening(guarded.serve, ssl=context) as port:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


@pytest.fixture(scope="module")
def server_pair(authority: Authority) -> Pair:
    return authority.sign("server", "IP:127.0.0.1")


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path


def source(url: str, **settings: Any) -> PrometheusSource:
    given = {"url": url, "scrapeIntervalSeconds": 5, "headers": TENANT, **settings}
    return PrometheusSource(
        SourceConfig.model_validate({name: str(value) if isinstance(value, Path) else value for name, value in given.items()}),
        name="central",
    )


async def refused(asked: PrometheusSource) -> SourceError:
    with pytest.raises(SourceError) as caught:
        await asked.query("up[20s]", 1000.0)
    sentence = str(caught.value)
    assert not [secret for secret in (TOKEN, ROTATED, BODY_SECRET, "pass phrase") if secret in sentence]
    return caught.value


async def test_token_and_tenant_are_sent_over_tls(authority: Authority, server_pair: Pair, token: Path) -> None:
    guarded = Guarded()
    async with behind(guarded, server_pair) as url:
        asked = source(url, caFile=authority.cert, bearerTokenFile=token)
        assert await asked.query("up[20s]", 1000.0) == []
        assert await asked.query("up[20s]", 1000.0) == []
        await asked.close()
    assert (guarded.requests[0]["authorization"], guarded.requests[0]["x-scope-orgid"]) == (f"Bearer {TOKEN}", "fraud-team")
    assert guarded.connections == 1


async def test_without_token_or_tenant_nothing_is_answered(authority: Authority, server_pair: Pair, token: Path) -> None:
    async with behind(Guarded(), server_pair) as url:
        for settings in ({"headers": TENANT}, {"headers": {}, "bearerTokenFile": token}):
            asked = source(url, caFile=authority.cert, **settings)
            error = await refused(asked)
            assert error.failure == "unauthorized"
            assert "credentials or the tenant" in str(error)
            await asked.close()


async def test_a_rotated_token_is_used_at_once(
    authority: Authority, server_pair: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As the kubelet does it: the file is a link through `..data`, which is replaced."""
    for folder, content in (("old", TOKEN), ("new", ROTATED)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "token").write_text(content)
    data = tmp_path / "..data"
    data.symlink_to("old")
    (tmp_path / "token").symlink_to("..data/token")
    guarded = Guarded()
    caplog.set_level(logging.DEBUG)
    async with behind(guarded, server_pair) as url:
        asked = source(url, caFile=authority.cert, bearerTokenFile=tmp_path / "token")
        await asked.query("up[20s]", 1000.0)
        guarded.authorization = f"Bearer {ROTATED}"
        assert (await refused(asked)).failure == "unauthorized"
        (tmp_path / "next").symlink_to("new")
        (tmp_path / "next").replace(data)
        await asked.query("up[20s]", 1000.0)
        await asked.close()
    assert [record.getMessage() for record in caplog.records if record.name == "kanarya.telemetry.source"] == [
        "source central counts as down: Prometheus did not accept the credentials or the tenant (401).",
        "source central answers again",
    ]
    assert TOKEN not in caplog.text
    assert ROTATED not in caplog.text


async def test_refused_credentials_leave_no_rollout_out(authority: Authority, server_pair: Pair, token: Path) -> None:
    """A rollout that asks for too much is left alone for a minute; a token that ran out is no rollout's fault."""
    guarded = Guarded()
    guarded.authorization = f"Bearer {ROTATED}"
    now = 1000.0
    rotated = token.with_name("rotated")
    rotated.write_text(ROTATED)
    async with behind(guarded, server_pair) as url:
        asked = source(url, caFile=authority.cert, bearerTokenFile=token)
        feed = Feed(asked, lambda: now, lambda _interest, seconds: f"up[{seconds}s]")
        interests = {(space, "r"): Interest(frozenset({space}), frozenset({"p"})) for space in ("a", "b")}
        for key, interest in interests.items():
            with pytest.raises(SourceError):
                await feed.get(key, interest, now)
        shutil.copy(rotated, token)
        now += 2
        for key, interest in interests.items():
            await feed.get(key, interest, now)
        await asked.close()


@pytest.mark.parametrize("what", ["caFile", "bearerTokenFile"])
async def test_a_file_that_comes_late(authority: Authority, server_pair: Pair, token: Path, tmp_path: Path, what: str) -> None:
    async with behind(Guarded(), server_pair) as url:
        files = {"caFile": authority.cert, "bearerTokenFile": token}
        late = tmp_path / "late"
        asked = source(url, **{**files, what: late})
        error = await refused(asked)
        assert (error.failure, str(error)) == ("files", f"Source central: {what} {late} cannot be read: No such file or directory.")
        shutil.copy(files[what], late)
        assert await asked.query("up[20s]", 1000.0) == []
        await asked.close()


async def test_a_replaced_authority_is_used_at_once(authority: Authority, server_pair: Pair, token: Path, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    shutil.copy(Authority(tmp_path, "other").cert, ca)
    guarded = Guarded()
    async with behind(guarded, server_pair) as url:
        asked = source(url, caFile=ca, bearerTokenFile=token)
        error = await refused(asked)
        assert (error.failure, "not signed by an authority that is trusted" in str(error)) == ("tls", True)
        assert guarded.requests == []
        shutil.copy(authority.cert, ca)
        await asked.query("up[20s]", 1000.0)
        # A query under way keeps the client it began with.
        async with asked._access.client() as lent:
            ca.write_bytes(ca.read_bytes() + b"\n")
            await asked.query("up[20s]", 1000.0)
            assert not lent.is_closed
        assert lent.is_closed
        await asked.close()


async def test_certificates_that_are_not_accepted(authority: Authority, token: Path) -> None:
    cases = {
        "has expired": authority.sign("expired", "IP:127.0.0.1", days=-1),
        "for another address": authority.sign("elsewhere", "DNS:prometheus.example"),
    }
    for reason, pair in cases.items():
        guarded = Guarded()
        async with behind(guarded, pair) as url:
            asked = source(url, caFile=authority.cert, bearerTokenFile=token)
            error = await refused(asked)
            assert (error.failure, reason in str(error)) == ("tls", True)
            assert guarded.requests == []
            await asked.close()


async def test_without_a_ca_file_our_own_authority_is_unknown(server_pair: Pair, token: Path) -> None:
    async with behind(Guarded(), server_pair) as url:
        asked = source(url, bearerTokenFile=token)
        assert (await refused(asked)).failure == "tls"
        await asked.close()


async def test_a_certificate_for_another_name_needs_server_name(authority: Authority, token: Path) -> None:
    async with behind(Guarded(), authority.sign("named", "DNS:prometheus.example")) as url:
        asked = source(url, caFile=authority.cert, bearerTokenFile=token, serverName="prometheus.example")
        await asked.query("up[20s]", 1000.0)
        await asked.close()


async def test_a_servers_own_certificate_may_be_the_ca_file(server_pair: Pair, token: Path) -> None:
    async with behind(Guarded(), server_pair) as url:
        asked = source(url, caFile=server_pair.cert, bearerTokenFile=token)
        await asked.query("up[20s]", 1000.0)
        await asked.close()


async def test_a_client_certificate(authority: Authority, server_pair: Pair, token: Path) -> None:
    client = authority.sign("client", "DNS:kanarya")
    async with behind(Guarded(), server_pair, clients=authority.cert) as url:
        bare = source(url, caFile=authority.cert, bearerTokenFile=token)
        assert (await refused(bare)).failure in {"tls", "unreachable"}
        await bare.close()
        asked = source(url, caFile=authority.cert, bearerTokenFile=token, certFile=client.cert, keyFile=client.key)
        await asked.query("up[20s]", 1000.0)
        await asked.close()
        mixed = source(url, caFile=authority.cert, certFile=client.cert, keyFile=server_pair.key)
        error = await refused(mixed)
        assert (error.failure, "are no certificate and its key" in str(error)) == ("files", True)
        await mixed.close()


async def test_a_redirect_gets_no_token(authority: Authority, server_pair: Pair, token: Path) -> None:
    thief, guarded = Guarded(), Guarded()
    async with behind(thief, None) as elsewhere, behind(guarded, server_pair) as url:
        guarded.redirect = f"{elsewhere}/{BODY_SECRET}"
        asked = source(url, caFile=authority.cert, bearerTokenFile=token)
        assert (await refused(asked)).failure == "redirect"
        await asked.close()
    assert (thief.connections, thief.requests) == (0, [])


async def test_a_huge_answer_over_tls(authority: Authority, server_pair: Pair, token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100_000)
    guarded = Guarded()
    guarded.answer = b"[" * 3_000_000
    async with behind(guarded, server_pair) as url:
        asked = source(url, caFile=authority.cert, bearerTokenFile=token)
        assert (await refused(asked)).failure == "too_large"
        await asked.close()


async def test_a_user_and_a_password(tmp_path: Path) -> None:
    guarded = Guarded()
    guarded.authorization = "Basic " + base64.b64encode("kanarya:a pass phrase, gülüm".encode()).decode()
    password = tmp_path / "password"
    password.write_text("a pass phrase, gülüm\r\n", encoding="utf-8")
    async with behind(guarded, None) as url:
        asked = source(url, username="kanarya", passwordFile=password)
        await asked.query("up[20s]", 1000.0)
        await asked.close()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"first-token-3f9a\r\nX-Evil: 1", "must hold one line of printable ASCII"),
        (b"first-token-3f9a second", "must hold one line"),
        (b"\xff\xfe", "is not text"),
        ("first-token-3f9a-ş".encode(), "printable ASCII"),
        (b"x" * 70_000, "is larger than 64 KiB"),
    ],
)
async def test_a_token_file_that_holds_no_token(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    guarded = Guarded()
    async with behind(guarded, None) as url:
        asked = source(url, bearerTokenFile=path)
        error = await refused(asked)
        assert (error.failure, reason in str(error), f"bearerTokenFile {path}" in str(error)) == ("files", True, True)
        await asked.close()
    assert guarded.requests == []


async def test_a_folder_and_a_ca_file_without_certificates(tmp_path: Path) -> None:
    asked = source("https://127.0.0.1:9", caFile=tmp_path)
    assert "Is a directory" in str(await refused(asked))
    (tmp_path / "ca").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for path in (tmp_path / "ca", Path("/dev/null")):
        asked = source("https://127.0.0.1:9", caFile=path)
        assert "holds no certificates" in str(await refused(asked))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"caFile": "ca.pem"}, "full path"),
        ({"url": "http://prometheus", "caFile": "/ca.pem"}, "caFile needs a url that starts with https://"),
        ({"url": "http://prometheus", "serverName": "x"}, "serverName needs a url"),
        ({"certFile": "/a"}, "certFile and keyFile are given together"),
        ({"keyFile": "/a"}, "certFile and keyFile are given together"),
        ({"username": "a"}, "username and passwordFile are given together"),
        ({"username": "a:b", "passwordFile": "/p"}, "pattern"),
        ({"bearerTokenFile": "/t", "username": "a", "passwordFile": "/p"}, "exclude each other"),
        ({"headers": {"Authorization": "Bearer x"}}, "bearerTokenFile"),
        ({"headers": {"cookie": "x"}}, "cannot be set here"),
        ({"headers": {"X Y": "x"}}, "letters, digits"),
        ({"headers": {"X-Scope-OrgID": "a\r\nX-Evil: 1"}}, "printable ASCII"),
        ({"headers": {"X-Scope-OrgID": ""}}, "printable ASCII"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "named twice"),
        ({"insecureSkipVerify": True}, "Extra inputs"),
    ],
)
def test_settings_that_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        SourceConfig.model_validate({"url": "https://prometheus", "scrapeIntervalSeconds": 5, **changes})
