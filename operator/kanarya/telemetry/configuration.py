"""What the operator's own configuration says about a Prometheus. None of it ever comes from a resource."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HEADER_VALUE = re.compile(r"[!-~]([ -~]{0,998}[!-~])?")
_OURS = frozenset(
    {"accept", "accept-encoding", "authorization", "connection", "content-encoding", "content-length", "content-type", "cookie", "expect"}
    | {"host", "keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Headers that the client writes itself, and those that would hold a secret."""


def _absolute(value: str) -> str:
    if not PurePosixPath(value).is_absolute() or "\0" in value:
        raise ValueError("must be the full path of a file, beginning with /")
    return value


FilePath = Annotated[str, Field(max_length=1024), AfterValidator(_absolute)]


class SourceConfig(BaseModel):
    """A Prometheus as the operator's configuration names it.

    Secrets are in files, which are read anew for each query: what is in them never stands in this object.

    Attributes
    ----------
    url
        The base address, with a path if Prometheus is served under one.
    scrape_interval_seconds
        How often that Prometheus reads pods.
    ca_file
        Certificates (PEM) that the server's must be signed by, or be one of. Without it, the usual public authorities.
    server_name
        The name in the server's certificate, where it is not that of `url`.
    cert_file, key_file
        The client's certificate and key (PEM).
    bearer_token_file
        Holds what is sent as `Authorization: Bearer`.
    username, password_file
        For `Authorization: Basic`.
    headers
        Sent with each query, for example `X-Scope-OrgID`. Not for secrets.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    url: str = Field(max_length=2048)
    scrape_interval_seconds: float = Field(gt=0, le=300, allow_inf_nan=False)
    timeout_seconds: float = Field(default=5.0, gt=0, le=60, allow_inf_nan=False)
    ca_file: FilePath | None = None
    server_name: str | None = Field(None, min_length=1, max_length=253, pattern=r"^[A-Za-z0-9.:-]+$")
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    bearer_token_file: FilePath | None = None
    username: str | None = Field(None, min_length=1, max_length=256, pattern=r"^[^:\x00-\x1f\x7f]+$")
    password_file: FilePath | None = None
    headers: Mapping[str, str] = Field({}, max_length=20)

    @field_validator("url")
    @classmethod
    def _plain_http_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("url must be an address that starts with http:// or https://")
        if parts.username is not None or parts.password is not None:
            raise ValueError("url must not hold credentials: it stands in logs and configuration")
        if parts.query or parts.fragment:
            raise ValueError("url must be the base address of Prometheus, without ? or #")
        return value.rstrip("/")

    @field_validator("headers")
    @classmethod
    def _plain_headers(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name, text in value.items():
            if _HEADER_NAME.fullmatch(name) is None:
                raise ValueError("the name of a header must be letters, digits and -")
            if name.lower() in _OURS:
                raise ValueError(f"{name} cannot be set here: credentials are read from bearerTokenFile, or username and passwordFile")
            if _HEADER_VALUE.fullmatch(text) is None:
                raise ValueError(f"the value of {name} must be printable ASCII, without blanks at its ends")
        if len({name.lower() for name in value}) != len(value):
            raise ValueError("a header is named twice, in capital and small letters")
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        tls = {"caFile": self.ca_file, "serverName": self.server_name, "certFile": self.cert_file, "keyFile": self.key_file}
        given = [name for name, value in tls.items() if value is not None]
        if given and not self.url.startswith("https://"):
            raise ValueError(f"{given[0]} needs a url that starts with https://")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("certFile and keyFile are given together or not at all")
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and passwordFile are given together or not at all")
        if self.bearer_token_file is not None and self.password_file is not None:
            raise ValueError("bearerTokenFile and passwordFile exclude each other: one Authorization is sent")
        return self
