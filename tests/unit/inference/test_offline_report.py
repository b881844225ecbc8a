"""The offline report from the file beside a model, over the server's /ml/metrics, to what Preflight makes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kanarya.api.rollout import Analysis
from kanarya.decision.offline import OfflineReport as Told
from kanarya.decision.offline import problem
from kanarya.telemetry.collector import Collector
from kanarya_inference.registry import OfflineReport, Registry, offline_report, read_artefact
from tests.unit.inference.support import Scraped, running
from tests.unit.inference.test_registry_store import report
from tests.unit.telemetry.fakes import Clock, FakePrometheus, request

METRIC = "ml_model_offline_report_info"
REQUIRED = Analysis.model_validate({"offlineReport": "Required"})


@pytest.fixture
def folder(baseline: Path, tmp_path: Path) -> Path:
    return shutil.copytree(baseline, tmp_path / "model")


def test_without_a_file_there_is_no_report(folder: Path) -> None:
    assert offline_report(folder, read_artefact(folder)) == OfflineReport("missing", "")


@pytest.mark.parametrize("verdict", ["PASS", "FAIL"])
def test_a_report_about_this_very_model(folder: Path, verdict: str) -> None:
    report(folder, folder, verdict)
    found = offline_report(folder, read_artefact(folder))
    assert (found.verdict, len(found.sha256)) == (verdict, 64)


@pytest.mark.parametrize("changes", [{"modelSha256": "0" * 64}, {"version": "v1.8.1"}])
def test_a_report_about_another_model_says_nothing(folder: Path, changes: dict[str, str]) -> None:
    report(folder, folder, **changes)
    assert offline_report(folder, read_artefact(folder)).verdict == "other"


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version": 1}', b"[" * 100_000, b"\xff\xfe", b'{"verdict": "GREAT"}'])
def test_a_file_that_is_no_report(folder: Path, content: bytes) -> None:
    (folder / "offline_report.json").write_bytes(content)
    assert offline_report(folder, read_artefact(folder)).verdict == "unreadable"


def test_a_folder_in_its_place_is_no_report(folder: Path) -> None:
    (folder / "offline_report.json").mkdir()
    assert offline_report(folder, read_artefact(folder)).verdict == "unreadable"


def test_a_report_is_read_through_the_links_of_a_configmap(folder: Path, tmp_path: Path) -> None:
    report(folder, folder)
    mount = tmp_path / "mount"
    shutil.copytree(folder, mount / "..2026_11_21")
    (mount / "..data").symlink_to("..2026_11_21")
    assert offline_report(mount, read_artefact(mount)).verdict == "PASS"


def test_the_registry_puts_a_report_where_servers_read_it(folder: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry", "fraud")
    registry.add(folder)
    registry.attach("v1.8.0", report(tmp_path, folder))
    found = offline_report(registry.path("v1.8.0"), registry.load_verified("v1.8.0"))
    assert found == OfflineReport("PASS", registry.entry("v1.8.0")["evaluation"]["reportSha256"])
    registry.add(folder)
    assert registry.verify() == {}


async def told(*pods: Scraped, profile: str = "kanarya", replicas: int = 2) -> tuple[str, str] | None:
    """Scrape the pods, look as the operator does, and give what keeps the first weight back."""
    prometheus = FakePrometheus()
    for at in (1005.0, 1010.0):
        prometheus.scrape(at, *pods)
    reading = await Collector(prometheus, Clock(1012.0)).read(request(wants_report=True, profile=profile))
    return problem(REQUIRED.model_copy(update={"profile": profile}), reading.reports, replicas)


async def test_preflight_goes_by_what_the_real_server_exposes(folder: Path) -> None:
    sha256 = json.loads((folder / "metadata.json").read_text())["sha256"]["model.onnx"]
    async with running(folder) as server:
        before = await server.series()
        assert [dict(labels) for name, labels in before if name == METRIC] == [
            {"model_version": "v1.8.0", "sha256": sha256, "verdict": "missing", "report_sha256": ""}
        ]
        report(folder, folder, "FAIL")
        await server.app.store.activate(None, by="SIGHUP")
        failed = await server.series()
        report(folder, folder)
        await server.app.store.activate(None, by="SIGHUP")
        passed = await server.series()
    a, b = "fraud-new-a", "fraud-new-b"
    missing = await told(Scraped(a, series=before), Scraped(b, series=before))
    assert missing is not None
    assert missing[0] == "OfflineReportMissing"
    assert missing[1].startswith("model v1.8.0 has no offline report: run `kanarya-ml evaluate`")
    refused = await told(Scraped(a, series=failed), Scraped(b, series=failed))
    assert refused is not None
    assert refused[0] == "OfflineReportFailed"
    assert await told(Scraped(a, series=passed), Scraped(b, series=passed)) is None
    mixed = await told(Scraped(a, series=passed), Scraped(b, series=before))
    assert mixed is not None
    assert "different offline reports" in mixed[1]
    half = await told(Scraped(a, series=passed), Scraped(b))
    assert half == ("OfflineReportMissing", f"1 of 2 candidate pods tell of their model's offline report ({METRIC})")
    # Neither those of a Deployment whose name begins as the candidate's, nor stable's pods, nor anybody else's speak for the candidate.
    assert await told(Scraped(a, series=passed), Scraped("fraud-new-x-b", series=passed)) == half
    assert await told(Scraped("fraud-stable-old-a", series=passed), Scraped("other-new-b", series=passed)) is not None


async def test_a_server_that_does_not_tell_is_named_with_what_to_use_instead() -> None:
    found = await told(Scraped("fraud-new-a"), Scraped("fraud-new-b"), profile="mlserver")
    assert found is not None
    assert found[0] == "OfflineReportMissing"
    assert "servers of profile mlserver do not tell" in found[1]
    assert "set analysis.offlineReport to Optional" in found[1]


LABELS = {"model_version": "v2", "sha256": "a" * 64, "verdict": "PASS", "report_sha256": "b" * 64}


async def reports(*samples: tuple[float, dict[str, str], float]) -> dict[str, Told]:
    """Give what is read at 1012 of a pod that exposed these samples of the metric."""
    prometheus = FakePrometheus()
    for at, labels, value in samples:
        prometheus.put(at, value, name=METRIC, namespace="shop", pod="fraud-new-a", **{"job": "pods", **LABELS, **labels})
    return dict((await Collector(prometheus, Clock(1012.0)).read(request(wants_report=True))).reports)


async def test_a_report_that_was_exchanged_counts_from_its_first_sample() -> None:
    none = {"verdict": "missing", "report_sha256": ""}
    assert (await reports((1004.0, none, 1.0), (1009.0, {}, 1.0)))["fraud-new-a"].verdict == "PASS"
    assert (await reports((1004.0, {}, 1.0), (1009.0, {"verdict": "FAIL"}, 1.0)))["fraud-new-a"].verdict == "FAIL"


@pytest.mark.parametrize(
    "samples",
    [
        [(990.0, {}, 1.0)],
        [(1009.0, {}, 0.0)],
        [(1009.0, {}, float("nan"))],
        [(1009.0, {"verdict": "GOOD"}, 1.0)],
        [(1009.0, {"report_sha256": ""}, 1.0)],
        [(1009.0, {"sha256": "a" * 63}, 1.0)],
        [(1009.0, {"model_version": "v2\n"}, 1.0)],
        [(1009.0, {"model_version": "v" * 64}, 1.0)],
        [(1009.0, {}, 1.0), (1009.0, {"verdict": "FAIL", "job": "again"}, 1.0)],
        [(1004.0, {}, 1.0), (1009.0, {}, 0.0)],
    ],
    ids=["old", "0", "NaN", "verdict", "no sum", "short sum", "line break", "long version", "contradiction", "withdrawn"],
)
async def test_what_no_server_of_ours_says_is_not_told(samples: list[tuple[float, dict[str, str], float]]) -> None:
    assert await reports(*samples) == {}


async def test_nobody_who_does_not_ask_is_told() -> None:
    prometheus = FakePrometheus()
    prometheus.put(1009.0, 1.0, name=METRIC, namespace="shop", pod="fraud-new-a", job="pods", **LABELS)
    assert (await Collector(prometheus, Clock(1012.0)).read(request())).reports == {}
