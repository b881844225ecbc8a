"""What Preflight asks of the offline report of the candidate's model, where `analysis.offlineReport` is `Required`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from kanarya.api.rollout import Analysis

PASSED: Final = "PASS"
FAILED: Final = "FAIL"
VERDICTS: Final = (PASSED, FAILED, "missing", "other", "unreadable")
"""What a server says of the report beside its model. `other`: it is about another model, so it says nothing of this one."""
METRIC: Final = "ml_model_offline_report_info"
OTHER_SERVERS: Final = frozenset({"kserve", "mlserver", "triton", "bentoml"})
"""Profiles whose servers have no such metric."""

_ADVICE: Final = (
    "run `kanarya-ml evaluate` on it, put its offline_report.json into the model's folder (`kanarya-ml registry add --report` does) and "
    "start the candidate's pods anew"
)
_WRONG: Final = {
    "missing": "has no offline report",
    "other": "has the offline report of another model",
    "unreadable": "has an offline report that cannot be read",
}


@dataclass(frozen=True)
class OfflineReport:
    """What one pod says: version and sha256 of the model it serves, verdict and sha256 of the report beside it."""

    version: str
    model_sha256: str
    verdict: str
    report_sha256: str

    def as_json(self) -> dict[str, Any]:
        """Give the form that evidence has."""
        return {
            "version": self.version,
            "modelSha256": self.model_sha256,
            "verdict": self.verdict,
            "reportSha256": self.report_sha256,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `as_json` wrote; raises `ValueError`."""
        try:
            return cls(data["version"], data["modelSha256"], data["verdict"], data["reportSha256"])
        except (KeyError, TypeError):
            raise ValueError("the offline report of this evidence is not as it is written") from None


Reports = Mapping[str, OfflineReport]
"""By pod of the candidate."""


def required(analysis: Analysis) -> bool:
    """Whether the first weight needs a report that passed."""
    return analysis.offline_report == "Required"


def agreed(reports: Reports) -> OfflineReport | None:
    """Give what all pods say, None when they differ or say nothing."""
    found = set(reports.values())
    return found.pop() if len(found) == 1 else None


def problem(analysis: Analysis, reports: Reports, replicas: int) -> tuple[str, str] | None:
    """Give why the reports keep the first weight back, None when every pod's model has one that passed."""
    if not required(analysis):
        return None
    if not reports and analysis.profile in OTHER_SERVERS:
        return "OfflineReportMissing", (
            f"offlineReport is Required, and the servers of profile {analysis.profile} do not tell of one (they have no {METRIC}): "
            "set analysis.offlineReport to Optional, and let the pipeline stop on the exit status of `kanarya-ml evaluate`"
        )
    if len(reports) < replicas:
        words = f"{len(reports)} of {replicas} candidate pods tell of their model's offline report ({METRIC})"
        return "OfflineReportMissing", words
    report = agreed(reports)
    if report is None:
        return "OfflineReportMissing", "the candidate's pods serve different models, or have different offline reports: start them anew"
    if report.verdict == FAILED:
        return "OfflineReportFailed", (
            f"the offline report of model {report.version} ({report.report_sha256[:12]}) says FAIL: release a model that passes its gates"
        )
    if report.verdict != PASSED:
        return "OfflineReportMissing", f"model {report.version} {_WRONG.get(report.verdict, 'has no offline report')}: {_ADVICE}"
    return None
