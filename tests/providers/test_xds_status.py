"""What a client knows, as debugging tools read it."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("envoy.service.status.v3")
pytest.importorskip("grpc")

import grpc
from envoy.service.status.v3 import csds_pb2, csds_pb2_grpc

from meshlib import Mesh
from meshlib.providers import XdsProvider
from meshlib.providers.xds.status_service import status_service
from meshlib.xds.ads.kinds import Kind
from tests.providers.test_xds import NAME, SIDECAR, sidecar_set, until
from tests.xds.planes import ControlPlane
from tests.xds.resources import cluster

MATCHING = csds_pb2.ClientStatusRequest()
MATCHING.node_matchers.add().node_id.exact = "x"


def asked(stub: Any) -> tuple[Any, Any]:
    """The one client's knowledge, by both methods."""
    (fetched,) = stub.FetchClientStatus(csds_pb2.ClientStatusRequest()).config
    (streamed,) = next(iter(stub.StreamClientStatus(iter([csds_pb2.ClientStatusRequest()])))).config
    with pytest.raises(grpc.RpcError) as refused:
        stub.FetchClientStatus(MATCHING)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return fetched, streamed


def test_a_bad_update_is_shown_beside_the_last_good():
    with ControlPlane() as plane:
        plane.serve(*sidecar_set(1))
        provider = XdsProvider(plane.bootstrap(id=SIDECAR))
        server = grpc.server(ThreadPoolExecutor(2), handlers=[status_service(provider)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with Mesh(provider) as mesh, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            mesh.ready()
            plane.serve(cluster(NAME, timeout=0))
            until(lambda: mesh.problems)
            fetched, streamed = asked(csds_pb2_grpc.ClientStatusDiscoveryServiceStub(channel))
        server.stop(0).wait(5)
    assert fetched == streamed or len(fetched.generic_xds_configs) == len(streamed.generic_xds_configs)
    assert fetched.node.id == SIDECAR
    shown = {each.type_url: each for each in fetched.generic_xds_configs}
    assert set(shown) == {kind.url for kind in Kind} - {Kind.SECRET.url}
    good, bad = shown[Kind.ENDPOINT.url], shown[Kind.CLUSTER.url]
    assert (good.client_status, good.version_info, good.error_state.details) == (3, "1", "")
    assert (bad.client_status, bad.version_info, bad.error_state.version_info) == (4, "1", "2")
    assert "connect_timeout: must be above 0" in bad.error_state.details
    assert bad.xds_config.value == cluster(NAME).SerializeToString(deterministic=True)
    assert abs(time.time() - bad.last_updated.seconds) < 60


def test_servers_of_grpc_aio_show_it_too():
    with ControlPlane() as plane:
        provider = XdsProvider(plane.bootstrap(id=SIDECAR))

        async def run() -> None:
            server = grpc.aio.server()
            server.add_generic_rpc_handlers([status_service(provider, aio=True)])
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(channel)
                answer = await stub.FetchClientStatus(csds_pb2.ClientStatusRequest())
                assert [each.node.id for each in answer.config] == [SIDECAR]
                with pytest.raises(grpc.aio.AioRpcError, match="node_matchers"):
                    await stub.FetchClientStatus(MATCHING)
            await server.stop(0)

        asyncio.run(run())
