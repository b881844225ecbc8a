"""The operator's chart."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import yaml

from kanarya.cli import operate
from kanarya.controller.config import load_config
from tests.contract.charts.rendering import KANARYA, NAMESPACE, ROOT, Helm


def test_one_operator_at_a_time(helm: Helm) -> None:
    spec = helm.template(KANARYA).one("Deployment")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_the_operator_reads_the_configuration(helm: Helm, tmp_path: Path) -> None:
    sources = {"research": {"url": "https://prometheus.research", "scrapeIntervalSeconds": 15}}
    objects = helm.template(KANARYA, {"sources": sources})
    config_map = objects.one("ConfigMap")
    path = tmp_path / "config.yaml"
    path.write_text(config_map["data"]["config.yaml"])
    read = load_config(path).sources
    assert read["default"].url == "http://prometheus.monitoring:9090"
    assert (read["research"].scrape_interval_seconds, read["research"].timeout_seconds) == (15, 5)

    spec = objects.one("Deployment")["spec"]["template"]["spec"]
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "config"]
    assert volume["configMap"]["name"] == config_map["metadata"]["name"]
    assert {"name": "config", "mountPath": "/etc/kanarya", "readOnly": True} in spec["containers"][0]["volumeMounts"]


def test_a_source_gets_its_files_from_secrets_that_may_come_late(helm: Helm, tmp_path: Path) -> None:
    folder = "/etc/kanarya-sources/default"
    source: dict[str, Any] = {
        "url": "https://mimir",
        "scrapeIntervalSeconds": 5,
        "caFile": f"{folder}/ca.crt",
        "bearerTokenFile": f"{folder}/token",
        "headers": {"X-Scope-OrgID": "fraud-team"},
        "mount": [
            {"secret": {"name": "mimir", "items": [{"key": "t", "path": "token"}]}},
            {"configMap": {"name": "internal-ca"}},
            {"serviceAccountToken": {"path": "own", "audience": "thanos"}},
        ],
    }
    long = "a" * 63
    objects = helm.template(KANARYA, {"sources": {"default": source, long: {**source, "mount": source["mount"][:1]}}})
    path = tmp_path / "config.yaml"
    path.write_text(objects.one("ConfigMap")["data"]["config.yaml"])
    read = load_config(path).sources["default"]
    assert (read.ca_file, read.bearer_token_file, read.headers, read.key_file) == (
        f"{folder}/ca.crt", f"{folder}/token", {"X-Scope-OrgID": "fraud-team"}, None,
    )  # fmt: skip

    spec = objects.one("Deployment")["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume["projected"]["sources"] for volume in spec["volumes"] if "projected" in volume}
    assert volumes["source-default"] == [
        {"secret": {"name": "mimir", "optional": True, "items": [{"key": "t", "path": "token"}]}},
        {"configMap": {"name": "internal-ca", "optional": True}},
        {"serviceAccountToken": {"path": "own", "audience": "thanos"}},
    ]
    assert len(volumes) == 2
    assert all(len(name) <= 63 for name in volumes)
    mounts = {mount["name"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts["source-default"] == {"name": "source-default", "mountPath": folder, "readOnly": True}
    assert set(mounts) >= set(volumes)


def test_queries_of_rollouts_are_allowed_only_when_somebody_says_so(helm: Helm, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for values, expected in (({}, False), ({"allowCustomQueries": True}, True)):
        path.write_text(helm.template(KANARYA, values).one("ConfigMap")["data"]["config.yaml"])
        assert load_config(path).allow_custom_queries is expected


def test_a_new_configuration_is_a_new_pod(helm: Helm) -> None:
    before, after = (
        helm.template(KANARYA, {"sources": {"default": {"timeoutSeconds": seconds}}}).one("Deployment")["spec"]["template"]
        for seconds in (5, 6)
    )
    assert before["metadata"]["annotations"] != after["metadata"]["annotations"]


def test_the_command_is_one_that_the_operator_takes(helm: Helm) -> None:
    objects = helm.template(KANARYA, {"watch": {"namespaces": ["shop", "bank"]}})
    (container,) = objects.one("Deployment")["spec"]["template"]["spec"]["containers"]
    parser = argparse.ArgumentParser(allow_abbrev=False)
    operate.add_arguments(parser)
    arguments = parser.parse_args(container["args"][1:])
    assert (container["command"], container["args"][0]) == (["kanarya"], "operator")
    assert arguments.config == Path("/etc/kanarya/config.yaml")
    assert arguments.namespace == ["shop", "bank"]
    assert container["ports"] == [{"name": "http", "containerPort": arguments.port}]


def test_by_default_it_may_work_everywhere(helm: Helm) -> None:
    objects = helm.template(KANARYA, release="kanarya")
    assert "Role" not in objects.kinds()
    binding = objects.one("ClusterRoleBinding")
    account = objects.one("ServiceAccount")["metadata"]["name"]
    assert binding["roleRef"]["name"] == objects.one("ClusterRole", "kanarya")["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]
    assert objects.one("Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == account


def test_in_some_namespaces_it_has_a_role_in_each_and_none_in_the_cluster(helm: Helm) -> None:
    everywhere = helm.template(KANARYA, release="kanarya")
    objects = helm.template(KANARYA, {"watch": {"namespaces": ["shop", "bank"]}}, release="kanarya")
    assert "ClusterRoleBinding" not in objects.kinds()
    for kind in ("Role", "RoleBinding"):
        assert [body["metadata"]["namespace"] for body in objects if body["kind"] == kind] == ["shop", "bank"]
    assert [body["rules"] for body in objects if body["kind"] == "Role"] == [everywhere.one("ClusterRole", "kanarya")["rules"]] * 2


def test_rollouts_themselves_are_never_written(helm: Helm) -> None:
    rules = helm.template(KANARYA, release="kanarya").one("ClusterRole", "kanarya")["rules"]
    assert [rule["verbs"] for rule in rules if "mlmodelrollouts" in rule["resources"]] == [["get", "list", "watch"]]
    assert [rule["verbs"] for rule in rules if "mlmodelrollouts/status" in rule["resources"]] == [["patch"]]


def test_people_get_rollouts_with_the_built_in_roles(helm: Helm) -> None:
    objects = helm.template(KANARYA, release="kanarya")
    view, edit = objects.one("ClusterRole", "kanarya-view"), objects.one("ClusterRole", "kanarya-edit")
    assert view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    assert {verb for rule in view["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert all("mlmodelrollouts/status" not in rule["resources"] for rule in edit["rules"])
    assert helm.template(KANARYA, {"rbac": {"aggregate": False, "create": False}}).kinds().count("ClusterRole") == 0


def test_the_resource_definition_is_the_generated_one(helm: Helm) -> None:
    shipped = helm.template(KANARYA).one("CustomResourceDefinition")
    generated = yaml.safe_load((ROOT / "crds/kanarya.dev_mlmodelrollouts.yaml").read_text())
    assert shipped["spec"] == generated["spec"]
    assert shipped["metadata"]["name"] == generated["metadata"]["name"]
    assert shipped["metadata"]["labels"]["app.kubernetes.io/instance"] == "fraud"


@pytest.mark.parametrize(("keep", "annotations"), [(True, {"helm.sh/resource-policy": "keep"}), (False, {})])
def test_the_resource_definition_outlives_the_release(helm: Helm, keep: bool, annotations: dict[str, str]) -> None:
    assert helm.template(KANARYA, {"crds": {"keep": keep}}).one("CustomResourceDefinition")["metadata"]["annotations"] == annotations


def test_the_resource_definition_may_come_from_elsewhere(helm: Helm) -> None:
    assert "CustomResourceDefinition" not in helm.template(KANARYA, {"crds": {"enabled": False}}).kinds()
