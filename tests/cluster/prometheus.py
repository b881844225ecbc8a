"""Prometheus in the cluster, at http://prometheus.monitoring:9090."""

from __future__ import annotations

from string import Template

from tests.cluster import kind
from tests.cluster.cached import key_of
from tests.cluster.run import step
from tests.cluster.settings import MANIFESTS, PROMETHEUS_IMAGE, Settings, Unavailable

MANIFEST = MANIFESTS / "prometheus.yaml"
READY_SECONDS = 120


def install(settings: Settings) -> None:
    """Apply the manifests and wait until Prometheus is Ready."""
    kind.check_allowed(settings)
    with step(f"installing Prometheus, which scrapes every {settings.scrape_seconds} s"):
        rendered = settings.cache / "prometheus.yaml"
        rendered.write_text(render(MANIFEST.read_text(), settings.scrape_seconds))
        kind.kubectl(settings, "apply", "--server-side", "--force-conflicts", "-f", rendered)
        try:
            kind.kubectl(settings, "-n", "monitoring", "rollout", "status", "deployment/prometheus", f"--timeout={READY_SECONDS}s")
        except Unavailable as slow:
            raise Unavailable(f"Prometheus did not become Ready ({slow}); was {PROMETHEUS_IMAGE} loaded into the cluster?") from None


def render(manifest: str, scrape_seconds: int) -> str:
    """Fill in how often Prometheus scrapes."""
    values = {"SCRAPE_INTERVAL": f"{scrape_seconds}s", "CONFIG_KEY": key_of(manifest, scrape_seconds)}
    return Template(manifest).substitute(values)
