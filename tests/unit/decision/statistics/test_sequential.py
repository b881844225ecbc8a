"""Method `Sequential`: each verdict, each rule, and what a restart may not change."""

from __future__ import annotations

import json
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from kanarya.decision.sequential import (
    MOST_NEEDED,
    Alphas,
    Judgement,
    Limits,
    Stream,
    alphas,
    judge_rate,
    judged_against_stable,
    prove_bad,
    shown_storm,
)
from kanarya.decision.statistics.anytime import JEFFREYS, informative, log_e_above
from kanarya.decision.statistics.windows import Ring, Tally, log_mean
from kanarya.decision.verdict import Kind

ERRORS = Limits(0.01, 0.02, "Errors")
SPLIT = alphas(abort=0.99, advance=0.95, steps=5, soak=False)
RINGS = TypeAdapter(Ring)


def judged(
    now: Tally,
    ring: Ring | None = None,
    *,
    live: Stream | None = None,
    at_slo: float | None = None,
    effect: float = 1.0,
    limits: Limits = ERRORS,
    split: Alphas = SPLIT,
    elapsed: float = 100.0,
) -> Judgement:
    pool = Stream(now, ring or Ring(), effect)
    return judge_rate(pool, live, bad_at_slo=now.bad if at_slo is None else at_slo, limits=limits, alphas=split, elapsed=elapsed)


def kind(now: Tally, ring: Ring | None = None) -> Kind:
    return judged(now, ring).verdict.kind


def walked(*spans: Tally) -> tuple[Tally, Ring]:
    """Give counts and ring after one look for each span."""
    now, ring = Tally(), Ring()
    for span in spans:
        now = Tally(*(a + b for a, b in zip(now, span, strict=True)))
        ring = ring.looked(now)
    return now, ring


# How the error probabilities are split


def test_a_run_spends_no_more_than_its_confidence_allows() -> None:
    assert (SPLIT.bad, SPLIT.good) == (0.01 / 6 / 3, 0.05)
    assert alphas(abort=0.99, advance=0.9, steps=5, soak=True) == Alphas(bad=0.01 / 7 / 3, good=0.1)
    one = alphas(abort=0.95, advance=0.95, steps=1, soak=False)
    assert 2 * 3 * one.bad == pytest.approx(0.05)


def test_pool_and_live_share_what_a_metric_has() -> None:
    now = Tally(5, 100)
    alone, shared = judged(now), judged(now, live=Stream(Tally(), Ring(), name="live alone"))
    assert alone.proofs["all attempts"].needed == pytest.approx(log(1800))
    assert {name: proof.needed for name, proof in shared.proofs.items()} == pytest.approx(
        {"all attempts": log(3600), "live alone": log(3600)}
    )


def test_half_the_weight_is_the_steps_own() -> None:
    now = Tally(30, 300)
    mean = log_mean([(0.5, log_e_above(30, 300, 0.02, prior)) for prior in (JEFFREYS, informative(0.02))])
    assert prove_bad(Stream(now, Ring()), 0.02, 0.01).log_e == pytest.approx(mean + log(0.5))


# Bad


def test_bad_waits_for_nothing() -> None:
    assert kind(Tally(4, 4)) is Kind.BAD
    assert judged(Tally(4, 4), elapsed=0).verdict.reason == "ErrorsAboveAbort"


def test_two_bad_events_are_never_enough() -> None:
    certain = Alphas(bad=0.9, good=0.05)
    assert judged(Tally(2, 2), split=certain).verdict.kind is not Kind.BAD
    assert judged(Tally(3, 3), split=certain).verdict.kind is Kind.BAD
    assert judged(Tally(3, 3), split=certain, effect=1.5).verdict.kind is Kind.BAD  # counted as they are, not divided


def test_a_fault_that_begins_late_is_not_hidden_by_what_was_good_before() -> None:
    now, ring = walked(*[Tally(1, 100)] * 50, Tally(15, 30))
    late = judged(now, ring)
    assert judged(now).verdict.kind is not Kind.BAD
    assert (late.verdict.kind, late.verdict.have, late.verdict.estimate) == (Kind.BAD, 30, 0.5)
    assert late.verdict.detail == "15 of 30, all attempts, since look 50 of the step"


def test_live_alone_is_tested_too() -> None:
    live = Stream(Tally(12, 50), Ring(), name="live alone")
    found = judged(Tally(12, 2000), live=live)
    assert (found.verdict.kind, found.verdict.detail) == (Kind.BAD, "12 of 50, live alone, since the step began")
    assert kind(Tally(12, 2000)) is not Kind.BAD


def test_a_proof_can_be_checked_from_its_spans_alone() -> None:
    now, ring = walked(*[Tally(1, 100)] * 20, Tally(15, 40), Tally(20, 40))
    proof = prove_bad(Stream(now, ring, 1.3), 0.02, 0.001)
    terms = [
        (span.weight / 2, log_e_above(span.counts.bad / 1.3, span.counts.total / 1.3, 0.02, prior))
        for span in proof.spans
        for prior in (JEFFREYS, informative(0.02))
    ]
    assert proof.bad
    assert log_mean(terms) == pytest.approx(proof.log_e)


@given(st.lists(st.tuples(*[st.integers(0, 4), st.integers(0, 30)] * 2), min_size=1, max_size=60), st.floats(1, 5))
@settings(deadline=None, max_examples=100)
def test_what_is_left_out_of_a_proof_could_not_have_made_it(increments: list[tuple[int, int, int, int]], effect: float) -> None:
    now, ring = walked(*(Tally(min(a, b), b, min(c, d), d) for a, b, c, d in increments))
    stream = Stream(now, ring, effect)
    whole = prove_bad(stream, 0.02, 1.0)  # nothing from E = 1 on is left out
    for alpha in (0.3, 0.05, 0.01, SPLIT.bad):
        found = prove_bad(stream, 0.02, alpha)
        assert found.bad == (whole.log_e >= -log(alpha))
        assert found.excused == (whole.log_e < -log(alpha) <= whole.unexcused)
        assert found.used == whole.used


@given(st.integers(0, 60), st.integers(0, 3000), st.integers(0, 60), st.floats(1, 5))
@settings(deadline=None, max_examples=100)
def test_a_forecast_decides_nothing(bad: int, total: int, slow: int, effect: float) -> None:
    now = Tally(min(bad, total), total)
    told, untold = (
        judge_rate(
            Stream(now, Ring(), effect),
            None,
            bad_at_slo=min(now.bad + slow, total),
            limits=ERRORS,
            alphas=SPLIT,
            elapsed=100.0,
            forecast=forecast,
        )
        for forecast in (True, False)
    )
    assert (untold.verdict.kind, untold.verdict.reason, untold.excused) == (told.verdict.kind, told.verdict.reason, told.excused)
    assert untold.proofs == told.proofs


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), max_size=60), st.floats(1, 5))
@settings(deadline=None, max_examples=50)
def test_what_evidence_keeps_of_the_windows_gives_the_same_judgement(increments: list[tuple[int, int]], effect: float) -> None:
    now, ring = walked(*(Tally(min(bad, total), total) for bad, total in increments))
    whole = judged(now, ring, effect=effect)
    kept = ring.only({span.number for proof in whole.proofs.values() for span in proof.spans})
    assert judged(now, kept, effect=effect) == whole


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), max_size=60), st.floats(1, 5))
@settings(deadline=None, max_examples=50)
def test_a_bad_request_more_never_saves_a_candidate(increments: list[tuple[int, int]], effect: float) -> None:
    now, ring = walked(*(Tally(min(bad, total), total) for bad, total in increments))
    more = now._replace(bad=now.bad + 1, total=now.total + 1)
    if judged(now, ring, effect=effect).verdict.kind is Kind.BAD:
        assert judged(more, ring, effect=effect).verdict.kind is Kind.BAD


# Good, Within, Insufficient


def test_good_is_shown_below_abort_and_not_shown_above_slo() -> None:
    assert kind(Tally(0, 207)) is Kind.INSUFFICIENT
    assert kind(Tally(0, 208)) is Kind.GOOD
    assert kind(Tally(20, 2000)) is Kind.GOOD
    assert kind(Tally(20, 1000)) is Kind.INSUFFICIENT  # twice slo: too early to tell
    assert kind(Tally(75, 5000)) is Kind.WITHIN  # below abort for sure, and above slo for sure


def test_latency_is_within_by_the_one_threshold_and_bad_by_the_other() -> None:
    limits = Limits(0.05, 0.05, "Latency")
    slow = judged(Tally(20, 1000), at_slo=90, limits=limits).verdict
    assert (slow.kind, slow.reason, slow.estimate) == (Kind.WITHIN, "LatencyAboveSlo", 0.09)
    assert judged(Tally(20, 1000), at_slo=50, limits=limits).verdict.kind is Kind.GOOD
    assert judged(Tally(90, 1000), at_slo=90, limits=limits).verdict.kind is Kind.BAD


def test_bursts_make_counts_worth_less() -> None:
    for now in (Tally(20, 2000), Tally(75, 5000), Tally(10, 60)):
        assert judged(now).verdict.kind is not Kind.INSUFFICIENT
        assert judged(now, effect=5).verdict.kind is Kind.INSUFFICIENT


def test_nothing_seen_says_how_many_requests_a_candidate_at_slo_needs() -> None:
    verdict = judged(Tally(), elapsed=0).verdict
    assert (verdict.kind, verdict.reason, verdict.have, verdict.estimate, verdict.eta_seconds) == (
        Kind.INSUFFICIENT,
        "TooFewSamples",
        0,
        None,
        None,
    )
    assert 900 < verdict.need < 1600


@pytest.mark.parametrize("bad", [0, 1, 4])
@pytest.mark.parametrize("effect", [1.0, 3.0])
def test_need_is_about_where_the_verdict_comes_if_all_goes_on_as_it_was(bad: float, effect: float) -> None:
    first = judged(Tally(bad, 150), effect=effect, elapsed=75).verdict
    assert first.kind is Kind.INSUFFICIENT
    came = next(n for n in range(151, 40_000, 20) if judged(Tally(bad / 150 * n, n), effect=effect).verdict.kind is not Kind.INSUFFICIENT)
    # what comes is imagined a little nearer to slo than what was seen: 0 bad of 150 is not taken for never
    assert came / 2 <= first.need <= came * 2
    assert first.eta_seconds == pytest.approx((first.need - 150) / 2)


def test_a_rate_at_the_limit_has_no_end() -> None:
    verdict = judged(Tally(30.5, 1500), at_slo=0, limits=Limits(0.0199, 0.02, "Errors")).verdict  # 31 of 1550 with what is imagined
    assert (verdict.kind, verdict.need, verdict.eta_seconds) == (Kind.INSUFFICIENT, MOST_NEEDED, None)
    assert verdict.detail == "1500 requests; too near a limit to say how many it takes"


def test_before_the_first_request_a_good_candidate_is_imagined() -> None:
    """Seen in the demo: latency, whose slo and abort are one share of two thresholds, showed "0 of 10000000" at each step's beginning."""
    verdict = judged(Tally(0, 0), limits=Limits(0.05, 0.05, "Latency")).verdict
    assert (verdict.kind, verdict.reason) == (Kind.INSUFFICIENT, "TooFewSamples")
    assert 100 < verdict.need < 1000, verdict


def test_counts_that_scrapes_left_uneven_are_still_counts() -> None:
    assert kind(Tally(7.5, 5.25)) is Kind.BAD
    assert judged(Tally(9, 2), split=Alphas(bad=0.9, good=0.05)).verdict.kind is not Kind.BAD  # two requests, so at most two bad ones
    assert kind(Tally(0.4, 300.2)) is Kind.GOOD


# Storms


def test_while_stable_is_as_bad_the_candidate_is_not_blamed() -> None:
    found = judged(Tally(40, 200, 36, 200))
    assert (found.verdict.kind, found.verdict.reason, found.excused) == (Kind.INSUFFICIENT, "StableAboveAbort", True)
    assert judged(Tally(40, 200, 1, 200)).verdict.kind is Kind.BAD


def test_a_candidate_much_worse_than_a_bad_stable_is_bad() -> None:
    found = judged(Tally(180, 200, 30, 200))
    assert (found.verdict.kind, found.verdict.reason, found.excused) == (Kind.BAD, "ErrorsAboveStable", False)


def test_a_candidate_half_as_bad_again_is_not_blamed_in_a_storm() -> None:
    assert judged(Tally(600, 2000, 400, 2000)).excused
    assert not judged(Tally(1400, 2000, 400, 2000)).excused


def test_a_candidate_that_mends_a_bad_stable_is_good() -> None:
    found = judged(Tally(2, 2000, 400, 2000))
    assert (found.verdict.kind, found.excused) == (Kind.GOOD, False)


def test_a_storm_that_is_over_excuses_nothing_that_comes_after_it() -> None:
    now, ring = walked(Tally(40, 200, 40, 200), *[Tally(1, 100, 1, 100)] * 10, Tally(30, 60, 0, 60))
    found = judged(now, ring)
    assert (found.verdict.kind, found.verdict.reason) == (Kind.BAD, "ErrorsAboveAbort")
    quiet, ring = walked(Tally(40, 200, 40, 200), *[Tally(1, 100, 1, 100)] * 10)
    assert judged(quiet, ring).excused


def test_good_requests_before_a_storm_do_not_hide_it() -> None:
    """Over the whole step stable is not above abort yet, and the candidate is: the storm is in both."""
    before, storm = Tally(10, 10_000, 0, 10_000), Tally(400, 817, 215, 817)
    now, ring = walked(before, storm)
    stream = Stream(now, ring, effect=5)
    assert not shown_storm(now, 0.02, effect=5)
    proof = prove_bad(stream, 0.02, 1 / 3600)
    assert (proof.bad, proof.excused, proof.storm) == (False, True, 1)
    assert prove_bad(Stream(now, ring.only(proof.used), effect=5), 0.02, 1 / 3600) == proof
    # Without the window there is no telling the storm from a fault.
    assert prove_bad(Stream(now, Ring(), effect=5), 0.02, 1 / 3600).bad


def test_of_two_equally_bad_tracks_neither_is_to_blame_because_it_was_shown_first() -> None:
    """Stable is not yet shown to be above abort, though it is; the candidate has a few bad requests more."""
    counts = Tally(48, 800, 20, 800)
    assert not shown_storm(counts, 0.02)
    assert prove_bad(Stream(counts._replace(stable_bad=15), Ring()), 0.02, 1 / 3600).bad  # below abort: stable says nothing
    found = judged(counts)
    assert (found.excused, found.verdict.reason) == (True, "StableAboveAbort")
    assert judged(counts._replace(bad=120)).verdict.reason == "ErrorsAboveStable"


def test_an_excuse_never_makes_a_candidate_bad() -> None:
    for stable_bad in range(0, 200, 5):
        plain, fair = (
            prove_bad(Stream(Tally(40, 200), Ring()), 0.02, 0.001),
            prove_bad(Stream(Tally(40, 200, stable_bad, 200), Ring()), 0.02, 0.001),
        )
        assert fair.log_e <= plain.log_e == fair.unexcused


def test_a_storm_must_be_shown() -> None:
    assert not shown_storm(Tally(stable_bad=2, stable_total=2), 0.02)
    assert not shown_storm(Tally(stable_bad=3, stable_total=100), 0.02)
    assert shown_storm(Tally(stable_bad=8, stable_total=100), 0.02)
    assert not shown_storm(Tally(stable_bad=8, stable_total=100), 0.02, effect=5)


def test_pairs_say_more_than_rates() -> None:
    both_bad = Tally(300, 1000, 290, 1000)  # of which 285 failed on both tracks
    assert judged_against_stable(both_bad) < 0
    assert judged_against_stable(both_bad, discordant=(15, 5)) > judged_against_stable(both_bad)
    assert judged_against_stable(both_bad, discordant=(40, 0)) > log(100)


# A restart


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30), st.integers(0, 4), st.integers(0, 30)), max_size=80), st.data())
def test_a_restart_changes_no_verdict(looks: list[tuple[int, int, int, int]], data: st.DataObject) -> None:
    now, ring, restarted = Tally(), Ring(), Ring()
    again = data.draw(st.sets(st.integers(0, 80)))
    for number, (bad, total, stable_bad, stable_total) in enumerate(looks):
        seen = Tally(min(bad, total), total, min(stable_bad, stable_total), stable_total)
        now = Tally(*(a + b for a, b in zip(now, seen, strict=True)))
        if number in again:
            restarted = RINGS.validate_python(json.loads(json.dumps(RINGS.dump_python(restarted, mode="json"))))
        assert judged(now, ring) == judged(now, restarted)
        ring, restarted = ring.looked(now), restarted.looked(now)
