"""A call leaves nothing behind that only the garbage collector could find."""

from __future__ import annotations

import gc

import anyio
import httpx
import pytest

from meshlib import AsyncMeshClient, MeshClient
from meshlib.httpx import AsyncMeshTransport, MeshTransport
from meshlib.testing import mesh_of
from tests.conftest import endpoint_slice, service
from tests.faces.test_short import Recorder

CALLS = 50


@pytest.fixture
def mesh():
    peer = Recorder()
    with mesh_of(service("svc"), endpoint_slice("svc", "v1", ("127.0.0.1", peer.port))) as made:
        yield made
    peer.close()


@pytest.fixture(autouse=True)
def no_collections():
    gc.disable()
    yield
    gc.enable()


def asked(client):
    """So many calls; how many objects were left for the collector."""
    for _ in range(5):
        client.get("http://svc:9080/plain")
    gc.collect()
    for _ in range(CALLS):
        assert client.get("http://svc:9080/plain").status_code == 200
    return gc.collect()


async def asked_by_tasks(client):
    for _ in range(5):
        await client.get("http://svc:9080/plain")
    gc.collect()
    for _ in range(CALLS):
        assert (await client.get("http://svc:9080/plain")).status_code == 200
    return gc.collect()


def test_threads_leave_no_circles(mesh):
    with MeshClient(mesh) as short, httpx.Client(transport=MeshTransport(mesh)) as full:
        assert asked(short) < CALLS
        assert asked(full) < CALLS


def test_tasks_leave_no_circles(mesh):
    async def main():
        async with AsyncMeshClient(mesh) as short, httpx.AsyncClient(transport=AsyncMeshTransport(mesh)) as full:
            assert await asked_by_tasks(short) < CALLS
            assert await asked_by_tasks(full) < CALLS

    anyio.run(main)
