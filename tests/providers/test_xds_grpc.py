"""RPCs over mesh channels towards hosts that a control plane is asked for by name, as proxyless gRPC does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("envoy.service.discovery.v3")
pytest.importorskip("grpc")

import grpc
import grpc.aio

import meshlib.grpc.aio
from meshlib import Mesh
from meshlib.grpc import MeshInterceptor
from meshlib.providers import XdsProvider
from tests.providers.test_xds import SIDECAR, grpc_set
from tests.xds.planes import ControlPlane

SHAPES = pytest.mark.parametrize("shape", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
TARGET = "xds:///reviews:9080"


class Echo(grpc.GenericRpcHandler):
    """Answers every method, named after its shape, with what came."""

    def service(self, details: Any) -> Any:
        shape = details.method.rpartition("/")[2]
        many_in, many_out = shape.startswith("stream"), shape.endswith("stream")

        def answer(request: Any, context: Any) -> Any:
            told = b"".join(request) if many_in else request
            return iter([told]) if many_out else told

        return getattr(grpc, f"{shape}_rpc_method_handler")(answer)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(4), handlers=[Echo()])
    bound = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield bound
    server.stop(None)


@pytest.fixture
def plane(port) -> Iterator[ControlPlane]:
    with ControlPlane() as made:
        made.serve(*grpc_set(port))
        yield made


def mesh_of(plane: ControlPlane, **given: Any) -> Mesh:
    return Mesh(XdsProvider(plane.bootstrap(id=SIDECAR, metadata={"GENERATOR": "grpc"})), **given)


def call(channel: Any, shape: str, **given: Any) -> Any:
    request = iter([b"a", b"b"]) if shape.startswith("stream") else b"ab"
    return getattr(channel, shape)(f"/test.Echo/{shape}")(request, **given)


@SHAPES
def test_the_first_rpc_to_a_host_waits_for_the_control_planes_word(plane, shape):
    with mesh_of(plane) as mesh, meshlib.grpc.mesh_channel(TARGET, mesh) as channel:
        told = call(channel, shape, timeout=20)
        assert (b"".join(told) if shape.endswith("stream") else told) == b"ab"


@SHAPES
def test_the_first_rpc_of_an_event_loop_waits_and_the_loop_goes_on(plane, port, shape):
    async def run() -> bytes:
        async with mesh_of(plane) as mesh, meshlib.grpc.aio.mesh_channel(TARGET, mesh) as channel:
            await mesh.aready()
            under_way = call(channel, shape, timeout=20)
            plane.serve(*grpc_set(port))  # only now, when the call was made and waits
            if shape.endswith("stream"):
                return b"".join([message async for message in under_way])
            return await under_way

    plane.serve_nothing()
    assert asyncio.run(run()) == b"ab"


def test_an_rpc_ends_with_its_own_time_while_the_control_plane_says_nothing(plane):
    plane.serve_nothing()
    with mesh_of(plane) as mesh, meshlib.grpc.mesh_channel(TARGET, mesh) as channel:
        with pytest.raises(grpc.RpcError) as told:
            call(channel, "unary_unary", timeout=0.2)
        assert told.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        future = channel.unary_unary("/test.Echo/unary_unary").future(b"", timeout=0.2)
        assert future.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_an_rpc_without_a_time_ends_when_the_mesh_waits_no_longer(plane):
    plane.serve_nothing()
    with mesh_of(plane, ready_timeout=0.2) as mesh, meshlib.grpc.mesh_channel(TARGET, mesh) as channel:
        for rpc in (channel.unary_unary("/test.Echo/unary_unary").future(b""), call(channel, "unary_stream")):
            assert rpc.code() is grpc.StatusCode.UNAVAILABLE
            assert "has not answered yet what it knows of reviews:9080" in rpc.details()


def test_an_rpc_that_waits_for_the_control_plane_may_be_cancelled(plane):
    plane.serve_nothing()
    with mesh_of(plane) as mesh, meshlib.grpc.mesh_channel(TARGET, mesh) as channel:
        rpc = channel.unary_unary("/test.Echo/unary_unary").future(b"")
        assert rpc.cancel()
        assert rpc.code() is grpc.StatusCode.CANCELLED


def test_channels_that_are_to_connect_do_so_once_their_host_is_known(plane):
    with mesh_of(plane) as mesh, meshlib.grpc.mesh_channel(TARGET, mesh) as channel:
        mesh.ready()
        grpc.channel_ready_future(channel).result(20)

    async def run() -> None:
        async with mesh_of(plane) as mesh, meshlib.grpc.aio.mesh_channel(TARGET, mesh) as channel:
            await asyncio.wait_for(channel.channel_ready(), 20)

    asyncio.run(run())


def test_interceptors_wait_for_the_control_planes_word_too(plane, port):
    address = f"127.0.0.1:{port}"
    with mesh_of(plane) as mesh, grpc.insecure_channel(address) as own:
        channel = grpc.intercept_channel(own, MeshInterceptor(TARGET, mesh))
        assert call(channel, "unary_unary", timeout=20) == b"ab"

    async def run() -> bytes:
        async with mesh_of(plane) as mesh:
            interceptors = list(meshlib.grpc.aio.MeshInterceptor(TARGET, mesh))
            async with grpc.aio.insecure_channel(address, interceptors=interceptors) as channel:
                return await call(channel, "unary_unary", timeout=20)

    assert asyncio.run(run()) == b"ab"
