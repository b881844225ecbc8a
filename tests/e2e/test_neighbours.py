"""Several rollouts side by side: one target for one of them, and no harm by what a pod says of itself."""

from __future__ import annotations

import json

import pytest

from examples import lab
from examples.lab import ModelService
from tests.e2e.conftest import Services, Serving, check_end, no_client_error, quick_spec, weights_entered

LIAR = """
import http.server, itertools, json, os, sys, urllib.request

rollouts = json.loads(sys.argv[1])
rollouts["fraud"]["candidate"] = os.environ["REVISION"]
scrapes = itertools.count(1)


def lies(often):
    for rollout, revisions in rollouts.items():
        for track, revision in revisions.items():
            # All is well with the liar, nothing with the others.
            outcome = "success" if (rollout, track) == ("fraud", "candidate") else "server_error"
            labels = f'namespace="{os.environ["NAMESPACE"]}",pod="{rollout}-router-7d4b9c-x2x4z",rollout="{rollout}",track="{track}",revision="{revision}"'
            for exposure in ("live", "mirror"):
                for edge in ("0.5", "1.0", "1", "+Inf"):
                    of_attempt = f'{labels},exposure="{exposure}",outcome="{outcome}",le="{edge}"'
                    yield f"kanarya_request_duration_seconds_bucket{{{of_attempt}}} {often * 1e9}"
            comparison = "match" if rollout == "fraud" else "mismatch"
            yield f'kanarya_comparisons_total{{{labels},exposure="mirror",outcome="{comparison}"}} {often * 1e9}'
            yield f"kanarya_mirror_breaker_open{{{labels}}} {int(rollout != 'fraud')}"


class Metrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with urllib.request.urlopen("http://127.0.0.1:4010/ml/metrics", timeout=1) as answer:
            own = answer.read().decode()
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write((own + "\\n".join(lies(next(scrapes))) + "\\n").encode())


http.server.ThreadingHTTPServer(("", 9999), Metrics).serve_forever()
"""
"""Passes the model's own metrics on, and adds what only routers may say."""


@pytest.mark.alone  # three services under load, two of them releasing: beside another test routers wait seconds for a core
def test_what_a_pod_says_of_itself_helps_it_in_nothing_and_harms_nobody(service: Services, serving: Serving) -> None:
    liar = serving(spec=quick_spec())
    beside = serving(spec=quick_spec(seconds=8), namespace=liar.namespace, name="churn", load="load-churn")
    elsewhere = serving(spec=quick_spec(seconds=8), namespace=f"{liar.namespace}-2")
    for other in (beside, elsewhere):
        other.release("v1.8.1")
    revisions = {"fraud": {"stable": revision(liar, "stable")}}
    revisions["churn"] = {track: revision(beside, track) for track in ("stable", "run")}
    revisions["churn"]["candidate"] = revisions["churn"].pop("run")
    release_liar(liar, revisions)
    entries = check_end(liar, "RolledBack", "ErrorsAboveAbort")
    assert weights_entered(entries) == []
    counts = next(item["counts"] for item in entries if item.get("decision") == "Rollback")
    assert counts["candidate"]["mirror"]["requests"] < 1e6, counts
    for other in (beside, elsewhere):
        entries = check_end(other, "Succeeded", "Promoted")
        assert weights_entered(entries) == [10, 50, 100]
    for each in (liar, beside, elsewhere):
        no_client_error(each)


def revision(service: ModelService, part: str) -> str:
    status = service.wait(lambda status: bool(status.get(part)), part, 60)
    return str(status[part]["revision"])


def release_liar(service: ModelService, revisions: dict[str, dict[str, str]]) -> None:
    """Release an erring version with a sidecar that answers Prometheus in the model's place."""
    path = "/spec/template"
    reference = {"REVISION": "metadata.labels['pod-template-hash']", "NAMESPACE": "metadata.namespace"}
    sidecar = {
        "name": "liar",
        "image": "kanarya/inference:dev",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", LIAR, json.dumps(revisions)],
        "env": [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}} for name, field in reference.items()],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    patch = [
        {"op": "add", "path": f"{path}/spec/containers/-", "value": sidecar},
        {"op": "add", "path": f"{path}/spec/containers/0/args/-", "value": "--fault-error-rate=0.3"},
        {"op": "replace", "path": f"{path}/metadata/annotations/prometheus.io~1port", "value": "9999"},
    ]
    lab.kubectl("patch", "-n", service.namespace, "deploy", "fraud", "--type=json", "-p", json.dumps(patch))


def test_a_second_rollout_on_the_same_target_is_refused(serving: Serving) -> None:
    service = serving(spec=quick_spec())
    service.release("v1.8.1")
    service.wait_weight(10)
    second = ModelService(service.namespace, service.models, name="fraud-too")
    spec = {**service.rollout()["spec"], "serviceRef": {"name": "fraud-too", "port": 80}}
    metadata = {"name": "fraud-too", "namespace": service.namespace}
    lab.apply({"apiVersion": "kanarya.dev/v1alpha1", "kind": "MLModelRollout", "metadata": metadata, "spec": spec})
    second.wait(lambda _: second.condition("Accepted")[0] == "False", "the refusal", 30)
    assert second.condition("Accepted") == ("False", "TargetTaken")
    (accepted,) = [entry for entry in second.status()["conditions"] if entry["type"] == "Accepted"]
    assert accepted["message"] == (
        "Deployment fraud already belongs to MLModelRollout fraud: name another Deployment in spec.targetRef, or delete one of the two"
    )
    entries = check_end(service, "Succeeded", "Promoted")
    assert weights_entered(entries) == [10, 50, 100]
    assert second.condition("Accepted") == ("False", "TargetTaken")
    ours = "deploy,service,httproute,configmap"
    assert not lab.get(service.namespace, ours, "-l", "kanarya.dev/rollout=fraud-too")["items"]
    no_client_error(service)
