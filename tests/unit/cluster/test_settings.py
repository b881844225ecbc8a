"""What the environment decides, and which clusters may be touched."""

from pathlib import Path

import pytest

from tests.cluster import kind
from tests.cluster.settings import Settings, Unavailable


def test_nothing_set_means_the_own_cluster_only() -> None:
    settings = Settings.read({})
    assert settings.given_kubeconfig is None
    assert settings.allowed_contexts == {"kind-kanarya"}
    assert settings.scrape_seconds == 2
    assert settings.kubeconfig == Path.home() / ".cache" / "kanarya" / "kubeconfig"


def test_the_environment_is_read() -> None:
    settings = Settings.read(
        {"KANARYA_CACHE": "/c", "KANARYA_KUBECONFIG": "/k", "KANARYA_ALLOWED_CONTEXTS": "a, b,", "KANARYA_SCRAPE_SECONDS": "15"}
    )
    assert (settings.cache, settings.kubeconfig) == (Path("/c"), Path("/k"))
    assert settings.allowed_contexts == {"a", "b"}
    assert settings.scrape_seconds == 15


@pytest.mark.parametrize("seconds", ["0", "-1", "2s", "1.5", "٢"])
def test_a_scrape_interval_must_be_whole_seconds(seconds: str) -> None:
    with pytest.raises(Unavailable, match="KANARYA_SCRAPE_SECONDS"):
        Settings.read({"KANARYA_SCRAPE_SECONDS": seconds})


@pytest.mark.parametrize(("context", "allowed"), [("kind-kanarya", True), ("production", False), ("kind-kanarya-2", False)])
def test_only_listed_contexts_are_touched(context: str, allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "output", lambda *_args, **_options: f"{context}\n")
    settings = Settings.read({"KANARYA_KUBECONFIG": "/k"})
    if allowed:
        assert kind.check_allowed(settings) == context
        return
    with pytest.raises(Unavailable, match=f"Context {context} is not on the list"):
        kind.check_allowed(settings)


def test_a_kubeconfig_without_a_context_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "output", lambda *_args, **_options: None)
    with pytest.raises(Unavailable, match="names no current context"):
        kind.check_allowed(Settings.read({"KANARYA_KUBECONFIG": "/k"}))


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ({}, False),
        ({"conditions": [{"type": "Ready", "status": "False"}]}, False),
        ({"conditions": [{"type": "Initialized", "status": "True"}]}, False),
        ({"conditions": [{"type": "Ready", "status": "True"}]}, True),
    ],
)
def test_a_pod_is_ready_by_its_condition(status: dict[str, object], ready: bool) -> None:
    assert kind.is_ready({"status": status}) is ready
