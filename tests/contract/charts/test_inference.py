"""The model service's chart: what Helm writes, and what it must leave to the operator."""

import argparse
import shutil
from pathlib import Path
from typing import Any

import pytest

from kanarya.api.rollout import parse_spec
from kanarya.cluster import names
from kanarya_inference.router import main as router_command
from kanarya_inference.router.settings import SETTINGS_KEY
from kanarya_inference.server import command as server_command
from tests.contract.charts.rendering import INFERENCE, NAMESPACE, Helm, Objects, Refused, selects

VERSION = "app.kubernetes.io/version"


@pytest.fixture
def objects(helm: Helm) -> Objects:
    return helm.template(INFERENCE, {"podMonitor": {"enabled": True}})


def template_of(objects: Objects, name: str = "fraud") -> dict[str, Any]:
    return dict(objects.one("Deployment", name)["spec"]["template"])


def labels_of(objects: Objects) -> dict[str, dict[str, str]]:
    """The labels of each kind of pod: the target's, the router's, and stable's as the operator makes them."""
    target = template_of(objects)["metadata"]["labels"]
    selector = objects.one("Deployment", "fraud")["spec"]["selector"]["matchLabels"]
    own = {names.ROLLOUT: "fraud", names.TRACK: "stable", names.REVISION: "7d4b9c"}
    stable = {key: value for key, value in target.items() if key not in selector} | own
    return {"target": target, "stable": stable, "router": template_of(objects, "fraud-router")["metadata"]["labels"]}


def test_the_operator_owns_the_replica_count(objects: Objects) -> None:
    assert "replicas" not in objects.one("Deployment", "fraud")["spec"]


@pytest.mark.parametrize(
    "values",
    [
        {"router": {"replicas": 5, "image": {"tag": "v9"}, "extraArgs": ["--drain-seconds", "9"], "podLabels": {"team": "x"}}},
        {"rollout": {"spec": {"replicas": 7, "paused": True}}},
        {"service": {"port": 8080}},
        {"podMonitor": {"enabled": True}, "podDisruptionBudget": {"enabled": False}},
    ],
    ids=["router", "plan", "service", "rest"],
)
def test_only_the_model_server_makes_a_revision(helm: Helm, values: dict[str, Any]) -> None:
    assert template_of(helm.template(INFERENCE, values)) == template_of(helm.template(INFERENCE))


def test_a_newer_chart_makes_no_revision(helm: Helm, tmp_path: Path) -> None:
    newer = tmp_path / "inference"
    shutil.copytree(INFERENCE, newer)
    description = (newer / "Chart.yaml").read_text()
    (newer / "Chart.yaml").write_text(
        description.replace("version: 0.1.0", "version: 9.9.9").replace('appVersion: "0.1.0"', 'appVersion: "9.9.9"')
    )
    pinned = {"image": {"tag": "0.1.0"}}
    before, after = helm.template(INFERENCE, pinned), helm.template(newer, pinned)
    assert before.one("Deployment", "fraud")["metadata"] != after.one("Deployment", "fraud")["metadata"]
    assert template_of(before) == template_of(after)


def test_a_new_version_makes_a_revision(helm: Helm) -> None:
    template = template_of(helm.template(INFERENCE, {"model": {"version": "v1.8.1"}}))
    assert template["metadata"]["labels"][VERSION] == "v1.8.1"
    assert template != template_of(helm.template(INFERENCE))


def test_who_selects_whom(objects: Objects) -> None:
    pods = labels_of(objects)

    def taken(selector: dict[str, Any]) -> set[str]:
        return {name for name, labels in pods.items() if selects(selector, labels)}

    assert taken(objects.one("Service", "fraud")["spec"]["selector"]) == {"router"}
    assert taken(objects.one("Deployment", "fraud")["spec"]["selector"]) == {"target"}
    assert taken(objects.one("Deployment", "fraud-router")["spec"]["selector"]) == {"router"}
    assert taken(objects.one("PodDisruptionBudget", "fraud-stable")["spec"]["selector"]) == {"stable"}
    assert taken(objects.one("PodDisruptionBudget", "fraud-router")["spec"]["selector"]) == {"router"}
    assert taken(objects.one("PodMonitor", "fraud")["spec"]["selector"]) == {"target", "stable"}
    assert taken(objects.one("PodMonitor", "fraud-router")["spec"]["selector"]) == {"router"}


def test_clients_reach_the_router(objects: Objects) -> None:
    (port,) = objects.one("Service", "fraud")["spec"]["ports"]
    (container,) = template_of(objects, "fraud-router")["spec"]["containers"]
    assert (port["port"], port["targetPort"]) == (80, "http")
    assert {"name": "http", "containerPort": 8080} in container["ports"]


def test_the_router_is_replaced_without_a_gap(objects: Objects) -> None:
    spec = objects.one("Deployment", "fraud-router")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_commands_are_ones_that_the_programs_take(objects: Objects) -> None:
    (router,) = template_of(objects, "fraud-router")["spec"]["containers"]
    parser = argparse.ArgumentParser(allow_abbrev=False)
    router_command.add_arguments(parser)
    arguments = parser.parse_args(router["args"][1:])
    assert (router["command"], router["args"][0]) == (["kanarya-ml"], "router")
    assert (arguments.namespace, arguments.rollout) == (NAMESPACE, "fraud")
    assert {port["name"]: port["containerPort"] for port in router["ports"]} == {"http": arguments.port, "metrics": arguments.metrics_port}

    (server,) = template_of(objects)["spec"]["containers"]
    parser = argparse.ArgumentParser(allow_abbrev=False)
    server_command.add_arguments(parser)
    arguments = parser.parse_args(server["args"][1:])
    assert (server["command"], server["args"][0]) == (["kanarya-ml"], "serve")
    assert server["ports"] == [{"name": "http", "containerPort": arguments.port}]
    assert {"name": "model", "mountPath": str(arguments.model), "readOnly": True} in server["volumeMounts"]
    mounted = {"name": "router-settings", "mountPath": str(arguments.router_settings.parent), "readOnly": True}
    assert mounted in server["volumeMounts"]
    assert arguments.router_settings.name == SETTINGS_KEY
    volume = {"name": "router-settings", "configMap": {"name": names.settings("fraud"), "optional": True}}
    assert volume in template_of(objects)["spec"]["volumes"]


def serve_arguments(objects: Objects) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    server_command.add_arguments(parser)
    return parser.parse_args(template_of(objects)["spec"]["containers"][0]["args"][1:])


def test_the_servers_limits_are_its_arguments(helm: Helm) -> None:
    arguments = serve_arguments(helm.template(INFERENCE))
    settings = server_command.settings_of(arguments)
    # Every request comes from a router: by address, all clients would share one rate.
    assert (settings.client_rate, settings.client_header, settings.budget_milliseconds, settings.queue) == (0, None, 60, 100)
    assert (settings.fallback, arguments.feature_log) == ("error", None)
    values = {
        "budgetMilliseconds": 12.5, "fallback": "constant:0.25", "queue": 7, "clientRate": 20, "clientHeader": "x-forwarded-for",
        "featureLog": {"share": 0.05, "redact": ["mid", "vol1m"]},
    }  # fmt: skip
    arguments = serve_arguments(helm.template(INFERENCE, {"server": values}))
    settings = server_command.settings_of(arguments)
    assert (settings.client_rate, settings.client_header, settings.budget_milliseconds, settings.queue) == (20, "x-forwarded-for", 12.5, 7)
    assert (settings.fallback, arguments.feature_log, arguments.feature_log_share) == (0.25, "-", 0.05)
    assert arguments.feature_log_redact == ["mid", "vol1m"]
    with pytest.raises(Refused):
        helm.template(INFERENCE, {"server": {"fallback": "constant:2"}})


def test_the_routers_permissions_are_its_own_route_and_settings(objects: Objects) -> None:
    rules = {rule["resources"][0]: rule for rule in objects.one("Role")["rules"]}
    assert rules.keys() == {"httproutes", "httproutes/status", "configmaps", "endpointslices"}
    assert rules["httproutes"]["resourceNames"] == rules["httproutes/status"]["resourceNames"] == ["fraud"]
    assert rules["configmaps"]["resourceNames"] == [names.settings("fraud")]
    assert all(rule["verbs"] == ["get", "list", "watch"] for key, rule in rules.items() if key != "httproutes/status")
    assert rules["httproutes/status"]["verbs"] == ["patch"]
    assert template_of(objects, "fraud-router")["spec"]["serviceAccountName"] == objects.one("ServiceAccount")["metadata"]["name"]
    assert template_of(objects)["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("model", "source"),
    [
        ({"version": "v1.8.0"}, {"configMap": {"name": "fraud-model-v1.8.0"}}),
        ({"version": "2024_RC1"}, {"configMap": {"name": "fraud-model-2024-rc1"}}),
        ({"version": "v1", "configMap": "other"}, {"configMap": {"name": "other"}}),
        ({"version": "v1", "persistentVolumeClaim": {"claimName": "models"}}, {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}}),
    ],
)  # fmt: skip
def test_where_the_model_comes_from(helm: Helm, model: dict[str, Any], source: dict[str, Any]) -> None:
    volumes = template_of(helm.template(INFERENCE, {"model": model}))["spec"]["volumes"]
    assert {"name": "model", **source} in volumes


@pytest.mark.parametrize(("path", "folder"), [("", "v1"), ("fraud/v1", "fraud/v1")])
def test_a_claims_folder_is_the_versions_own(helm: Helm, path: str, folder: str) -> None:
    model = {"version": "v1", "persistentVolumeClaim": {"claimName": "models", "path": path}}
    (container,) = template_of(helm.template(INFERENCE, {"model": model}))["spec"]["containers"]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "model"]
    assert mount["subPath"] == folder


@pytest.mark.parametrize("spec", [{}, {"replicas": 3, "plan": {"steps": [{"weight": 100}], "maxRunSeconds": 1_209_600}}])
def test_the_rollout_is_one_that_the_operator_takes(helm: Helm, spec: dict[str, Any]) -> None:
    rollout = helm.template(INFERENCE, {"service": {"port": 8000}, "rollout": {"spec": spec}}).one("MLModelRollout")
    read = parse_spec(rollout["spec"])
    assert rollout["metadata"]["name"] == read.target_ref.name == read.service_ref.name == "fraud"
    assert read.service_ref.port == 8000
    assert {key: value for key, value in rollout["spec"].items() if key not in {"targetRef", "serviceRef"}} == spec


def test_the_rollout_may_come_from_elsewhere(helm: Helm) -> None:
    assert "MLModelRollout" not in helm.template(INFERENCE, {"rollout": {"enabled": False}}).kinds()


@pytest.mark.parametrize(
    ("server", "router", "image"),
    [
        ({"tag": "1.0"}, {}, "kanarya/inference:1.0"),
        ({"tag": "1.0", "digest": "sha256:" + "a" * 64}, {}, "kanarya/inference:1.0@sha256:" + "a" * 64),
        ({"tag": "1.0", "digest": "sha256:" + "a" * 64}, {"tag": "2.0"}, "kanarya/inference:2.0"),
        ({"repository": "mirror/ml"}, {"digest": "sha256:" + "b" * 64}, "mirror/ml:0.1.0@sha256:" + "b" * 64),
    ],
)  # fmt: skip
def test_the_routers_image(helm: Helm, server: dict[str, str], router: dict[str, str], image: str) -> None:
    objects = helm.template(INFERENCE, {"image": server, "router": {"image": router}})
    assert template_of(objects, "fraud-router")["spec"]["containers"][0]["image"] == image
