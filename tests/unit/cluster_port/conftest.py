"""An API server played by the test, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kanarya.cluster.kubernetes import KubernetesApi
from tests.unit.cluster_port.api_server import ApiServer, client, serving


@pytest.fixture
async def server() -> ApiServer:
    return ApiServer()


@pytest.fixture
async def url(server: ApiServer) -> AsyncIterator[str]:
    async with serving(server) as url:
        yield url


@pytest.fixture
async def api(url: str) -> AsyncIterator[KubernetesApi]:
    api = client(url)
    yield api
    await api.close()
