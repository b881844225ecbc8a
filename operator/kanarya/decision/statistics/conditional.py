"""The candidate against stable, when what is wrong hits both: on which track do the bad events fall.

Whatever the rate of bad events does from moment to moment, requests that are routed at random make each bad event land on the candidate
with probability w rc / (w rc + (1-w) rb): w is the candidate's share of the requests, rc and rb the rates of candidate and stable. A
candidate at most R times as bad as stable has at most p0 = R w / (R w + 1 - w), and `anytime` tests that on the bad events alone. Routing
by hash, cookie or replica count is not random in this sense.

Source: the conditional test of two Poisson rates, Przyborowski, Wilenski 1940.
"""

from __future__ import annotations

from math import inf

from kanarya.decision.statistics.anytime import Prior, log_e_above

PRIOR_WEIGHT = 10.0
"""The prior is worth this many bad events that fell as p0 says."""


def log_e_worse(*, candidate_bad: float, candidate_total: float, stable_bad: float, stable_total: float, ratio: float = 1.0) -> float:
    """Give ln E for "the candidate's rate is more than `ratio` times stable's"; minus infinity while a track has no requests.

    Counts are of the same span and the same weight: counts of another weight are another segment, and segments' ln E add up.

    Parameters
    ----------
    candidate_bad, stable_bad
        Bad events on either track; may be fractions.
    candidate_total, stable_total
        Requests on either track, as observed: the share is that of the requests, not the nominal weight.
    """
    if candidate_total <= 0 or stable_total <= 0:
        return -inf
    odds = ratio * candidate_total / stable_total
    return _log_e_of_two(candidate_bad, stable_bad, odds / (1 + odds))


def log_e_discordant(*, only_candidate_bad: float, only_stable_bad: float, ratio: float = 1.0) -> float:
    """Give ln E for "the candidate goes wrong alone more than `ratio` times as often as stable does", from mirrored pairs.

    Pairs in which both tracks went wrong, or neither, say nothing about a difference: what is common to both cancels exactly.
    """
    return _log_e_of_two(only_candidate_bad, only_stable_bad, ratio / (1 + ratio))


def _log_e_of_two(candidate: float, stable: float, p0: float) -> float:
    return log_e_above(candidate, candidate + stable, p0, Prior(PRIOR_WEIGHT * p0, PRIOR_WEIGHT * (1 - p0)))
