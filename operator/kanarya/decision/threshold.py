"""Method `Threshold`: compare a rate with its limits once there are enough samples."""

from __future__ import annotations

from kanarya.decision.verdict import Kind, Verdict, eta_of

BETWEEN_EDGES = "LatencyBetweenEdges"
"""Reason of a verdict that the histogram is too coarse for."""
FEWEST_BAD = 3
"""No candidate is called bad on fewer bad events than this."""


def judge_rate(
    *,
    bad: float,
    bad_at_abort: float,
    total: float,
    slo: float,
    abort: float,
    need: float,
    elapsed: float,
    word: str,
    at_most: float | None = None,
) -> Verdict:
    """Judge a rate of bad events.

    Parameters
    ----------
    bad, bad_at_abort
        Events that count against `slo`, and those that count against `abort` (the same for errors; slower than either limit for
        latency).
    total
        Requests among which they were counted.
    slo, abort
        Limits of the rate, `bad / total > slo` is Within, `bad_at_abort / total > abort` is Bad.
    need
        Fewest requests that allow a verdict.
    elapsed
        Seconds in which the requests came, for the estimate of when there will be enough.
    word
        What the reason begins with, such as `Errors`.
    at_most
        Events that may count against `slo`, when it is not known of all whether they do; None: `bad`.
    """
    if total < need:
        eta = eta_of(total, need, elapsed)
        return Verdict(
            Kind.INSUFFICIENT,
            "TooFewSamples",
            bad / total if total else None,
            slo,
            abort,
            total,
            need,
            eta,
            _waiting(total, need, eta),
        )
    rate, abort_rate = bad / total, bad_at_abort / total
    if abort_rate > abort and bad_at_abort >= FEWEST_BAD:
        return Verdict(Kind.BAD, f"{word}AboveAbort", abort_rate, slo, abort, total, need)
    if rate > slo:
        return Verdict(Kind.WITHIN, f"{word}AboveSlo", rate, slo, abort, total, need)
    if at_most is not None and at_most / total > slo:
        return Verdict(Kind.INSUFFICIENT, BETWEEN_EDGES, rate, slo, abort, total, total, detail=between_edges(bad, at_most, total))
    return Verdict(Kind.GOOD, f"{word}WithinSlo", rate, slo, abort, total, need)


def between_edges(known: float, possible: float, total: float) -> str:
    """Say that a histogram is too coarse for its limit."""
    return f"{known:.0f} of {total:.0f} requests are slower, {possible:.0f} may be: the histogram has no edge near enough to tell"


def _waiting(have: float, need: float, eta: float | None) -> str:
    when = f", about {eta:.0f} s at this rate" if eta is not None else ""
    return f"{have:.0f} of {need:.0f} requests{when}"
