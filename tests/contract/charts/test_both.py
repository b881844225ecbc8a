"""What holds for every object of both charts."""

from pathlib import Path
from typing import Any

import pytest

from tests.contract.charts.rendering import INFERENCE, KANARYA, MODEL, Helm, Objects, Refused, pods

EVERYTHING: dict[str, dict[str, Any]] = {
    "kanarya": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "watch": {"namespaces": ["shop", "bank"]},
        "imagePullSecrets": [{"name": "registry"}],
        "podLabels": {"team": "platform"},
        "podAnnotations": {"note": "yes"},
        "priorityClassName": "high",
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "ml", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "extraArgs": ["--port", "8080"],
        "extraEnv": [{"name": "A", "value": "b: c"}],
        "serviceAccount": {"annotations": {"cloud/role": "x"}},
    },
    "inference": {
        **MODEL,
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "imagePullSecrets": [{"name": "registry"}],
        "podLabels": {"team": "fraud"},
        "podAnnotations": {"note": "yes"},
        "priorityClassName": "high",
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "ml", "operator": "Exists"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        "extraArgs": ["--fault-latency-ms", "800"],
        "extraEnv": [{"name": "A", "value": "b: c"}],
        "service": {"annotations": {"note": "yes"}},
        "rollout": {"annotations": {"note": "yes"}, "spec": {"replicas": 3, "paused": True}},
        "router": {"podLabels": {"team": "fraud"}, "extraArgs": ["--drain-seconds", "9"], "affinity": {"nodeAffinity": {}}},
    },
}


@pytest.fixture(
    params=[(KANARYA, False), (KANARYA, True), (INFERENCE, False), (INFERENCE, True)],
    ids=["kanarya", "kanarya-all", "inference", "inference-all"],
)
def objects(request: pytest.FixtureRequest, helm: Helm) -> Objects:
    chart, everything = request.param
    return helm.template(chart, EVERYTHING[chart.name] if everything else None)


@pytest.mark.parametrize("chart", [KANARYA, INFERENCE], ids=["kanarya", "inference"])
def test_lint(helm: Helm, chart: Path) -> None:
    values = {} if chart is KANARYA else MODEL
    assert "0 chart(s) failed" in helm.run("lint", "--strict", str(chart), values=values)
    assert "0 chart(s) failed" in helm.run("lint", "--strict", str(chart), values=EVERYTHING[chart.name])


def test_every_pod_keeps_to_the_restricted_standard(objects: Objects) -> None:
    assert pods(objects)
    for template in pods(objects):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 65532
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert all(volume.keys() & {"configMap", "emptyDir", "persistentVolumeClaim"} for volume in spec["volumes"])
        for container in spec["containers"]:
            own = container["securityContext"]
            assert own == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
            assert container["resources"]["requests"]
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
            assert {"livenessProbe", "readinessProbe", "startupProbe"} <= container.keys()
            assert all("hostPort" not in port for port in container["ports"])


def test_permissions_name_verbs_and_resources(objects: Objects) -> None:
    rules = [rule for body in objects if body["kind"] in {"Role", "ClusterRole"} for rule in body["rules"]]
    assert rules
    for rule in rules:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "secrets" not in rule["resources"]


def test_scrape_annotations_name_a_port_of_the_pod(objects: Objects) -> None:
    for template in pods(objects):
        annotations = template["metadata"]["annotations"]
        (container,) = template["spec"]["containers"]
        assert annotations["prometheus.io/scrape"] == "true"
        assert annotations["prometheus.io/port"] in {str(port["containerPort"]) for port in container["ports"]}
        assert annotations["prometheus.io/path"].endswith("/metrics")


def test_selectors_take_their_own_pods(objects: Objects) -> None:
    for body in objects:
        if body["kind"] == "Deployment":
            assert body["spec"]["selector"]["matchLabels"].items() <= body["spec"]["template"]["metadata"]["labels"].items()


def test_objects_are_in_the_releases_namespace(objects: Objects) -> None:
    cluster_wide = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
    for body in objects:
        assert ("namespace" in body["metadata"]) == (body["kind"] not in cluster_wide), body["kind"]


@pytest.mark.parametrize(
    ("chart", "values", "message"),
    [
        (KANARYA, {"watch": {"namespaces": "prod"}}, "'/watch/namespaces': got string, want array"),
        (KANARYA, {"sources": {"default": {"url": "prometheus:9090"}}}, "'/sources/default/url'"),
        (KANARYA, {"sources": {"default": {"url": "http://user:secret@prometheus"}}}, "'/sources/default/url'"),
        (KANARYA, {"sources": {"other": {"url": "http://prometheus"}}}, "missing property 'scrapeIntervalSeconds'"),
        (KANARYA, {"replicas": 2}, "additional properties 'replicas' not allowed"),
        (KANARYA, {"image": {"digest": "latest"}}, "'/image/digest'"),
        (INFERENCE, {"model": {"version": "v1.8.0+build"}}, "'/model/version'"),
        (INFERENCE, {"modle": {}}, "additional properties 'modle' not allowed"),
        (INFERENCE, {"router": {"replicas": 0}}, "'/router/replicas': minimum: got 0, want 1"),
        (INFERENCE, {"rollout": {"spec": {"targetRef": {"name": "x"}}}}, "'/rollout/spec': additional properties 'targetRef' not allowed"),
        (INFERENCE, {"podLabels": {"app.kubernetes.io/component": "router"}}, "invalid propertyName 'app.kubernetes.io/component'"),
        (INFERENCE, {"model": {}}, "model.version is missing: say which version of the model to serve"),
        (INFERENCE, {"model": {"version": "v1", "configMap": "a", "persistentVolumeClaim": {"claimName": "b"}}}, "a model comes from one place"),
    ],
)  # fmt: skip
def test_bad_values_are_refused_with_a_message(helm: Helm, chart: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as refused:
        helm.template(chart, values)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("release", "message"), [("9fraud", "begin with a letter"), ("fraud.eu", "names a Service too"), ("f" * 41, "more than 40 characters")]
)
def test_a_release_name_that_makes_no_service_is_refused(helm: Helm, release: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        helm.template(INFERENCE, release=release)


def test_an_old_cluster_is_refused(helm: Helm) -> None:
    with pytest.raises(Refused, match=r"kubeVersion: >=1\.30"):
        helm.template(KANARYA, options=["--kube-version", "1.29.0"])
