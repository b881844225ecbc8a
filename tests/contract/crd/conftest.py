"""These tests are about the API server's own checks, so they need a real one: with `--api=fake` they are not collected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kanarya.api.crd import custom_resource_definition
from kanarya.cluster.kubernetes import KubernetesApi
from kanarya.cluster.port import Object
from tests.contract.worlds import CUSTOM_RESOURCES

HERE = Path(__file__).parent
DEFINITION = custom_resource_definition()
PATH = f"/apis/{CUSTOM_RESOURCES.api_version}/{CUSTOM_RESOURCES.plural}/{DEFINITION['metadata']['name']}"


@dataclass(frozen=True)
class Server:
    """A real API server with the definition installed, and a namespace."""

    api: KubernetesApi
    namespace: str
    kubeconfig: Path

    async def raw(self, method: str, path: str) -> Object:
        return await self.api._call(method, path, path)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--api", "both") == "fake":
        here = [item for item in items if item.path.is_relative_to(HERE)]
        items[:] = [item for item in items if item not in here]
        config.hook.pytest_deselected(items=here)


@pytest.fixture(scope="package")
def definition(real_cluster: tuple[Path, str]) -> Object:
    """The definition as the API server has it: Helm's, if it says the same as the models do; else applied by force."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, _installed(real_cluster[0])).result(timeout=60)


@pytest.fixture
async def server(real_cluster: tuple[Path, str], definition: Object) -> AsyncIterator[Server]:
    kubeconfig, namespace = real_cluster
    api = await KubernetesApi.connect(kubeconfig=kubeconfig)
    yield Server(api, namespace, kubeconfig)
    await api.close()


async def _installed(kubeconfig: Path) -> Object:
    api = await KubernetesApi.connect(kubeconfig=kubeconfig)
    try:
        found = await _find(api)
        if found is None or not same(found):
            # As Helm does: an older schema of another owner would keep the chart from being installed on a cluster that is kept.
            query = {"fieldManager": "helm", "force": "true"}
            await api._call("PATCH", PATH, "apply", query=query, body=DEFINITION, content_type="application/apply-patch+yaml")
        for _ in range(100):
            found = await _find(api)
            if found is not None and same(found) and _established(found):
                return found
            await asyncio.sleep(0.1)
        raise AssertionError(f"not established: {json.dumps((found or {}).get('status'))}")
    finally:
        await api.close()


async def _find(api: KubernetesApi) -> Object | None:
    found = await api.list(CUSTOM_RESOURCES, None)
    return next((body for body in found if body["metadata"]["name"] == DEFINITION["metadata"]["name"]), None)


def same(body: Object) -> bool:
    """Whether the server's version says what the models generate."""
    (ours,) = DEFINITION["spec"]["versions"]
    (theirs,) = body["spec"]["versions"]
    return all(theirs.get(key) == ours[key] for key in ("name", "schema", "subresources", "additionalPrinterColumns"))


def _established(body: Any) -> bool:
    # A definition that has only just been created says `conditions: null`.
    conditions = body.get("status", {}).get("conditions") or []
    return any(item["type"] == "Established" and item["status"] == "True" for item in conditions)
