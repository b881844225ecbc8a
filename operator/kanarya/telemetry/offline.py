"""What the candidate's pods say of the offline report of their model. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kanarya.decision.offline import METRIC, VERDICTS, OfflineReport
from kanarya.telemetry.look import Look
from kanarya.telemetry.request import ReadRequest
from kanarya.telemetry.snapshot import Snapshot

_VERSION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def offline_reports(request: ReadRequest, snapshot: Snapshot, look: Look) -> dict[str, OfflineReport]:
    """Give by pod what its newest sample says. Pods without a fresh one, or with words that no server of ours writes, are left out.

    A report that was exchanged has series of both states in the window: the newest counts. Two that are equally new contradict each
    other, and neither does.
    """
    found: dict[str, OfflineReport] = {}
    for pod, series in snapshot.of_namespace(request.namespace).items():
        if not request.is_candidate(pod):
            continue
        newest: dict[float, set[OfflineReport | None]] = {}
        for one in series:
            if one.labels.get("__name__") == METRIC:
                at, value = one.samples[-1]
                newest.setdefault(at, set()).add(_report(one.labels) if value == 1 else None)
        if newest and (at := max(newest)) >= look.stale_before and len(newest[at]) == 1:
            (report,) = newest[at]
            if report is not None:
                found[pod] = report
    return found


def _report(labels: Mapping[str, str]) -> OfflineReport | None:
    version, model = labels.get("model_version", ""), labels.get("sha256", "")
    verdict, report = labels.get("verdict", ""), labels.get("report_sha256", "")
    written = bool(_SHA256.fullmatch(report)) if verdict in ("PASS", "FAIL", "other") else not report or bool(_SHA256.fullmatch(report))
    usable = bool(_VERSION.fullmatch(version) and _SHA256.fullmatch(model)) and verdict in VERDICTS and written
    return OfflineReport(version, model, verdict, report) if usable else None
