"""The mesh for code that uses ``grpc.aio``: ``aio.mesh_channel`` is a ``grpc.aio.Channel``."""

from __future__ import annotations

from meshlib.grpc.aio.channel import MeshChannel, mesh_channel
from meshlib.grpc.aio.interceptor import MeshInterceptor

__all__ = ["MeshChannel", "MeshInterceptor", "mesh_channel"]
