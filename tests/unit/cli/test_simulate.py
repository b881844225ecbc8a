"""`kanarya simulate`: the same decision, against described candidates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kanarya.api.rollout import RolloutSpec, parse_spec
from kanarya.cli.main import main
from kanarya.cli.simulation.runs import Outcome, generator, play, simulate
from kanarya.cli.simulation.scenario import Latency, Scenario, check, parse_scenario
from kanarya.cli.simulation.summary import interval, quantile, summary
from kanarya.cli.simulation.traffic import Traffic
from kanarya.decision.counts import Counts, Reading
from tests.unit.cli.lines import rollout, write_rollout

TWO = {"steps": [{"weight": 10, "durationSeconds": 60}, {"weight": 100, "durationSeconds": 60}]}


def spec(**changes: Any) -> RolloutSpec:
    return parse_spec(rollout(**{"plan": TWO, **changes})["spec"])


def scenario(**about: Any) -> Scenario:
    return parse_scenario({"rps": 200, **about}, "here")


def outcomes(runs: int = 10, seed: int = 1, rollout: RolloutSpec | None = None, **about: Any) -> list[Outcome]:
    return simulate([(rollout or spec(), scenario(**about))], runs=runs, seed=seed)[0]


def kinds(found: list[Outcome]) -> set[tuple[str, str]]:
    return {(one.outcome, one.reason) for one in found}


def test_a_healthy_candidate_is_promoted_and_the_time_is_the_plans() -> None:
    found = outcomes(candidate={"errors": 0.002, "latency": {"median": 20, "p95": 40}, "mismatches": 0.01})
    assert kinds(found) == {("Promoted", "Promoting")}
    assert {one.seconds for one in found} == {120.0}
    assert {one.step for one in found} == {1}


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        ({"errors": 0.3}, "ErrorsAboveAbort"),
        ({"slower": {"slo": 0.4, "abort": 0.3}}, "LatencyAboveAbort"),
        ({"latency": {"median": 110, "p95": 200}}, "LatencyAboveAbort"),
        ({"mismatches": 0.5}, "MismatchesAboveAbort"),
    ],
)
def test_a_fault_of_each_kind_is_taken_back(candidate: dict[str, Any], reason: str) -> None:
    assert kinds(outcomes(5, candidate=candidate)) == {("RolledBack", reason)}


def test_a_fault_that_begins_late_is_timed_from_there() -> None:
    found = outcomes(5, changes=[{"step": 1, "seconds": 30, "candidate": {"errors": 0.5}}])
    assert kinds(found) == {("RolledBack", "ErrorsAboveAbort")}
    for one in found:
        assert one.step == 1
        assert one.seconds == 60 + 30 + one.reaction_seconds
        assert one.reaction_seconds in (5, 10)
        assert 800 < one.reaction_requests < 2400


def test_looks_that_grow_apart_see_the_same_in_fewer_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    ages: list[float] = []
    look = Traffic.look

    def noted(self: Traffic, **about: Any) -> Reading:
        ages.append(about["t"])
        return look(self, **about)

    monkeypatch.setattr(Traffic, "look", noted)
    plan = spec(plan={**TWO, "soakSeconds": 36_000})
    bad = scenario(changes=[{"step": 2, "seconds": 30_000, "candidate": {"errors": 0.5}}])
    found = play(plan, bad, generator(1, 0, 0), spacing=0.01)
    assert (found.outcome, found.reason, found.step) == ("RolledBack", "ErrorsAboveAbort", 2)
    assert 0 < found.reaction_seconds <= 2 * 0.01 * 30_330
    assert found.requests == pytest.approx(200 * found.seconds, rel=0.01)
    assert ages[:24] == [*range(5, 65, 5)] * 2
    assert len(ages) < 600
    assert play(plan, scenario(), generator(1, 0, 0), spacing=0.01).outcome == "Promoted"


def test_a_storm_interrupts_and_one_that_passes_leaves_the_run_alone() -> None:
    both = {"candidate": {"errors": 0.3}, "stable": {"errors": 0.3}}
    long = spec(plan={"steps": [{"weight": 100, "durationSeconds": 600}]})
    assert {one.outcome for one in outcomes(5, rollout=long, changes=[{"seconds": 30, **both}])} == {"Interrupted"}
    short = outcomes(5, rollout=long, changes=[{"seconds": 30, "lasts": 15, **both}])
    assert not {one.outcome for one in short} & {"RolledBack", "Expired"}


def test_drift_holds_until_the_run_expires() -> None:
    short = spec(plan={**TWO, "maxRunSeconds": 300})
    assert kinds(outcomes(3, rollout=short, inputs={"features": 5, "shifted": 5, "deviations": 2})) == {("Expired", "Expired")}


def test_no_traffic_never_promotes() -> None:
    short = spec(plan={**TWO, "maxRunSeconds": 300})
    assert kinds(outcomes(3, rollout=short, rps=0)) == {("Expired", "Expired")}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_runs_on_any_number_of_processes() -> None:
    cells = [(spec(), scenario(candidate={"errors": 0.02}, burstCorrelation=0.1, scrapeGaps=0.1)), (spec(), scenario())]
    alone = simulate(cells, runs=25, seed=7)
    assert simulate(cells, runs=25, seed=7, jobs=2) == alone
    assert simulate(cells, runs=25, seed=8)[0] != alone[0]
    assert simulate(cells, runs=12, seed=7)[0] == alone[0][:12]


def counted(about: Scenario, looks: int) -> list[Counts]:
    traffic = Traffic(spec(), about, generator(1, 0, 0))
    return [traffic.look(step=0, since=0, t=5.0 * (i + 1), apart=5.0, weight=10).counts for i in range(looks)]


def test_traffic_has_the_rates_it_is_said_to_have_and_gaps_lose_nothing() -> None:
    about = scenario(candidate={"errors": 0.1, "slower": {"slo": 0.2, "abort": 0.05}, "mismatches": 0.3}, scrapeGaps=0.3)
    looks = counted(about, 300)
    assert 60 < sum(look.candidate.requests == 0 for look in looks) < 120
    whole = sum(looks, Counts())
    assert whole.candidate.requests == pytest.approx(200 * 5 * 300, rel=0.02)
    assert whole.candidate_live.requests == pytest.approx(whole.candidate.requests / 10, rel=0.03)
    assert whole.stable.requests == whole.candidate.requests == whole.compared
    share = whole.candidate.requests
    assert whole.candidate.errors / share == pytest.approx(0.1, rel=0.05)
    assert whole.candidate.slower["80"] / share == pytest.approx(0.2, rel=0.05)
    assert whole.candidate.slower["120"] / share == pytest.approx(0.05, rel=0.05)
    assert whole.mismatched / whole.compared == pytest.approx(0.3, rel=0.05)


def test_bursts_vary_as_their_correlation_says() -> None:
    def variance(correlation: float) -> float:
        looks = counted(scenario(rps=20, candidate={"errors": 0.1}, burstCorrelation=correlation), 3000)
        terms = [(look.candidate.errors - 0.1 * look.candidate.requests) ** 2 / (0.09 * look.candidate.requests) for look in looks]
        return sum(terms) / len(terms)

    assert variance(0) == pytest.approx(1, rel=0.1)
    assert variance(0.1) == pytest.approx(1 + 0.1 * 99, rel=0.15)


def test_shares_of_a_log_normal_latency() -> None:
    latency = Latency(median=40, p95=80)
    assert latency.slower_than(40) == pytest.approx(0.5)
    assert latency.slower_than(80) == pytest.approx(0.05)
    assert latency.slower_than(160) == pytest.approx(0.0005, rel=0.1)


def test_a_run_can_be_played_alone() -> None:
    assert play(spec(), scenario(), generator(1, 0, 3)) == outcomes(4)[3]


def test_quantiles_and_intervals() -> None:
    assert [quantile([3, 1, 2, 4], share) for share in (0.25, 0.5, 0.95)] == [1, 2, 4]
    assert quantile([], 0.5) is None
    low, high = interval(0, 300)
    assert (low, round(high, 5)) == (0, 0.01222)
    told = summary(outcomes(4))
    assert told["outcomes"]["Promoted"]["share"] == 1
    assert sum(one["runs"] for one in told["outcomes"].values()) == told["runs"] == 4


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"rps": -1}, "rps: Input should be greater than or equal to 0"),
        ({"error": 1}, "error: Extra inputs are not permitted"),
        ({"candidate": {"errors": 2}}, "candidate.errors: Input should be less than or equal to 1"),
        ({"candidate": {"slower": {"slo": 0.1, "abort": 0.2}}}, "candidate.slower: abort must not be more than slo"),
        ({"candidate": {"latency": {"median": 9, "p95": 9}}}, "candidate.latency: p95 must be more than median"),
        ({"candidate": {"latency": {"median": 9, "p95": 10}, "slower": {}}}, "candidate: latency and slower say the same"),
        ({"inputs": {"features": 1, "shifted": 2}}, "inputs: shifted must not be more than features"),
        (["x"], "it: "),
    ],
)
def test_a_description_that_cannot_be_used_says_what_to_change(document: Any, error: str) -> None:
    with pytest.raises(ValueError, match=f"here: {error}"):
        parse_scenario(document, "here")


def test_a_change_in_a_step_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"changes.0.step is 2, and the plan has 2 steps"):
        check(spec(), scenario(changes=[{"step": 2}]))


def test_the_command_prints_a_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    candidates = tmp_path / "mine.yaml"
    candidates.write_text("rps: 200\n---\n{name: broken, rps: 200, candidate: {errors: 0.4}}\n", encoding="utf-8")
    command = [
        "simulate",
        "--rollout",
        str(write_rollout(tmp_path, plan=TWO)),
        "--candidate",
        str(candidates),
        "--runs",
        "3",
        "--jobs",
        "1",
    ]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "broken" in out
    assert "ErrorsAboveAbort 3" in out
    assert main([*command, "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found["candidates"]] == ["mine", "broken"]
    assert found["candidates"][1]["outcomes"]["RolledBack"]["runs"] == 3


def test_files_that_cannot_be_used_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("", encoding="utf-8")
    assert main(["simulate", "--rollout", str(write_rollout(tmp_path)), "--candidate", str(empty)]) == 1
    assert capsys.readouterr().err == f"kanarya simulate: {empty} describes no candidate\n"
