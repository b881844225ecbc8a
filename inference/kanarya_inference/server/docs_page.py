"""`/docs`: a page that reads `/openapi.json` and loads nothing from elsewhere."""

from __future__ import annotations

from importlib import resources

HTML = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"),
)
DOCS_PAGE = resources.files(__package__).joinpath("docs.html").read_bytes()
