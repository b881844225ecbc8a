"""The option --prometheus: a source by its address, where there is no configuration of the operator."""

from __future__ import annotations

from pydantic import ValidationError

from kanarya.telemetry.source import SourceConfig


def source_at(address: str, *, scrape_seconds: float, timeout_seconds: float) -> SourceConfig:
    """Give a source. Raises `ValueError` when the address is none, with what to change."""
    try:
        return SourceConfig(url=address, scrape_interval_seconds=scrape_seconds, timeout_seconds=timeout_seconds)
    except ValidationError as error:
        raise ValueError(f"--prometheus: {error.errors(include_url=False)[0]['msg'].removeprefix('Value error, ')}") from None
