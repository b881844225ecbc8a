"""One Prometheus, asked over its HTTP API: a request with every limit set, an answer with its shape checked.

The address comes from the operator's own configuration and never from a resource. Nothing that the server says is passed on: its
bodies may hold anything, so every failure is a sentence of ours.
"""

from __future__ import annotations

import asyncio
import email.utils
import itertools
import json
import logging
import math
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from kanarya.telemetry.access import Access, FileProblem
from kanarya.telemetry.configuration import SourceConfig
from kanarya.telemetry.look import STALE_SCRAPES, STALE_SLACK_SECONDS
from kanarya.telemetry.native import NativeHistogram, read_native

__all__ = ["PrometheusSource", "Series", "SourceConfig", "SourceError"]

log = logging.getLogger(__name__)

MAX_BYTES = 32 * 1024 * 1024
"""The largest answer that is read. A larger one is a failure, never half an answer."""

WHOLE = {"partial_response": "false", "deny_partial_response": "1"}
"""How Thanos, and how VictoriaMetrics, is told to fail rather than to answer without the stores that are away. Prometheus ignores both.

A look would pass over what an answer lacks: the watermark is one for all routers.
"""

MAX_SKEW_SECONDS = 10.0
"""How far the clocks of the two machines may be apart. Beyond it "later than the last weight change" means nothing."""

DATE_SECONDS = 1.0
"""The server's clock is known to whole seconds."""

Failure = Literal[
    "files", "tls", "timeout", "unreachable", "redirect", "unauthorized", "busy", "4xx", "5xx", "too_large", "bad_answer", "clock"
]

_ACCESS = frozenset({"files", "tls", "unauthorized"})

_UNTRUSTED = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed, and not in caFile",
    19: "is not signed by an authority that is trusted here: is caFile right?",
    20: "is not signed by an authority that is trusted here: is caFile right?",
    21: "is not signed by an authority that is trusted here: is caFile right?",
    62: "is for another name than that in url: is serverName needed?",
    64: "is for another address than that in url: is serverName needed?",
}
"""OpenSSL's codes for why a certificate is not accepted (`X509_V_ERR_*`)."""


class SourceError(Exception):
    """Prometheus gave no answer that can be used.

    Attributes
    ----------
    failure
        The class of failure, for metrics and policies. The message is a sentence of ours that holds no words of the server.
    """

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure: Failure = failure


@dataclass(frozen=True)
class Series:
    """One time series: its labels (with `__name__`), and samples as (epoch seconds, value), oldest first, times rising.

    The values of a native histogram are its counts; the whole samples stand in `histograms`.
    """

    labels: Mapping[str, str]
    samples: tuple[tuple[float, float], ...]
    histograms: tuple[tuple[float, NativeHistogram], ...] = ()


class PrometheusSource:
    """Range vectors from one Prometheus.

    Give `client` to share or to replace the HTTP client (it is then not closed here, and its TLS settings are its own); `wall` is the
    clock that is compared with the server's `Date`; `name` is what the configuration calls this source.
    """

    def __init__(
        self,
        config: SourceConfig,
        client: httpx.AsyncClient | None = None,
        *,
        wall: Callable[[], float] = time.time,
        name: str = "default",
    ) -> None:
        self.config = config
        self.name = name
        self.clock_ahead = 0.0
        """At least so many seconds our clock is ahead of the server's, by its last answer."""
        self._latest = self._steady_from = -math.inf
        self.clock_behind = 0.0
        """At most so many seconds our clock is behind the server's, once the answer shows that it is behind at all."""
        self._wall = wall
        self._access = Access(config, client)
        self._logged: Failure | None = None

    async def query(self, promql: str, at: float, *, lookback_seconds: float | None = None) -> list[Series]:
        """Evaluate `promql`, a range vector such as `up[20s]`, at the time `at` (epoch seconds).

        `lookback_seconds` is how old a sample may be that an instant selector inside a subquery still takes.

        Raises
        ------
        SourceError
            For everything that keeps the answer from being used. `timeoutSeconds` bounds the whole call.
        """
        try:
            series = _parse(await self._ask(promql, at, lookback_seconds))
        except SourceError as error:
            self._note(error)
            raise
        self._note(None)
        return series

    async def _ask(self, promql: str, at: float, lookback: float | None) -> bytes:
        try:
            async with asyncio.timeout(self.config.timeout_seconds), self._access.client() as client:
                return await self._post(client, promql, at, lookback)
        except FileProblem as problem:
            raise SourceError("files", f"Source {self.name}: {problem}.") from problem
        except (TimeoutError, httpx.TimeoutException) as error:
            raise SourceError("timeout", f"Prometheus gave no full answer in {self.config.timeout_seconds:g} s.") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, RuntimeError) as error:
            # RuntimeError: the client says so when it is closed under a running request.
            raise self._unreachable(error) from error

    async def _post(self, client: httpx.AsyncClient, promql: str, at: float, lookback: float | None) -> bytes:
        timeout = self.config.timeout_seconds
        form = {**WHOLE, "query": promql, "time": f"{at:.3f}", "timeout": f"{math.ceil(timeout * 1000)}ms"}
        if lookback is not None:
            form["lookback_delta"] = f"{math.ceil(lookback * 1000)}ms"
        sent = self._wall()
        async with client.stream(
            "POST",
            f"{self.config.url}/api/v1/query",
            data=form,
            # Packed bodies could unpack to far more than was counted.
            headers={**self._access.headers(), "Accept": "application/json", "Accept-Encoding": "identity"},
            timeout=timeout,
            follow_redirects=False,
            extensions=self._access.extensions,
        ) as response:
            self._check_status(response)
            self._compare_clocks(response.headers.get("Date"), sent, self._wall())
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise SourceError("too_large", f"The answer of Prometheus is larger than {MAX_BYTES // 1024**2} MiB.")
            return bytes(body)

    def _unreachable(self, error: Exception) -> SourceError:
        refused = _tls_error(error)
        if isinstance(refused, ssl.SSLCertVerificationError):
            why = _UNTRUSTED.get(refused.verify_code, f"was not accepted (OpenSSL's code {refused.verify_code})")
            return SourceError("tls", f"Source {self.name}: the certificate of Prometheus {why}.")
        if refused is not None and not isinstance(refused, ssl.SSLEOFError):
            hint = "is a client certificate wanted, or http instead of https?"
            return SourceError("tls", f"Source {self.name}: no TLS connection to Prometheus could be made: {hint}")
        return SourceError("unreachable", f"Prometheus cannot be reached ({type(error).__name__}).")

    def _note(self, error: SourceError | None) -> None:
        """Log when a source cannot be got at for a reason that its owner can change, and when it can be again."""
        failure = None if error is None else error.failure
        if failure == self._logged or (failure is not None and failure not in _ACCESS):
            return
        self._logged = failure
        if error is None:
            log.info("source %s answers again", self.name)
        else:
            log.warning("source %s counts as down: %s", self.name, error)

    @staticmethod
    def _check_status(response: httpx.Response) -> None:
        status = response.status_code
        if 300 <= status < 400:
            raise SourceError("redirect", f"Prometheus answered with a redirect ({status}), which is not followed.")
        if status in {401, 403, 407}:
            raise SourceError("unauthorized", f"Prometheus did not accept the credentials or the tenant ({status}).")
        if status == 429:
            raise SourceError("busy", "Prometheus is asked more often than it allows (429).")
        if 400 <= status < 500:
            raise SourceError("4xx", f"Prometheus refused the query ({status}).")
        if status >= 500:
            raise SourceError("5xx", f"Prometheus failed to answer the query ({status}).")
        if status != 200:
            raise SourceError("bad_answer", f"Prometheus answered with an unexpected status ({status}).")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise SourceError("bad_answer", "Prometheus sent a packed answer that was not asked for.")

    def _compare_clocks(self, date: str | None, sent: float, received: float) -> None:
        """Bound the difference of the clocks: the header is cut to whole seconds, written between `sent` and `received`."""
        try:
            server = email.utils.parsedate_to_datetime(date).timestamp() if date else None
        except (ValueError, TypeError, OverflowError):
            server = None
        self.clock_ahead = 0.0 if server is None else max(0.0, sent - (server + 1.0))
        behind = 0.0 if server is None else max(0.0, server - received)
        self.clock_behind = 0.0 if server is None or not behind else server + 1.0 - sent
        apart = max(self.clock_ahead, behind)
        if apart > MAX_SKEW_SECONDS:
            raise SourceError("clock", f"The clocks of the operator and of Prometheus are {apart:.0f} s apart.")
        self._check_steady(server)

    def _check_steady(self, server: float | None) -> None:
        """Refuse a time that comes a second time: Prometheus still shows what it stored the first time, and stores nothing new."""
        if server is None:
            return
        if self._latest - server > DATE_SECONDS:
            # When it has caught up the newest sample is still one of before, for as long as that is not stale.
            self._steady_from = self._latest + STALE_SCRAPES * self.config.scrape_interval_seconds + STALE_SLACK_SECONDS
        self._latest = max(self._latest, server)
        if server < self._steady_from:
            left = f"{self._steady_from - server:.0f} s"
            raise SourceError("clock", f"Prometheus' clock was set back: its samples may be old ones until it has caught up, in {left}.")

    async def close(self) -> None:
        """Give up connections."""
        await self._access.close()


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """Find what an exception of the HTTP client came from."""
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None or isinstance(seen, ssl.SSLError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _parse(body: bytes) -> list[Series]:
    """Read a matrix. `warnings` and `infos` say that something was odd, not that the samples are wrong: they are left alone."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise SourceError("bad_answer", "The answer of Prometheus is not JSON.") from error
    if not isinstance(answer, dict) or answer.get("status") != "success" or not isinstance(answer.get("data"), dict):
        raise SourceError("bad_answer", "The answer of Prometheus does not have the shape of its API.")
    data = answer["data"]
    if data.get("resultType") != "matrix" or not isinstance(data.get("result"), list):
        raise SourceError("bad_answer", "Prometheus answered with another kind of result than raw samples.")
    try:
        return [_series(item) for item in data["result"]]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise SourceError("bad_answer", "The answer of Prometheus holds a series that cannot be read.") from error


def _series(item: Mapping[str, Any]) -> Series:
    labels = item["metric"]
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise TypeError("labels")
    histograms = tuple((_time(at), read_native(sample)) for at, sample in item.get("histograms", ()))
    # A series that changed its kind has both: what went before is another counter.
    samples = tuple((at, one.count) for at, one in histograms) or tuple(_sample(pair) for pair in item.get("values", ()))
    if any(later[0] <= earlier[0] for earlier, later in itertools.pairwise(samples)):
        raise ValueError("times")
    return Series(labels, samples, histograms)


def _sample(pair: Sequence[Any]) -> tuple[float, float]:
    at, value = pair
    if not isinstance(value, str):
        raise TypeError("sample")
    return _time(at), float(value)


def _time(at: Any) -> float:
    if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at):
        raise TypeError("time")
    return float(at)
