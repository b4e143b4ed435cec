"""The channels that a test may be run over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

import meshlib.grpc.aio
from meshlib import Mesh
from meshlib.grpc import MeshInterceptor


def plain(mesh: Mesh, aio: bool, port: int, target: str = "") -> Any:
    """grpcio's own, which the tests themselves are tested by."""
    return (grpc.aio if aio else grpc).insecure_channel(f"127.0.0.1:{port}")


def through(mesh: Mesh, aio: bool, port: int, target: str = "") -> Any:
    """A mesh channel."""
    return (meshlib.grpc.aio.mesh_channel if aio else meshlib.grpc.mesh_channel)(target or "reviews:9080", mesh)


def intercepted(mesh: Mesh, aio: bool, port: int, target: str = "") -> Any:
    """grpcio's own behind an interceptor of the mesh."""
    if aio:
        interceptors = list(meshlib.grpc.aio.MeshInterceptor(target or "reviews:9080", mesh))
        return grpc.aio.insecure_channel(f"127.0.0.1:{port}", interceptors=interceptors)
    return grpc.intercept_channel(plain(mesh, aio, port), MeshInterceptor(target or "reviews:9080", mesh))


CHANNELS: dict[str, Callable[..., Any]] = {"plain": plain, "mesh": through, "intercepted": intercepted}
