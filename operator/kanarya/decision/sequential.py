"""Method `Sequential`: judge a rate by evidence that holds at any time, however often it is looked at.

How the error probabilities are split. `alpha` = 1 - confidence.abort is the probability that a run is rolled back although no rate
was ever above its abort limit; the last column is the default plan's (0.99, five steps, no soak).

==================================================  =====================================  ==========
test                                                 share                                  default
==================================================  =====================================  ==========
the whole run                                        alpha                                  1/100
a stage: Preflight, each step, the soak if any       1 / stages of the above                1/600
a metric: errors, latency, match, r ratios of a team  1/(3 + r) of the above                 1/1800
errors, latency: on the pool; on live alone          1/2 of the above each                  1/3600
match: on the pool, all there is                     the metric's whole                     1/1800
of each test: from the stage's start                 weight 1/2                             1/7200
of each test: the k-th window of the stage           weight 1/2 x 1/k(k+1)                  1/7200 ...
==================================================  =====================================  ==========

The last two are weights in one mean of e-values, which passes at the test's share; each alone passes at its own. A stage whose counts
begin again (history lost, weight restored) spends its share again.

*Good* is not split: a step advances when all metrics are Good at once, so to advance wrongly is to be wrong about the one that is not;
1 - confidence.advance bounds that per step. *Within* is shown at 0.05, whatever the confidence: a stricter one must not make it rarer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log

from kanarya.decision.statistics.anytime import JEFFREYS, Prior, complement, informative, log_e_above, log_e_at_most, log_e_below
from kanarya.decision.statistics.conditional import log_e_discordant, log_e_worse
from kanarya.decision.statistics.windows import STEP, Ring, Span, Tally, log_mean, spans
from kanarya.decision.threshold import BETWEEN_EDGES, between_edges
from kanarya.decision.verdict import Kind, Verdict

FEWEST_BAD = 3
"""No candidate is called bad on fewer bad events than this, counted as they are."""
SHOWN = 0.05
"""Error probability of "the rate is above slo", and of "stable is above abort"."""
METRICS_SHARING = 3
TOLERATED_RATIO = 2.0
"""While stable is above abort, a candidate up to this many times as bad is no worse: so far apart are slo and abort by default."""
MOST_NEEDED = 1e7
"""Requests beyond which "how many more" has no useful answer."""
IMAGINED_BAD = 0.5
"""The rate to come is estimated as if so many bad events had been seen before: at slo, or at half of abort where that is less, for at
abort itself there would be no end."""


@dataclass(frozen=True)
class Alphas:
    """Error probabilities of one metric in one stage: `bad` for all its tests of Bad together, `good` for Good."""

    bad: float
    good: float


@lru_cache(maxsize=64)
def alphas(*, abort: float, advance: float, steps: int, soak: bool, ratios: int = 0) -> Alphas:
    """Split the confidences of a plan; see the table at the top.

    Parameters
    ----------
    abort, advance
        `confidence.abort` and `confidence.advance`, such as 0.99 and 0.95.
    steps, soak
        Steps of the plan, and whether a soak follows.
    ratios
        Ratios of the team's own, which share with our metrics.
    """
    stages = 1 + steps + soak
    return Alphas(complement(abort) / stages / (METRICS_SHARING + ratios), complement(advance))


@dataclass(frozen=True)
class Limits:
    """Limits of the share of bad events, and the word that reasons begin with, such as `Errors`."""

    slo: float
    abort: float
    word: str


@dataclass(frozen=True)
class Stream:
    """Counts of one test since the step began, bad against abort; the windows opened before this look; the design effect."""

    now: Tally
    ring: Ring
    effect: float = 1.0
    name: str = "all attempts"


@dataclass(frozen=True)
class Proof:
    """What a test of Bad found.

    Attributes
    ----------
    log_e, needed
        ln of the mean e-value, and the ln that makes it Bad. Where likelihoods alone show that it is not reached, what `log_e` is at most.
    unexcused
        The same as `log_e` as if nothing were ever excused by stable.
    spans
        The spans that hold evidence, the one that holds most first. All others count as 0.
    storm
        Number of the youngest window in which stable is shown to be above abort, 0 for the step; None when there is none.
    """

    log_e: float
    needed: float
    unexcused: float
    spans: tuple[Span, ...]
    storm: int | None = None

    @property
    def used(self) -> frozenset[int]:
        """The windows behind it: counts, design effect and `ring.only(these)` are all that is needed to come to the same verdict again."""
        return frozenset(span.number for span in self.spans) | (frozenset() if self.storm is None else {self.storm})

    @property
    def bad(self) -> bool:
        """Whether the candidate is shown to be bad."""
        return self.log_e >= self.needed

    @property
    def excused(self) -> bool:
        """Whether it would be, had stable not been as bad in the same time."""
        return not self.bad and self.unexcused >= self.needed


@dataclass(frozen=True)
class Judgement:
    """A verdict, the tests of Bad behind it by name, and whether Bad is put off because stable is above abort as well."""

    verdict: Verdict
    proofs: dict[str, Proof]
    excused: bool


def judge_rate(
    pool: Stream,
    live: Stream | None,
    *,
    bad_at_slo: float,
    limits: Limits,
    alphas: Alphas,
    elapsed: float,
    at_most: tuple[float, float] | None = None,
    forecast: bool = True,
) -> Judgement:
    """Judge a rate over a step.

    Parameters
    ----------
    pool, live
        Attempts of the candidate, all and live alone; None for a metric that has no live part.
    bad_at_slo
        Events of the pool that are bad against `limits.slo`; the same as those against abort, except for latency.
    elapsed
        Seconds in which the requests came, for the estimate of when there will be enough.
    at_most
        Events of the pool that may be bad against slo, and against abort, where it is not known of all; None: those that are.
    forecast
        Whether to estimate how many requests it takes when there are too few; else as many are needed as there are.
    """
    streams = [pool] if live is None else [pool, live]
    proofs = {stream.name: prove_bad(stream, limits.abort, alphas.bad / len(streams)) for stream in streams}
    for stream in streams:
        if proofs[stream.name].bad:
            return Judgement(_bad(proofs[stream.name], stream, limits), proofs, excused=False)
    if any(proof.excused for proof in proofs.values()):
        return Judgement(_put_off(pool, limits), proofs, excused=True)
    now = pool.now.since(Tally())
    known = _Seen(min(bad_at_slo, now.total), now.bad, now.total, pool.effect)
    possible = known if at_most is None else known.possibly(*at_most)
    tests = len(streams) if forecast else None
    return Judgement(_not_bad(known, possible, limits, alphas, tests=tests, elapsed=elapsed), proofs, excused=False)


def prove_bad(stream: Stream, abort: float, alpha: float) -> Proof:
    """Test whether the rate is above abort, over the step and over each of its windows."""
    # A span whose rate is not above the limit has an e-value of at most 1: not worth its time.
    worth = spans(stream.now, stream.ring, fewest=FEWEST_BAD, above=abort)
    storm = storm_since(stream, abort) if worth else None
    needed = -log(alpha)
    most = _log_e_at_most(worth, stream.effect, abort)
    if most < needed:
        return Proof(most, needed, most, tuple(worth), storm)
    found: list[tuple[Span, float, float]] = []
    for span in worth:
        carried = span.counts.divided(stream.effect)
        plain = _both_priors(log_e_above, carried.bad, carried.total, abort)
        fair = min(plain, judged_against_stable(carried)) if _is_stormy(span, storm, abort) else plain
        found.append((span, fair, plain))
    log_e = log_mean([(span.weight, fair) for span, fair, _ in found])
    unexcused = log_mean([(span.weight, plain) for span, _, plain in found])
    ranked = sorted(found, key=lambda entry: log(entry[0].weight) + entry[1], reverse=True)
    return Proof(log_e, needed, unexcused, tuple(span for span, _, _ in ranked), storm)


def _is_stormy(span: Span, storm: int | None, abort: float) -> bool:
    """Whether stable's failures may excuse the candidate's in a span: it holds a shown storm, or stable is above abort in it as well.

    The first, because stable's good requests before may hide the storm in the span as a whole. The second, because of two tracks that are
    equally bad either may be the first of which it is shown.
    """
    if storm is not None and span.number <= storm:
        return True
    return _is_above(span.counts.stable_bad, span.counts.stable_total, abort)


def _is_above(bad: float, total: float, abort: float) -> bool:
    """Whether a rate lies above abort as it was counted, by the fewest bad events that say anything."""
    return bad >= FEWEST_BAD and bad > abort * total


def _log_e_at_most(found: Sequence[Span], effect: float, abort: float) -> float:
    """Give what the mean over spans, whose rates are all above abort, cannot exceed."""
    return log_mean([(span.weight, log_e_at_most(span.counts.bad / effect, span.counts.total / effect, abort)) for span in found])


def storm_since(stream: Stream, abort: float) -> int | None:
    """Give the number of the youngest window, 0 for the step, in which stable itself is shown to be above abort."""
    bad, total = stream.now.stable_bad, stream.now.stable_total
    for mark in reversed((STEP, *stream.ring.marks)):
        # Counts of a window are made only where they can show anything: this is asked of every window at every look.
        promising = _is_above(bad - mark.stable_bad, total - mark.stable_total, abort)
        if promising and shown_storm(stream.now.since(mark.start), abort, stream.effect):
            return mark.number
    return None


def shown_storm(counts: Tally, abort: float, effect: float = 1.0) -> bool:
    """Whether stable itself is shown to be above abort in a span."""
    if not _is_above(counts.stable_bad, counts.stable_total, abort):
        return False
    carried = counts.divided(effect)
    if log_e_at_most(carried.stable_bad, carried.stable_total, abort) < -log(SHOWN):
        return False
    return _both_priors(log_e_above, carried.stable_bad, carried.stable_total, abort) >= -log(SHOWN)


def judged_against_stable(counts: Tally, discordant: tuple[float, float] | None = None) -> float:
    """Give ln E for "the candidate is worse than stable by more than `TOLERATED_RATIO`".

    Parameters
    ----------
    counts
        Of one span and one weight, divided by the design effect.
    discordant
        Mirrored pairs in which only the candidate, and only stable, went wrong, where they are known: they say more than the rates.
    """
    if discordant is not None:
        only_candidate, only_stable = discordant
        return log_e_discordant(only_candidate_bad=only_candidate, only_stable_bad=only_stable, ratio=TOLERATED_RATIO)
    return log_e_worse(
        candidate_bad=counts.bad,
        candidate_total=counts.total,
        stable_bad=counts.stable_bad,
        stable_total=counts.stable_total,
        ratio=TOLERATED_RATIO,
    )


def _both_priors(log_e: Callable[[float, float, float, Prior], float], bad: float, total: float, p0: float) -> float:
    """Average over two priors: one finds what is far from the limit, the other what is near it, sooner than either for ln 2 more."""
    return log_mean([(0.5, log_e(bad, total, p0, prior)) for prior in (JEFFREYS, informative(p0))])


def _bad(proof: Proof, stream: Stream, limits: Limits) -> Verdict:
    span = proof.spans[0]
    counts = span.counts
    since = "since the step began" if span.number == 0 else f"since look {span.number} of the step"
    against = "Stable" if _is_stormy(span, proof.storm, limits.abort) else "Abort"
    return Verdict(
        Kind.BAD,
        f"{limits.word}Above{against}",
        counts.bad / counts.total,
        limits.slo,
        limits.abort,
        counts.total,
        counts.total,
        detail=f"{counts.bad:.0f} of {counts.total:.0f}, {stream.name}, {since}",
    )


def _put_off(pool: Stream, limits: Limits) -> Verdict:
    now = pool.now.since(Tally())
    detail = f"stable has {now.stable_bad:.0f} bad of {now.stable_total:.0f} requests: the candidate is not shown to be worse"
    rate = now.bad / now.total if now.total else None
    return Verdict(Kind.INSUFFICIENT, "StableAboveAbort", rate, limits.slo, limits.abort, now.total, detail=detail)


def _not_bad(seen: _Seen, possible: _Seen, limits: Limits, alphas: Alphas, *, tests: int | None, elapsed: float) -> Verdict:
    """Tell Within, Good and Insufficient apart, by the pool over the whole step: Within by what is known, Good by what is possible.

    `tests` of Bad are to come, for the forecast of when there will be enough; None: no forecast.
    """
    rate = seen.bad_at_slo / seen.total if seen.total else None

    def verdict(kind: Kind, reason: str, need: float, eta: float | None = None, detail: str = "") -> Verdict:
        return Verdict(kind, reason, rate, limits.slo, limits.abort, seen.total, need, eta, detail)

    if seen.above_slo(limits):
        return verdict(Kind.WITHIN, f"{limits.word}AboveSlo", seen.total)
    if possible.above_slo(limits):
        detail = between_edges(seen.bad_at_slo, possible.bad_at_slo, seen.total)
        return verdict(Kind.INSUFFICIENT, BETWEEN_EDGES, seen.total, detail=detail)
    if possible.below_abort(limits, alphas):
        return verdict(Kind.GOOD, f"{limits.word}WithinSlo", seen.total)
    if tests is None:
        return verdict(Kind.INSUFFICIENT, "TooFewSamples", seen.total)
    need = _needed(possible, limits, alphas, tests)
    if need >= MOST_NEEDED:
        detail = f"{seen.total:.0f} requests; too near a limit to say how many it takes"
        return verdict(Kind.INSUFFICIENT, "TooFewSamples", need, detail=detail)
    eta = (need - seen.total) * elapsed / seen.total if seen.total > 0 and elapsed > 0 else None
    when = f", about {eta:.0f} s at this rate" if eta is not None else ""
    return verdict(Kind.INSUFFICIENT, "TooFewSamples", need, eta, f"{seen.total:.0f} of about {need:.0f} requests{when}")


@dataclass(frozen=True)
class _Seen:
    """Counts over the whole step."""

    bad_at_slo: float
    bad: float
    total: float
    effect: float

    def possibly(self, bad_at_slo: float, bad: float) -> _Seen:
        """Give the same requests with all that may be bad."""
        bad_at_slo, bad = max(bad_at_slo, self.bad_at_slo), max(bad, self.bad)
        return _Seen(min(bad_at_slo, self.total), min(bad, self.total), self.total, self.effect)

    def above_slo(self, limits: Limits) -> bool:
        return self._above(self.bad_at_slo, limits.slo, SHOWN)

    def below_abort(self, limits: Limits, alphas: Alphas) -> bool:
        bad, total, needed = self.bad / self.effect, self.total / self.effect, -log(alphas.good)
        if bad >= limits.abort * total or log_e_at_most(bad, total, limits.abort) < needed:
            return False
        return _both_priors(log_e_below, bad, total, limits.abort) >= needed

    def above_abort(self, limits: Limits, alpha: float) -> bool:
        return self.bad >= FEWEST_BAD and self._above(self.bad, limits.abort, alpha)

    def _above(self, bad: float, p0: float, alpha: float) -> bool:
        bad, total, needed = bad / self.effect, self.total / self.effect, -log(alpha)
        if bad <= p0 * total or log_e_at_most(bad, total, p0) < needed:
            return False
        return _both_priors(log_e_above, bad, total, p0) >= needed

    def later(self, total: float, limits: Limits) -> _Seen:
        """Give the counts at so many requests, if what comes is as what was seen."""
        more, imagined = total - self.total, IMAGINED_BAD / min(limits.slo, limits.abort / 2)

        def grown(bad: float) -> float:
            return bad + more * min(1.0, (bad + IMAGINED_BAD) / (self.total + imagined))

        return _Seen(grown(self.bad_at_slo), grown(self.bad), total, self.effect)


def _needed(seen: _Seen, limits: Limits, alphas: Alphas, tests: int) -> float:
    """Give the requests at which a verdict is expected, to within a few percent; `MOST_NEEDED` when there is no end to it."""
    share = alphas.bad / tests / 2

    def decided(total: float) -> bool:
        then = seen.later(total, limits)
        return then.below_abort(limits, alphas) or then.above_slo(limits) or then.above_abort(limits, share)

    low, high = seen.total, max(2 * seen.total, 16.0)
    while not decided(high):
        low, high = high, 2 * high
        if high > MOST_NEEDED:
            return MOST_NEEDED
    while high - low > max(0.05 * high, 1.0):
        middle = (low + high) / 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high
