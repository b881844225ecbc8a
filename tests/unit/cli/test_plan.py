"""`kanarya plan`: exact needs, simulated chances, a measured rate."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import bdtr

from kanarya.api.rollout import RolloutSpec, parse_spec
from kanarya.cli.main import main
from kanarya.cli.plan import plan, text
from kanarya.cli.simulation.drift_needs import drift_need
from kanarya.cli.simulation.feasibility import burst_correlation, needs
from kanarya.cli.simulation.measured import rate_of
from kanarya.cli.simulation.planning import faults
from kanarya.decision.counts import Drift
from kanarya.decision.drift import judge_drift
from kanarya.decision.judge import Standard
from kanarya.decision.sequential import Limits
from kanarya.decision.verdict import Kind
from kanarya.telemetry.source import Series
from tests.unit.cli.lines import rollout, write_rollout

pytestmark = pytest.mark.slow

DEFAULT = {"steps": [{"weight": weight} for weight in (5, 10, 25, 50, 100)]}


def spec(**changes: Any) -> RolloutSpec:
    return parse_spec(rollout(**{"plan": DEFAULT, "analysis": {"intervalSeconds": 10}, **changes})["spec"])


def test_one_request_a_second_is_enough_for_the_default_plan_and_a_third_is_not() -> None:
    assert all(need.feasible for need in needs(spec(), 1.0))
    few = needs(spec(), 0.3)
    assert [need.feasible for need in few] == [need.metric == "match" for need in few]
    assert len(few) == 5 * 3


def test_what_is_needed_is_enough_and_not_much_more_than_enough() -> None:
    for need in needs(spec(), 1.0):
        assert need.needed is not None
        assert need.seconds == need.needed  # at one request a second
        seconds = int(need.needed)
        longer = {"steps": [{"weight": weight, "durationSeconds": seconds} for weight in (5, 10, 25, 50, 100)]}
        shorter = {"steps": [{"weight": weight, "durationSeconds": int(0.9 * seconds)} for weight in (5, 10, 25, 50, 100)]}
        key = (need.step, need.metric)
        assert next(one for one in needs(spec(plan=longer), 1.0) if (one.step, one.metric) == key).feasible
        assert not next(one for one in needs(spec(plan=shorter), 1.0) if (one.step, one.metric) == key).feasible


def test_the_last_stage_needs_more_and_without_copies_the_first_sees_little() -> None:
    found = [need for need in needs(spec(), 1.0) if need.metric == "errors"]
    first, last = found[0].needed, found[-1].needed
    assert first is not None
    assert last is not None
    assert last > first
    thin = needs(spec(traffic={"mirrorPercent": 1}), 1.0)[0]
    assert thin.expected == pytest.approx(1800 * (0.05 + 0.95 * 0.01))
    assert not thin.feasible


def test_method_threshold_needs_its_samples() -> None:
    found = needs(spec(analysis={"method": "Threshold", "minSamples": 500, "intervalSeconds": 10}), 1.0)
    assert all(need.needed is not None and need.needed >= 500 for need in found)
    assert plan(spec(analysis={"method": "Threshold"}), 1.0, runs=0)["guaranteed"] is None


@pytest.mark.parametrize(("features", "per_feature"), [(1, 0.3), (5, 0.3), (20, 0.1)])
def test_a_candidate_without_drift_is_good_after_as_many_as_are_needed_and_not_long_before(features: int, per_feature: float) -> None:
    analysis = spec(analysis={"drift": {"perFeature": per_feature}}).analysis
    need = drift_need(spec(analysis={"drift": {"perFeature": per_feature}}), 1.0, features)
    assert need is not None
    assert need.needed is not None
    standard = Standard(analysis, spec().plan, last=True)

    def good(requests: int) -> float:
        random, names = np.random.default_rng(7), [f"x{index}" for index in range(features)]
        kinds = []
        for _ in range(100):
            reference = {name: (*random.multinomial(10_000, [0.1] * 10).astype(float).tolist(), 0.0) for name in names}
            current = {name: (*random.multinomial(requests, [0.1] * 10).astype(float).tolist(), 0.0) for name in names}
            drift = Drift(current, reference)
            found = judge_drift(analysis.drift, drift, min_samples=1, elapsed=1, alphas=standard.drift_alphas, forecast=False)
            kinds.append(found.kind is Kind.GOOD)
        return sum(kinds) / len(kinds)

    assert good(need.needed) >= 0.92
    assert good(need.needed // 2) < 0.8


def test_drift_has_to_be_good_before_its_weight_and_over_the_whole_run() -> None:
    assert drift_need(spec(analysis={"drift": {"action": "Report"}}), 1.0) is None
    assert drift_need(spec(), 1.0, features=0) is None
    late, early = drift_need(spec(), 1.0), drift_need(spec(analysis={"drift": {"maxWeight": 10}}), 1.0)
    assert late is not None
    assert early is not None
    assert (late.weight, late.expected, late.feasible) == (100, 5 * 1800, True)
    assert (early.weight, early.expected) == (10, 2 * 1800)
    assert late.seconds == late.needed
    soak = drift_need(spec(plan={**DEFAULT, "soakSeconds": 600}), 1.0)
    assert soak is not None
    assert soak.expected == 5 * 1800 + 600
    few = drift_need(spec(), 0.01)
    assert few is not None
    assert (few.feasible, few.seconds) == (False, None)
    strict = drift_need(spec(analysis={"drift": {"overall": 0.001}}), 1.0)
    assert strict is not None
    assert (strict.needed, strict.feasible) == (None, False)
    told = plan(spec(), 0.01, runs=0)
    assert not told["feasible"]
    assert "Drift of 20 features has to be Good at the end of weight 100" in text(told)


def test_the_denser_the_looks_the_weaker_the_bursts_that_are_covered() -> None:
    assert burst_correlation(spec(), 10.0) == burst_correlation(spec(), 0.01) == 0.1
    assert burst_correlation(spec(), 20.0) == pytest.approx(11 / 199)
    assert burst_correlation(spec(traffic={"mirrorPercent": 1}), 20.0) == pytest.approx(11 / 199)  # at weight 100
    told = plan(spec(), 20.0, runs=0)
    assert told["guaranteed"]["upToBurstCorrelation"] == 0.0553
    assert "a correlation of 0.055 between the requests of a look" in text(told)


def test_faults_lie_above_abort() -> None:
    assert faults(Limits(0.01, 0.02, "Errors")) == [0.04, 0.1, 0.5, 1.0]
    assert faults(Limits(0.5, 0.6, "Errors")) == [1.0]


def test_the_command_tells_and_simulates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = {"steps": [{"weight": 10, "durationSeconds": 60}, {"weight": 100, "durationSeconds": 60}], "maxHoldSeconds": 60}
    file = str(write_rollout(tmp_path, plan=short))
    assert main(["plan", file, "--rps", "200", "--runs", "2", "--jobs", "1", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["feasible"]
    assert told["guaranteed"]["rolledBackWithNoRateAboveAbort"] == 0.01
    assert told["simulated"]["candidates"]["healthy"]["promoted"]["share"] == 1
    assert [fault["share"] for fault in told["simulated"]["faults"] if fault["metric"] == "errors"] == [0.04, 0.1, 0.5, 1.0]
    assert all(fault["rolledBack"]["runs"] == 2 for fault in told["simulated"]["faults"] if fault["share"] >= 0.5)
    written = text(told)
    assert "half the bad events that slo allows are Good" in written
    assert "How runs end (2 simulated runs" in written
    assert main(["plan", file, "--rps", "1", "--runs", "0"]) == 0
    assert "no: hold, or more traffic or time" in capsys.readouterr().out


@pytest.fixture
def prometheus() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            values = [[1000.0 + 10 * i, str(50 * i)] for i in range(61)]
            metric = {"__name__": "kanarya_request_duration_seconds_bucket"}
            body = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": [{"metric": metric, "values": values}]}})
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_rate_can_be_measured(prometheus: tuple[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address, asked = prometheus
    assert main(["plan", str(write_rollout(tmp_path)), "--prometheus", address, "-n", "shop", "--runs", "0", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["requestsPerSecond"] == 5.0
    assert "shop" in asked[0]
    assert "fraud" in asked[0]


def test_a_rate_over_restarts_and_routers() -> None:
    both = [Series({}, ((0.0, 10.0), (50.0, 60.0), (100.0, 20.0))), Series({}, ((0.0, 0.0), (100.0, 30.0)))]
    assert rate_of(both) == (50 + 20 + 30) / 100
    assert rate_of([]) is None
    assert rate_of([Series({}, ((5.0, 1.0),))]) is None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--prometheus", "ftp://x"], "--prometheus: url must be an address"),
        (["--prometheus", "http://127.0.0.1:1"], "--prometheus: Prometheus cannot be reached"),
    ],
)
def test_what_cannot_be_measured_is_an_error(arguments: list[str], error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(write_rollout(tmp_path)), *arguments]) == 1
    assert capsys.readouterr().err.startswith(f"kanarya plan: {error}")


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "x", "1e9"])
def test_a_rate_must_be_a_rate(rate: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["plan", str(write_rollout(tmp_path)), "--rps", rate])


def test_the_chance_is_that_of_drawn_counts() -> None:
    """The exact chance against the same verdict on counts drawn by chance."""
    need = next(one for one in needs(spec(), 0.45) if one.metric == "errors" and one.step == 0)
    assert 0.5 < need.chance < 0.95
    best = max(bad for bad in range(30) if np.isclose(_below(bad, int(need.expected)), need.chance))
    drawn = np.random.default_rng(1).binomial(int(need.expected), 0.005, 20_000)
    assert np.mean(drawn <= best) == pytest.approx(need.chance, abs=0.01)


def _below(bad: int, total: int) -> float:
    return float(bdtr(bad, total, 0.005))
