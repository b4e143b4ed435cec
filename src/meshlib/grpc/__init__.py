"""gRPC through the mesh, for code that uses ``grpc`` and ``grpc.aio``: the extra ``meshlib[grpc]``.

``mesh_channel("reviews:9080", mesh)`` is a ``grpc.Channel`` that generated stubs take as it is. How one RPC goes:

1. ``rpc``: service, method and metadata become the ``Request`` that routing reads, and what is to be sent becomes
   metadata again.
2. the drivers of the data plane ask the call for attempts, as for HTTP.
3. ``subchannels``: each endpoint has one real channel, which all mesh channels of the process share.
4. ``outcomes``: status and details of an attempt become the one classification that every policy reads.
5. ``failures``: what is raised is gRPC's error and ours.
"""

from __future__ import annotations

from meshlib.grpc import aio
from meshlib.grpc.channel import MeshChannel, mesh_channel
from meshlib.grpc.interceptor import MeshInterceptor

__all__ = ["MeshChannel", "MeshInterceptor", "aio", "mesh_channel"]
