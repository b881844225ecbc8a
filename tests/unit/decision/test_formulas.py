"""Numbers: PSI against published and hand-computed vectors, thresholds, judging."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kanarya.api.rollout import Analysis, DriftLimits, latched, parse_spec
from kanarya.decision import evidence
from kanarya.decision.counts import Attempts, Counts, Drift, Missing, counts_from_json, counts_json, drift_from_json, drift_json
from kanarya.decision.drift import judge_drift
from kanarya.decision.judge import Standard, judge
from kanarya.decision.replay import first_difference
from kanarya.decision.state import Chain, State
from kanarya.decision.statistics.psi import psi
from kanarya.decision.threshold import judge_rate
from kanarya.decision.verdict import Kind

TEN = [1000.0] * 10
THRESHOLD = Analysis(method="Threshold")
BINS = st.lists(st.integers(0, 5000).map(float), min_size=2, max_size=12)


@pytest.mark.parametrize(
    ("reference", "current", "expected"),
    [
        (TEN, [60, 80, 90, 100, 110, 120, 130, 120, 100, 90], 0.042666),
        (TEN, [30, 50, 70, 80, 100, 120, 140, 150, 140, 120], 0.186276),
        (TEN, [0, 55, 95, 100, 100, 100, 110, 130, 150, 160], 0.611312),
        ([5000, 3000, 1500, 500, 0], [400, 300, 220, 70, 10], 0.111902),
    ],
)
def test_psi_with_half_a_count_in_every_bin(reference: list[float], current: list[float], expected: float) -> None:
    assert psi(reference, current) == pytest.approx(expected, abs=1e-6)


@given(BINS)
def test_psi_of_a_sample_with_itself_is_zero(bins: list[float]) -> None:
    assert psi(bins, bins) == pytest.approx(0, abs=1e-12)


@given(st.integers(2, 12).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 5000).map(float), min_size=n, max_size=n)] * 2)))
def test_psi_is_symmetric_and_never_negative(pair: tuple[list[float], list[float]]) -> None:
    assert psi(*pair) == pytest.approx(psi(pair[1], pair[0]))
    assert psi(*pair) >= 0


@pytest.mark.parametrize(("reference", "current"), [([1.0], [1.0]), ([1.0, 2.0], [1.0])])
def test_psi_refuses_bins_that_do_not_fit(reference: list[float], current: list[float]) -> None:
    with pytest.raises(ValueError, match="the same bins"):
        psi(reference, current)


def rate(bad: float, total: float, need: float = 100) -> Kind:
    return judge_rate(bad=bad, bad_at_abort=bad, total=total, slo=0.01, abort=0.02, need=need, elapsed=10, word="Errors").kind


@pytest.mark.parametrize(
    ("bad", "total", "kind"),
    [
        (99, 99, Kind.INSUFFICIENT),
        (0, 100, Kind.GOOD),
        (1, 100, Kind.GOOD),
        (2, 100, Kind.WITHIN),
        (3, 100, Kind.BAD),
        (20, 1000, Kind.WITHIN),
        (21, 1000, Kind.BAD),
    ],
)
def test_threshold_at_its_edges(bad: float, total: float, kind: Kind) -> None:
    assert rate(bad, total) is kind


def test_two_bad_events_are_never_enough_to_call_it_bad() -> None:
    assert rate(2, 10, need=5) is Kind.WITHIN
    assert rate(3, 10, need=5) is Kind.BAD


def test_how_long_until_there_is_enough() -> None:
    verdict = judge_rate(bad=0, bad_at_abort=0, total=25, slo=0.01, abort=0.02, need=100, elapsed=5, word="Errors")
    assert (verdict.have, verdict.need, verdict.eta_seconds) == (25, 100, 15)
    nothing = judge_rate(bad=0, bad_at_abort=0, total=0, slo=0.01, abort=0.02, need=100, elapsed=5, word="Errors")
    assert nothing.eta_seconds is None


def attempts(requests: float, errors: float = 0, slow: float = 0, very_slow: float = 0) -> Attempts:
    return Attempts(requests, errors, {"80": slow, "120": very_slow})


def judged(counts: Counts, drift: Drift | None = None, missing: dict[str, Missing] | None = None) -> dict[str, tuple[Kind, str]]:
    verdicts = judge(Standard(THRESHOLD), counts, drift or Drift(), missing or {}, elapsed=60, run_elapsed=60, settled=True).verdicts
    return {metric: (verdict.kind, verdict.reason) for metric, verdict in verdicts.items()}


def test_live_alone_can_be_bad_though_the_pool_is_good() -> None:
    counts = Counts(attempts(100, errors=5), attempts(9900), attempts(10000), 10000, 10000, 0)
    assert judged(counts)["errors"] == (Kind.BAD, "ErrorsAboveAbort")
    slow = Counts(attempts(100, slow=10, very_slow=10), attempts(9900), attempts(10000), 10000, 10000, 0)
    assert judged(slow)["latency"] == (Kind.BAD, "LatencyAboveAbort")


def test_latency_compares_the_share_beyond_each_limit() -> None:
    assert judged(Counts(attempts(1000, slow=50)))["latency"][0] is Kind.GOOD
    assert judged(Counts(attempts(1000, slow=51)))["latency"] == (Kind.WITHIN, "LatencyAboveSlo")
    assert judged(Counts(attempts(1000, slow=60, very_slow=51)))["latency"] == (Kind.BAD, "LatencyAboveAbort")


def test_the_match_rate_is_judged_and_shown_as_matches() -> None:
    counts = Counts(attempts(0), attempts(1000), attempts(1000), 1000, 1000, 40)
    verdict = judge(Standard(THRESHOLD), counts, Drift(), {}, elapsed=60, run_elapsed=60, settled=True).verdicts["match"]
    assert (verdict.kind, verdict.estimate, verdict.slo, verdict.abort) == (Kind.GOOD, 0.96, 0.95, 0.90)
    assert judged(Counts(attempts(0), attempts(1000), attempts(1000), 1000, 1000, 150))["match"] == (Kind.BAD, "MismatchesAboveAbort")


def test_a_match_rate_of_too_few_comparisons_means_nothing() -> None:
    assert judged(Counts(attempts(0), attempts(1000), attempts(1000), 1000, 900, 0))["match"] == (Kind.NO_DATA, "ComparisonsMissing")
    assert judged(Counts(attempts(0), attempts(1000), attempts(1000), 1000, 950, 0))["match"][0] is Kind.GOOD


def test_silence_is_told_apart() -> None:
    assert set(judged(Counts()).values()) == {(Kind.NO_DATA, "NoTraffic")}
    assert set(judged(Counts(stable=attempts(10))).values()) == {(Kind.NO_DATA, "NoSeries")}
    everything = Counts(attempts(1000), attempts(1000), attempts(1000), 1000, 1000, 0)
    assert set(judged(everything, missing={"*": Missing.STALE_SAMPLES}).values()) == {(Kind.NO_DATA, "StaleSamples")}
    assert judged(everything, missing={"match": Missing.MIRROR_BREAKER_OPEN})["match"] == (Kind.NO_DATA, "MirrorBreakerOpen")
    assert judged(everything, missing={"match": Missing.MIRROR_BREAKER_OPEN})["errors"][0] is Kind.GOOD


def test_what_was_counted_before_the_silence_still_stands() -> None:
    bad = Counts(attempts(1000, errors=500), attempts(0), attempts(1000), 0, 0, 0)
    assert judged(bad, missing={"errors": Missing.DUPLICATE_SERIES})["errors"][0] is Kind.BAD


def test_drift_needs_ten_samples_a_bin_and_names_what_moved() -> None:
    reference = {"spread_bp": (*[100.0] * 10, 0.0)}
    few = judge_drift(DriftLimits(), Drift({"spread_bp": (*[1.0] * 10, 0.0)}, reference), min_samples=1, elapsed=10)
    assert (few.kind, few.need) == (Kind.INSUFFICIENT, 110)
    moved = (*[0.0] * 9, 1000.0, 0.0)
    bad = judge_drift(DriftLimits(), Drift({"spread_bp": moved}, reference), min_samples=1, elapsed=10)
    assert bad.kind is Kind.BAD
    assert "spread_bp: bin 9 has 100 % instead of 10 %" in bad.detail
    assert judge_drift(DriftLimits(), Drift(), min_samples=1, elapsed=10).reason == "NoReference"
    unlike = Drift({"spread_bp": (1.0, 2.0)}, reference)
    assert judge_drift(DriftLimits(), unlike, min_samples=1, elapsed=10).kind is Kind.NO_DATA


NUMBERS = st.floats(0, 1e9, allow_nan=False)
ATTEMPTS = st.builds(Attempts, NUMBERS, NUMBERS, st.dictionaries(st.sampled_from(["80", "120"]), NUMBERS))


@given(st.builds(Counts, ATTEMPTS, ATTEMPTS, ATTEMPTS, NUMBERS, NUMBERS, NUMBERS))
def test_counts_survive_json(counts: Counts) -> None:
    assert counts_from_json(json.loads(json.dumps(counts_json(counts)))) == counts


def test_drift_survives_json() -> None:
    drift = Drift({"a": (1.0, 2.0)}, {"a": (3.0, 4.0)})
    assert drift_from_json(json.loads(json.dumps(drift_json(drift)))) == drift


def test_state_survives_json() -> None:
    state = State(uid="u", retired={"a": 1.5}, chain=evidence.append(Chain(run="r-1"), "Checkpoint", 1.0, {"x": [1, 2.5]}))
    assert State.model_validate(json.loads(state.model_dump_json(by_alias=True))) == state


def chained(count: int) -> list[dict[str, object]]:
    chain = Chain(run="r-1")
    for index in range(count):
        chain = evidence.append(chain, "StepEntered", float(index), {"step": index, "weight": index})
    return [dict(entry) for entry in chain.outbox]


def test_a_chain_tells_what_was_changed_left_out_or_put_in() -> None:
    entries = chained(4)
    assert first_difference(entries) is None
    assert first_difference([*entries[:1], {**entries[1], "weight": 99}, *entries[2:]]) == "entry 2 was changed after it was written"
    assert "sequence 3" in str(first_difference([entries[0], *entries[2:]]))
    swapped = {**entries[1], "previous": "f" * 64}
    assert first_difference([entries[0], swapped]) == "entry 2 does not follow the entry before it"


def test_periodic_entries_stop_before_decisions_do() -> None:
    chain = Chain(run="r", sequence=evidence.ENTRIES_LIMIT - evidence.RESERVED, head="0" * 64)
    assert evidence.append(chain, "Checkpoint", 1.0, {}, periodic=True) is chain
    assert evidence.append(chain, "Decision", 1.0, {}).sequence == chain.sequence + 1
    full = Chain(run="r", sequence=evidence.ENTRIES_LIMIT, head="0" * 64)
    assert evidence.append(full, "Decision", 1.0, {}) is full


def test_replay_names_the_first_verdict_that_differs() -> None:
    spec = parse_spec({"targetRef": {"name": "x"}, "serviceRef": {"name": "x"}})

    whole = latched(spec)
    counts = Counts(attempts(1000), attempts(1000), attempts(1000), 1000, 1000, 0)
    verdicts = judge(Standard(spec.analysis), counts, Drift(), {}, elapsed=60, run_elapsed=60, settled=True).verdicts
    observed = {
        "stage": "Stepping",
        "step": 1,
        "elapsed": 60.0,
        "runElapsed": 60.0,
        "counts": counts_json(counts),
        "drift": {},
        "missing": {},
        "verdicts": {metric: verdict.as_json() for metric, verdict in verdicts.items()},
    }
    chain = evidence.append(Chain(run="r"), "RunStarted", 1.0, {"spec": whole, "specDigest": evidence.digest(whole)})
    good = evidence.append(chain, "VerdictChanged", 2.0, observed)
    assert first_difference(good.outbox) is None
    told = {
        metric: {**verdict.as_json(), "need": 7, "etaSeconds": 3, "detail": "as another version says it"}
        for metric, verdict in verdicts.items()
    }
    assert first_difference(evidence.append(chain, "VerdictChanged", 2.0, {**observed, "verdicts": told}).outbox) is None
    lied = {**observed, "verdicts": {**observed["verdicts"], "errors": {"verdict": "Bad"}}}  # type: ignore[dict-item]
    assert "entry 2: errors was" in str(first_difference(evidence.append(chain, "VerdictChanged", 2.0, lied).outbox))
    assert "before the run's spec" in str(first_difference(evidence.append(Chain(run="r"), "VerdictChanged", 2.0, observed).outbox))
    wrong = evidence.append(Chain(run="r"), "RunStarted", 1.0, {"spec": whole, "specDigest": "0"})
    assert "digest" in str(first_difference(wrong.outbox))
    broken = {**whole, "plan": {"steps": []}}
    unreadable = evidence.append(Chain(run="r"), "RunStarted", 1.0, {"spec": broken, "specDigest": evidence.digest(broken)})
    assert "not readable" in str(first_difference(unreadable.outbox))
