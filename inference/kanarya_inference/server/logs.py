"""The server's log: one JSON object a line on standard error, with the trace of the request it speaks of."""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar

from kanarya_inference.logs import JsonFormatter, configure_logging
from kanarya_inference.serving import Scope

audit = logging.getLogger("kanarya_inference.audit")
"""One line for each change of the models in memory."""

current_scope: ContextVar[Scope | None] = ContextVar("current_scope", default=None)
"""The request being answered. Its trace is read only when a line is written."""

# https://www.w3.org/TR/trace-context/#traceparent-header: versions above 00 may add fields at the end.
_TRACEPARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


def trace_of(scope: Scope | None) -> dict[str, str]:
    """Return `trace_id` and `parent_id` of a request's `traceparent`; nothing when there is none, or it is not valid."""
    if scope is None:
        return {}
    values = [value for name, value in scope["headers"] if name == b"traceparent"]
    match = _TRACEPARENT.fullmatch(values[0]) if len(values) == 1 else None
    if match is None or (match[1] == b"00" and match[4]) or not int(match[2], 16) or not int(match[3], 16):
        return {}
    return {"trace_id": match[2].decode(), "parent_id": match[3].decode()}


def configure(log_format: str) -> None:
    """Log to standard error as `json` or `text`; see `configure_logging`."""
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    configure_logging(JsonFormatter(lambda: trace_of(current_scope.get())) if log_format == "json" else text)
