"""What is written into PromQL selects exactly the label value it was made of, as a real Prometheus reads it."""

from __future__ import annotations

import asyncio
import json
import string
import time
import unicodedata
from pathlib import Path

import pytest

from kanarya.telemetry import PrometheusSource, SourceConfig, profile, promql
from tests.contract.prometheus.server import SCRAPE_SECONDS, Exporter, MissingProgramError, Prometheus, find_prometheus
from tests.unit.telemetry.fakes import Pod

BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\u200e\u200f\ufeff"
CONTROL = [chr(code) for code in (*range(0x20), 0x7F, 0x85, 0x2028, 0x2029)]
SPLIT = [f"a{character}b" for character in (*CONTROL, *BIDI, *string.punctuation, " ", "é", "😀", "\ufffd", "\U0010ffff")]
WHOLE = [
    'x"} or vector(1) #',
    "x`} or vector(1) #",
    "x'} or vector(1) #",
    "\\",
    "\\\\",
    '\\"',
    "\\n",
    "\\x41",
    "\\u0041",
    "\\101",
    "\\Q.*\\E",
    ".*",
    ".+",
    "(?i)fraud",
    "(?:a|b)",
    "[a-z]+",
    "^a$",
    "a|b",
    "{}",
    "$1",
    "fraud-router-6c9f8d-x2x4z",
    "frаud-router-6c9f8d-x2x4z",  # noqa: RUF001 -- a Cyrillic letter is the point
    "FRAUD-ROUTER-6c9f8d-x2x4z",
    unicodedata.normalize("NFD", "é"),
    unicodedata.normalize("NFC", "é"),
    "v" * 5000,
]
DECOYS = ["ab", "aXb", "a\\b2", "A", "vector(1)", "x", "fraud", "n", '"']
VALUES = list(dict.fromkeys([*SPLIT, *WHOLE, *DECOYS]))
BATCH = 30


async def test_every_value_selects_itself_and_nothing_else(tmp_path: Path) -> None:
    try:
        server = Prometheus(find_prometheus(), tmp_path)
    except MissingProgramError as error:
        pytest.fail(str(error), pytrace=False)
    source = PrometheusSource(SourceConfig(url=server.url, scrape_interval_seconds=SCRAPE_SECONDS, timeout_seconds=5))
    async with Exporter(Pod("any")).serving() as exporter:
        # Labels come from service discovery, which takes any UTF-8; each value is a target of its own.
        targets = [{"targets": [f"127.0.0.1:{exporter.port}"], "labels": {"namespace": "shop", "pod": value}} for value in VALUES]
        (tmp_path / "targets.json").write_text(json.dumps(targets))
        try:
            await server.start()
            await _until_all_are_scraped(source)
            found = [await _selected(source, promql.one_of("pod", {value})) for value in VALUES]
            assert found == [{value} for value in VALUES]
            for value in VALUES:
                others = {other for other in VALUES if not other.startswith(value)}
                assert not await _selected(source, promql.starting_with("pod", {value})) & others
                assert await _selected(source, promql.unequal("pod", value)) == set(VALUES) - {value}
            for first in range(0, len(VALUES), BATCH):
                batch = set(VALUES[first : first + BATCH])
                assert await _selected(source, promql.one_of("pod", batch)) == batch
            # The whole query of the profile, with a hostile value in every place that a resource can reach.
            for value in WHOLE:
                query = profile.traffic_query([80], {"shop", value}, {value}, 20)
                assert {one.labels["pod"] for one in await source.query(query, _now())} == {
                    other for other in VALUES if other.startswith(value)
                }
        finally:
            await source.close()
            await server.stop()


async def _selected(source: PrometheusSource, matcher: str) -> set[str]:
    series = await source.query(promql.samples(['__name__="up"', matcher], 20), _now())
    return {one.labels["pod"] for one in series if one.labels.get("namespace") == "shop"}


async def _until_all_are_scraped(source: PrometheusSource) -> None:
    async with asyncio.timeout(30):
        while len(await _selected(source, promql.one_of("namespace", {"shop"}))) < len(VALUES):
            await asyncio.sleep(0.2)
    await asyncio.sleep(2 * SCRAPE_SECONDS)


def _now() -> float:

    return time.time()
