"""The log of a process: one JSON object a line on standard error."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any


class JsonFormatter(logging.Formatter):
    """Time (UTC), level, logger, message, what `about` says, the fields given as `extra={"fields": {…}}`, and the traceback if any."""

    def __init__(self, about: Callable[[], Mapping[str, Any]] = dict) -> None:
        super().__init__()
        self._about = about

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._about(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logging(formatter: logging.Formatter | None = None) -> None:
    """Log to standard error; libraries from WARNING on. For a process's entry point only."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter or JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a line for each malformed request would let clients fill the log
    logging.getLogger("kanarya").setLevel(logging.INFO)
    logging.getLogger("kanarya_inference").setLevel(logging.INFO)
