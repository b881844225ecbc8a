"""What a build needs to reach the package index from this machine: its certificates and pip's configuration.

The Dockerfile's builder stage copies `build/machine/` and reads `build/machine/env` if it is there. The final stages copy nothing
of it, so that no image holds a trace of the machine that built it.
"""

from __future__ import annotations

import configparser
import io
import os
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.run import output
from tests.cluster.settings import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDER = REPOSITORY / "build" / "machine"

MOUNTED = "/machine"
"""Where the builder stage finds the folder."""

BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE")
"""Variables that name a bundle of certificates, the most general first."""

OWN_CERTIFICATES = Path("/usr/local/share/ca-certificates")
SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

# Settings of pip that say where packages come from; the others are this machine's business.
INDEX_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "timeout", "retries", "proxy")

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@contextmanager
def prepared(folder: Path = FOLDER) -> Iterator[None]:
    """Fill the folder for the time of a build."""
    files = files_for_build(pip_settings(), os.environ)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        yield
    finally:
        for name in ("ca.crt", "pip.conf", "env"):
            (folder / name).unlink(missing_ok=True)


def files_for_build(pip: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files to put into the folder: none on a machine that reaches the package index as it is."""
    files: dict[str, bytes] = {}
    variables = {name: environ[name] for name in PROXIES if environ.get(name)}
    bundle = bundle_of(pip, environ)
    if bundle is not None:
        files["ca.crt"] = bundle.read_bytes()
        variables |= dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"), f"{MOUNTED}/ca.crt")
    settings = {name: pip[name] for name in INDEX_SETTINGS if name in pip}
    if settings:
        files["pip.conf"] = render_pip_conf(settings)
        variables["PIP_CONFIG_FILE"] = f"{MOUNTED}/pip.conf"
    # uv does not read pip's configuration.
    for name, value in (
        ("UV_DEFAULT_INDEX", environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL") or settings.get("index-url")),
        ("UV_INDEX", environ.get("UV_INDEX") or settings.get("extra-index-url")),
        ("UV_INSECURE_HOST", environ.get("UV_INSECURE_HOST") or settings.get("trusted-host")),
        ("UV_HTTP_TIMEOUT", environ.get("UV_HTTP_TIMEOUT") or settings.get("timeout")),
    ):
        if value:
            variables[name] = " ".join(value.split())
    if variables:
        files["env"] = render_env(variables)
    return files


def bundle_of(pip: Mapping[str, str], environ: Mapping[str, str]) -> Path | None:
    """Return the bundle of certificates that this machine's programs are told to trust, if there is one."""
    named = [environ.get(name) for name in BUNDLES] + [pip.get("cert")]
    for path in (Path(name) for name in named if name):
        if path.is_file():
            return path
    return SYSTEM_BUNDLE if any(OWN_CERTIFICATES.glob("*.crt")) and SYSTEM_BUNDLE.is_file() else None


def pip_settings() -> dict[str, str]:
    """Return pip's own view of its configuration, files and environment together, without the sections."""
    listed = output([sys.executable, "-m", "pip", "config", "list"]) or output(["pip", "config", "list"]) or ""
    return parse_pip_settings(listed, os.environ)


def parse_pip_settings(listed: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Read the output of `pip config list`; what the environment says wins, as it does in pip."""
    found: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.strip().rpartition(".")
        if section in {"global", "install", "download"}:
            found[key] = value.strip().strip("'\"").replace("\\n", " ").strip()
    for name in (*INDEX_SETTINGS, "cert"):
        if from_environment := environ.get(f"PIP_{name.upper().replace('-', '_')}"):
            found[name] = from_environment
    if "timeout" not in found and environ.get("PIP_DEFAULT_TIMEOUT"):
        found["timeout"] = environ["PIP_DEFAULT_TIMEOUT"]
    return found


def render_pip_conf(settings: Mapping[str, str]) -> bytes:
    """Return a pip.conf."""
    config = configparser.RawConfigParser()
    config["global"] = dict(settings)
    text = io.StringIO()
    config.write(text)
    return text.getvalue().encode()


def render_env(variables: Mapping[str, str]) -> bytes:
    """Return lines for a shell to source."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(variables.items())).encode()
