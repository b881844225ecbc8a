"""No first weight without the offline report that the spec requires."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jsonschema
import pytest

from kanarya.decision.counts import Reading
from kanarya.decision.evidence import digest
from kanarya.decision.offline import OfflineReport
from kanarya.decision.playback import decisions
from kanarya.decision.replay import first_difference
from kanarya.decision.schema import evidence_schema
from tests.unit.decision.play import B, spec
from tests.unit.decision.test_playback import Watched, again

PASSED = OfflineReport("v2", "a" * 64, "PASS", "b" * 64)
FAILED = replace(PASSED, verdict="FAIL")
NONE = replace(PASSED, verdict="missing", report_sha256="")
ANALYSIS = {"method": "Threshold", "intervalSeconds": 1, "minSamples": 50}


@dataclass
class Evaluated(Watched):
    """A play whose candidate's pods tell of their model's offline report."""

    reports: Mapping[str, OfflineReport] | None = None

    def reading(self) -> Reading | None:
        found = super().reading()
        told = {} if self.reports is None else self.reports
        return None if found is None else replace(found, reports=told)


def both(report: OfflineReport) -> dict[str, OfflineReport]:
    return {"a": report, "b": report}


def releasing(reports: Mapping[str, OfflineReport], **changes: Any) -> Evaluated:
    play = Evaluated(spec=spec(**{"analysis": {**ANALYSIS, "offlineReport": "Required"}, **changes}), reports=reports)
    play.adopted()
    play.entries = []
    play.release(B)
    return play


def held(play: Evaluated, reason: str) -> Evaluated:
    for _ in range(60):
        decision = play.tick()
    assert (play.weight, play.run.stage.value, decision.reason) == (0, "Preflight", reason)
    assert not play.entries
    return play


@pytest.mark.parametrize(
    ("reports", "reason"),
    [
        ({}, "OfflineReportMissing"),
        (both(NONE), "OfflineReportMissing"),
        (both(replace(PASSED, verdict="other")), "OfflineReportMissing"),
        (both(replace(PASSED, verdict="unreadable")), "OfflineReportMissing"),
        ({"a": PASSED}, "OfflineReportMissing"),
        ({"a": PASSED, "b": NONE}, "OfflineReportMissing"),
        ({"a": PASSED, "b": replace(PASSED, model_sha256="c" * 64)}, "OfflineReportMissing"),
        (both(FAILED), "OfflineReportFailed"),
    ],
    ids=["silence", "none", "of another model", "unreadable", "one pod", "one of two", "two models", "failed"],
)
@pytest.mark.parametrize("mode", ["Live", "Observe"])
def test_preflight_holds_and_goes_on_with_a_report_that_passed(reports: dict[str, OfflineReport], reason: str, mode: str) -> None:
    play = held(releasing(reports, mode=mode), reason)
    play.reports = both(PASSED)
    assert play.ended() == ("Succeeded" if mode == "Live" else "Observed")
    started = play.entries[0]
    assert started["offlineReport"] == {"version": "v2", "modelSha256": "a" * 64, "verdict": "PASS", "reportSha256": "b" * 64}
    assert play.steps() == [1, 2, 3, 4, 5]


def test_preflight_goes_on_when_the_spec_no_longer_asks() -> None:
    play = held(releasing({}), "OfflineReportMissing")
    play.spec = spec()
    assert play.ended() == "Succeeded"
    assert "offlineReport" not in play.entries[0]


def test_a_report_is_not_asked_for_by_default() -> None:
    play = releasing(both(FAILED), analysis=ANALYSIS)
    assert play.ended() == "Succeeded"
    assert "offlineReport" not in play.entries[0]


def test_a_run_that_waits_for_a_report_ends_as_any_other() -> None:
    play = releasing(both(FAILED), plan={"steps": [{"weight": 100, "durationSeconds": 10}], "maxRunSeconds": 40})
    assert play.ended() == "Expired"
    assert not play.steps()


def test_a_report_is_asked_for_before_the_first_weight_only() -> None:
    play = releasing(both(PASSED))
    play.until(lambda play: play.weight == 10)
    play.reports = {}
    assert play.ended() == "Succeeded"


def test_the_evidence_is_whole_and_decides_the_same_again() -> None:
    play = releasing(both(PASSED))
    play.ended()
    part = {"schemaVersion": 1, "rollout": "fraud", "namespace": "shop", "run": "r", "part": 1, "closed": True, "operatorVersion": "0"}
    jsonschema.Draft202012Validator(evidence_schema()).validate({**part, "entries": play.entries})
    assert first_difference(play.entries) is None
    play.readings = {at: replace(reading, reports={}) for at, reading in play.readings.items()}
    assert decisions(again(play).entries) == decisions(play.entries)


@pytest.mark.parametrize("data", [{}, {"version": "v2"}, [], "PASS"])
def test_evidence_with_half_a_report_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="not as it is written"):
        OfflineReport.from_json(data)


@pytest.mark.parametrize("told", [None, FAILED])
def test_evidence_of_a_first_step_without_the_report_does_not_verify(told: OfflineReport | None) -> None:
    play = releasing(both(PASSED))
    play.ended()
    entries: list[dict[str, Any]] = []
    for entry in play.entries:
        forged = {key: value for key, value in entry.items() if key not in ("hash", "offlineReport")}
        if entry["kind"] == "RunStarted" and told is not None:
            forged["offlineReport"] = told.as_json()
        forged["previous"] = entries[-1]["hash"] if entries else entry["previous"]
        entries.append({**forged, "hash": digest(forged)})
    difference = first_difference(entries)
    assert difference is not None
    assert "the first step without the offline report that the spec requires" in difference
