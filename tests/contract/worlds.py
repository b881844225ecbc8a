"""The two API servers that the suite holds to the same behaviour: the one in memory and a real one."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from kubernetes.aio.client.configuration import Configuration

from kanarya.cluster.fake import Call, FakeApi
from kanarya.cluster.kube_config import load_configuration
from kanarya.cluster.kubernetes import KubernetesApi
from kanarya.cluster.port import ApiError, Forbidden, KubeApi, Resource, Unavailable

CUSTOM_RESOURCES = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace")


class World(Protocol):
    """An API server, and the ways in which it can be out of reach."""

    api: KubeApi
    namespace: str

    async def has(self, resource: Resource) -> bool:
        """Tell whether this kind is installed."""
        ...

    async def refused(self) -> KubeApi:
        """Return a client that may not do anything."""
        ...

    async def unreachable(self) -> KubeApi:
        """Return a client of an API server that is away."""
        ...


class FakeWorld:
    """In memory."""

    def __init__(self) -> None:
        self.api: KubeApi = FakeApi(clock=lambda: datetime.now(UTC))
        self.namespace = "contract"

    async def has(self, resource: Resource) -> bool:
        return True

    async def refused(self) -> KubeApi:
        return _always(Forbidden("no"))

    async def unreachable(self) -> KubeApi:
        return _always(Unavailable("away"))


class RealWorld:
    """The cluster that a kubeconfig names."""

    def __init__(self, api: KubernetesApi, kubeconfig: Path, namespace: str) -> None:
        self.api: KubeApi = api
        self.namespace = namespace
        self._kubeconfig = kubeconfig

    async def has(self, resource: Resource) -> bool:
        crds = await self.api.list(CUSTOM_RESOURCES, None)
        return any(crd["metadata"]["name"] == f"{resource.plural}.{resource.group}" for crd in crds)

    async def refused(self) -> KubeApi:
        configuration = await self._configuration()
        # A token alone, and a wrong one: 401.
        configuration.api_key = {"BearerToken": "Bearer nobody"}
        configuration.cert_file = configuration.key_file = None
        return KubernetesApi(configuration)

    async def unreachable(self) -> KubeApi:
        configuration = await self._configuration()
        # Port 9 (discard) on loopback: nobody listens there.
        configuration.host = "https://127.0.0.1:9"
        return KubernetesApi(configuration)

    async def _configuration(self) -> Configuration:
        return await load_configuration(self._kubeconfig, None)


def _always(error: ApiError) -> FakeApi:
    async def before(call: Call) -> None:
        raise error

    api = FakeApi()
    api.before = before
    return api


def kubeconfig_path() -> Path:
    """Where the test cluster's kubeconfig is, or would be."""
    given = os.environ.get("KANARYA_KUBECONFIG")
    if given:
        return Path(given)
    cache = os.environ.get("KANARYA_CACHE")
    return (Path(cache) if cache else Path.home() / ".cache" / "kanarya") / "kubeconfig"
