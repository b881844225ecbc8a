"""Manifests, keys, and what other programs print."""

from pathlib import Path

import yaml

from tests.cluster import images, prometheus
from tests.cluster.cached import is_fresh, key_of, mark_fresh, mark_stale

CONTAINERD = """REF TYPE DIGEST SIZE PLATFORMS LABELS
docker.io/kanarya/operator:dev application/vnd.docker sha256:11 40.1 MiB linux/amd64 dev.kanarya.tests/key=sha256:aa,io.cri-containerd.image=managed
registry.k8s.io/pause:3.10.1 application/vnd.docker sha256:22 0.7 MiB linux/amd64 io.cri-containerd.image=managed
"""


def test_prometheus_scrapes_as_often_as_asked() -> None:
    objects = list(yaml.safe_load_all(prometheus.render(prometheus.MANIFEST.read_text(), 7)))
    (config,) = (yaml.safe_load(thing["data"]["prometheus.yml"]) for thing in objects if thing["kind"] == "ConfigMap")
    assert config["global"]["scrape_interval"] == "7s"
    assert config["scrape_configs"][0]["honor_labels"] is False


def test_another_interval_makes_another_pod() -> None:
    manifest = prometheus.MANIFEST.read_text()
    assert prometheus.render(manifest, 2) == prometheus.render(manifest, 2)
    # More differs than the interval itself: the annotation of the pod, too.
    assert prometheus.render(manifest, 3) != prometheus.render(manifest, 2).replace("2s", "3s")


def test_loaded_images_are_known_by_the_id_they_came_from() -> None:
    present = images.images_on_node(CONTAINERD)
    assert present["kanarya/operator:dev"] == {"sha256:aa"}
    assert present["registry.k8s.io/pause:3.10.1"] == set()


def test_a_key_follows_content_and_not_age(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = key_of("v1", tmp_path)
    (tmp_path / "a").touch()
    assert key_of("v1", tmp_path) == first
    (tmp_path / "a").write_text("2")
    assert key_of("v1", tmp_path) != first


def test_what_was_interrupted_is_not_fresh(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.write_text("")
    assert not is_fresh(made, "k")
    mark_fresh(made, "k")
    assert is_fresh(made, "k")
    assert not is_fresh(made, "other")
    mark_stale(made)
    assert not is_fresh(made, "k")
