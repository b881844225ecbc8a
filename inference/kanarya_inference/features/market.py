"""Features of a price series that do not drift with the price level, derived from quotes: `ts` (seconds), `bid` and `ask`.

Causal: the features of a row depend on that row and earlier ones only, so what training sees is what serving could have known.
With mid = (bid + ask) / 2, p(s) the mid of the last row at or before time s (missing when that is more than `STALE_SECONDS`
older than s), and a window of w seconds at row i made of the rows up to i whose time is later than ts(i) - w:

==================  =========================================================================================================
`mid_logret_1m`     ln(mid / p(ts - 60))
`mid_logret_5m`     ln(mid / p(ts - 300))
`spread_bp`         10^4 (ask - bid) / mid
`vol1m_log`         ln(1 + 10^4 sqrt(sum of r^2)), r the log returns from row to row that end in a window of 60 s
`rsi14_z`           (RSI - 50) / 16, RSI = 100 U / (U + D), 50 when nothing moved; U and D are the sums of the rises and falls of
                    the fifteen prices mid, p(ts - 60), ..., p(ts - 840): Cutler's RSI, of plain sums, which needs no memory
`zscore_mid_24h`    (mid - mean) / standard deviation of mid in a window of 24 h; missing below `ZSCORE_ROWS` rows, 0 when nothing moved
==================  =========================================================================================================

16 is about the standard deviation of the RSI of fourteen independent normal steps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MARKET_FEATURES = ("mid_logret_1m", "mid_logret_5m", "spread_bp", "vol1m_log", "rsi14_z", "zscore_mid_24h")
MINUTE, DAY = 60.0, 86_400.0
STALE_SECONDS = 60.0
RSI_STEPS = 14
RSI_SD = 16.0
ZSCORE_ROWS = 30
BASIS_POINTS = 1e4


class QuoteError(Exception):
    """The quotes cannot be used; the message names the first bad row."""


def market_features(ts: Floats, bid: Floats, ask: Floats) -> dict[str, Floats]:
    """Return the six features of each row, NaN where missing. Raises `QuoteError`."""
    _check(ts, bid, ask)
    mid = (bid + ask) / 2
    log_mid = np.log(mid)
    steps = np.stack([log_mid, *(_as_of(ts, log_mid, ts - MINUTE * back) for back in range(1, RSI_STEPS + 1))])
    return {
        "mid_logret_1m": log_mid - steps[1],
        "mid_logret_5m": log_mid - steps[5],
        "spread_bp": BASIS_POINTS * (ask - bid) / mid,
        "vol1m_log": np.log1p(BASIS_POINTS * _realised_volatility(ts, log_mid)),
        "rsi14_z": (_rsi(np.exp(steps)) - 50) / RSI_SD,
        "zscore_mid_24h": _zscore(ts, mid),
    }


def _check(ts: Floats, bid: Floats, ask: Floats) -> None:
    known = np.isfinite(ts) & np.isfinite(bid) & np.isfinite(ask)
    for bad, sentence in (
        (~known, "ts, bid and ask have to be finite numbers"),
        (~(known & (bid > 0) & (ask >= bid)), "bid has to be above 0 and ask not below bid"),
        (np.diff(ts, prepend=ts[:1]) < 0, "ts has to be sorted, it falls here"),
    ):
        if bad.any():
            raise QuoteError(f"row {int(np.argmax(bad)) + 1}: {sentence}")


def _as_of(ts: Floats, values: Floats, at: Floats) -> Floats:
    """Return the last value at or before each time; NaN when there is none or it is stale."""
    last = np.searchsorted(ts, at, side="right") - 1
    known = last >= 0
    last = np.maximum(last, 0)
    return np.where(known & (at - ts[last] <= STALE_SECONDS), values[last], np.nan)


def _window(ts: Floats, seconds: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return first row and one past the last row of each row's window; later rows of the same time stay out."""
    return np.searchsorted(ts, ts - seconds, side="right"), np.arange(1, len(ts) + 1)


def _sums(values: Floats, first: NDArray[np.int64], end: NDArray[np.int64]) -> Floats:
    # A running sum is added up in the rows' order, so that cutting the series off later changes no bit of what came before.
    total = np.concatenate([[0.0], np.cumsum(values)])
    sums: Floats = total[end] - total[first]
    return sums


def _realised_volatility(ts: Floats, log_mid: Floats) -> Floats:
    first, end = _window(ts, MINUTE)
    returns = np.diff(log_mid, prepend=log_mid[:1])
    first = np.maximum(first, 1)  # the first row has no return
    variance = np.maximum(_sums(returns**2, np.minimum(first, end), end), 0.0)
    return np.where(end > first, np.sqrt(variance), np.nan)


def _rsi(steps: Floats) -> Floats:
    moves = steps[:-1] - steps[1:]
    up, down = np.maximum(moves, 0).sum(axis=0), np.maximum(-moves, 0).sum(axis=0)
    moved = up + down
    return np.where(moved == 0, 50.0, 100 * up / np.where(moved == 0, 1.0, moved))


def _zscore(ts: Floats, mid: Floats) -> Floats:
    first, end = _window(ts, DAY)
    rows = (end - first).astype(np.float64)
    centred = mid - mid[:1]  # near 0, where the difference of two squares keeps its digits
    mean = _sums(centred, first, end) / rows
    variance = np.maximum(_sums(centred**2, first, end) / rows - mean**2, 0.0)
    deviation = np.sqrt(variance)
    still = deviation <= 1e-9 * mid
    score = np.where(still, 0.0, (centred - mean) / np.where(still, 1.0, deviation))
    return np.where(rows >= ZSCORE_ROWS, score, np.nan)
