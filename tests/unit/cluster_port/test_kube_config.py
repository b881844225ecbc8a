"""Which cluster, and as whom."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kubernetes.aio.config import incluster_config

from kanarya.cluster.kube_config import NotConfigured, load_configuration
from kanarya.cluster.kubernetes import KubernetesApi
from kanarya.cluster.port import ApiError

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def account(tmp_path: Path) -> Path:
    account = tmp_path / "serviceaccount"
    account.mkdir()
    (account / "token").write_text("one")
    (account / "ca.crt").write_text("a certificate")
    return account


def kubeconfig(path: Path, **user: Any) -> Path:
    contexts = [{"name": name, "context": {"cluster": name, "user": "me"}} for name in ("first", "second")]
    clusters = [{"name": name, "cluster": {"server": f"http://{name}.invalid:6443"}} for name in ("first", "second")]
    document = {
        "current-context": "first",
        "contexts": contexts,
        "clusters": clusters,
        "users": [{"name": "me", "user": user or {"token": "secret"}}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


async def test_in_a_pod(account: Path) -> None:
    configuration = await load_configuration(None, None, environ=POD, service_account=account)

    assert configuration.host == "https://10.0.0.1:443"
    assert configuration.ssl_ca_cert == str(account / "ca.crt")
    assert await configuration.get_api_key_with_prefix("BearerToken") == "bearer one"


async def test_the_pods_token_is_read_again_as_it_rotates(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + timedelta(minutes=2)

    configuration = await load_configuration(None, None, environ=POD, service_account=account)
    (account / "token").write_text("two")
    monkeypatch.setattr(incluster_config, "datetime", SimpleNamespace(datetime=Later, timedelta=timedelta))

    assert await configuration.get_api_key_with_prefix("BearerToken") == "bearer two"


async def test_a_kubeconfig_that_was_named_comes_before_the_pod(account: Path, tmp_path: Path) -> None:
    file = kubeconfig(tmp_path / "config")

    configuration = await load_configuration(file, "second", environ=POD, service_account=account)

    assert configuration.host == "http://second.invalid:6443"
    assert await configuration.get_api_key_with_prefix("BearerToken") == "Bearer secret"


async def test_kubeconfigs_of_the_environment(tmp_path: Path) -> None:
    environ = {"KUBECONFIG": f"{tmp_path / 'missing'}:{kubeconfig(tmp_path / 'config')}"}

    assert (await load_configuration(None, None, environ=environ)).host == "http://first.invalid:6443"


async def test_none_is_one_clear_sentence(tmp_path: Path) -> None:
    missing = tmp_path / "missing"

    with pytest.raises(NotConfigured, match=f"no kubeconfig at {missing}") as caught:
        await load_configuration(None, None, environ={"KUBECONFIG": str(missing)})
    assert isinstance(caught.value, ApiError)
    with pytest.raises(NotConfigured, match=f"no kubeconfig at {missing}"):
        await KubernetesApi.connect(kubeconfig=missing)


async def test_a_pod_without_certificates(account: Path) -> None:
    (account / "ca.crt").unlink()

    with pytest.raises(NotConfigured, match="service account"):
        await load_configuration(None, None, environ=POD, service_account=account)


@pytest.mark.parametrize("text", ["", "[]", "{secret: [", "contexts: secret", "a: b", '{"current-context": "x", "contexts": []}'])
async def test_a_kubeconfig_that_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)

    with pytest.raises(NotConfigured) as caught:
        await load_configuration(file, None)

    assert str(file) in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_context_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="third"):
        await load_configuration(kubeconfig(tmp_path / "config"), "third")


async def test_certificates_that_are_none(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path / "config")
    document = yaml.safe_load(file.read_text())
    document["clusters"][0]["cluster"] = {"server": "https://127.0.0.1:1", "certificate-authority": str(file)}
    file.write_text(yaml.safe_dump(document))

    with pytest.raises(NotConfigured, match="certificates"):
        await KubernetesApi.connect(kubeconfig=file)


async def test_a_credentials_plugin_is_asked_again_before_its_token_expires(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    counter.write_text("")
    status = {"expirationTimestamp": "2020-01-01T00:00:00Z"}
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    script = (
        f"import json, pathlib; c = pathlib.Path({str(counter)!r}); c.write_text(c.read_text() + 'x');"
        f"a = json.loads({json.dumps(answer)!r}); a['status']['token'] = c.read_text(); print(json.dumps(a))"
    )
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": ["-c", script]}

    configuration = await load_configuration(kubeconfig(tmp_path / "config", exec=plugin), None)

    assert configuration.api_key["BearerToken"] == "Bearer x"
    assert await configuration.get_api_key_with_prefix("BearerToken") == "Bearer xx"
