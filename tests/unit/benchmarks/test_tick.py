from __future__ import annotations

import pytest

from benchmarks import tick


def test_a_row_is_measured_on_a_run_that_is_judged(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    entries = []

    def parsed(text: str) -> object:
        entries.append(text)
        return None

    monkeypatch.setattr("benchmarks.tick.json.loads", parsed)
    monkeypatch.setattr(tick, "LOOKS", 12)
    monkeypatch.setattr("sys.argv", ["tick", "--features", "3", "--rates", "20", "--repeats", "1"])
    assert tick.main() == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("| 20 | ")
    assert all(word in entries[0] for word in ("errors", "latency", "match", "feature_02"))
