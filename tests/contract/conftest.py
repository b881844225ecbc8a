"""`--api=fake|real|both` chooses what the contract is tried on; both is the default."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kanarya.cluster.kubernetes import KubernetesApi
from kanarya.cluster.port import ApiError, KubeApi
from tests.contract.worlds import NAMESPACES, FakeWorld, RealWorld, World, kubeconfig_path


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--api", choices=("fake", "real", "both"), default="both", help="API server(s) for the contract suite")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "world" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--api", "both")
        metafunc.parametrize("world", ["fake", "real"] if chosen == "both" else [chosen], indirect=True)


@pytest.fixture(scope="package")
def real_cluster() -> Iterator[tuple[Path, str]]:
    """A kubeconfig and a namespace of our own, gone with its rollouts before any other test begins."""
    kubeconfig = kubeconfig_path()
    if not kubeconfig.is_file():
        pytest.fail(f"No cluster for --api=real: there is no kubeconfig at {kubeconfig}. Make one, or use --api=fake.", pytrace=False)
    namespace = f"contract-{secrets.token_hex(4)}"
    try:
        _run(_namespace("POST", kubeconfig, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))
    except ApiError as error:
        pytest.fail(f"No cluster for --api=real: {error} (kubeconfig {kubeconfig}).", pytrace=False)
    yield kubeconfig, namespace
    _run(_namespace("DELETE", kubeconfig, f"/{namespace}", None))


@pytest.fixture
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "fake":
        yield FakeWorld()
        return
    kubeconfig, namespace = request.getfixturevalue("real_cluster")
    api = await KubernetesApi.connect(kubeconfig=kubeconfig)
    yield RealWorld(api, kubeconfig, namespace)
    await api.close()


@pytest.fixture
def api(world: World) -> KubeApi:
    return world.api


@pytest.fixture
def namespace(world: World) -> str:
    return world.namespace


@pytest.fixture
def name() -> str:
    """A name that no other test has: the namespace is shared."""
    return f"t-{secrets.token_hex(5)}"


async def _namespace(method: str, kubeconfig: Path, tail: str, body: Any) -> None:
    api = await KubernetesApi.connect(kubeconfig=kubeconfig)
    try:
        await api._call(method, f"/api/v1/{NAMESPACES.plural}{tail}", f"{method} namespace", body=body)
    finally:
        await api.close()


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run outside of the tests' own event loops."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result(timeout=60)
