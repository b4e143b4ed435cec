"""Under uvloop: names are dialled, bodies stream, and what is cut short leaves nothing behind."""

from __future__ import annotations

import asyncio

import pytest

from meshlib import AsyncMeshClient
from meshlib.testing import mesh_of
from tests.conftest import endpoint_slice, service

uvloop = pytest.importorskip("uvloop")

NAMED = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: named}}
spec:
  hosts: [named.example.com]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: localhost, ports: {{http: {port}}}}}]
"""


def test_an_endpoint_that_is_a_name_is_dialled(echo):
    async def main(mesh):
        async with AsyncMeshClient(mesh) as client:
            return [(await client.get("http://named.example.com/")).json()["name"] for _ in range(3)]

    with mesh_of(NAMED.format(port=echo("one").port)) as mesh:
        assert uvloop.run(main(mesh)) == ["one"] * 3


def test_much_is_sent_and_received_by_many_tasks(echo):
    async def main(mesh):
        async with AsyncMeshClient(mesh, timeout=30) as client:
            sent = [str(number) * 200_000 for number in range(8)]
            answers = await asyncio.gather(*(client.post("http://svc/", content=text) for text in sent))
            assert [answer.json()["body"] for answer in answers] == sent

    with mesh_of(service("svc", 80), endpoint_slice("svc", "v1", ("127.0.0.1", echo("one").port))) as mesh:
        uvloop.run(main(mesh))
        assert [cluster.active for cluster in mesh.state.clusters()] == [0]


def test_a_body_closed_early_and_a_cancelled_call_give_everything_back(echo):
    async def main(mesh):
        async with AsyncMeshClient(mesh, timeout=30) as client:
            async with client.stream("POST", "http://svc/", content=b"x" * 2_000_000) as response:
                async for _ in response.aiter_raw():
                    break
            task = asyncio.create_task(client.post("http://svc/", content=b"x" * 2_000_000))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.get("http://svc/")).status_code == 200

    with mesh_of(service("svc", 80), endpoint_slice("svc", "v1", ("127.0.0.1", echo("one").port))) as mesh:
        uvloop.run(main(mesh))
        assert [cluster.active for cluster in mesh.state.clusters()] == [0]
