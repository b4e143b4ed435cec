"""Clients with a mesh beneath: an httpx client in every respect, except where its requests go.

with MeshClient("mesh/") as client:
    client.get("http://reviews:9080/reviews/0")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from meshlib.httpx import AsyncMeshTransport, MeshTransport

if TYPE_CHECKING:
    from meshlib.mesh import Mesh, MeshSource

__all__ = ["AsyncMeshClient", "MeshClient"]


class MeshClient(httpx.Client):
    """An ``httpx.Client`` whose requests go through a mesh; everything ``httpx.Client`` takes works here.

    Args:
        mesh: A ``Mesh``, or what ``Mesh`` takes. What is made here is closed with the client.
        kwargs: As for ``httpx.Client``; ``transport`` becomes the way to hosts that the mesh does not know.
    """

    def __init__(self, mesh: MeshSource, **kwargs: Any) -> None:
        verify, http2 = kwargs.get("verify", True), kwargs.get("http2", False)
        passthrough = kwargs.pop("transport", None)
        face = MeshTransport(mesh, passthrough=passthrough, verify=verify, http2=http2)
        super().__init__(transport=face, **kwargs)
        self.mesh: Mesh = face.mesh


class AsyncMeshClient(httpx.AsyncClient):
    """An ``httpx.AsyncClient`` whose requests go through a mesh; see ``MeshClient``. Runs under asyncio and trio."""

    def __init__(self, mesh: MeshSource, **kwargs: Any) -> None:
        verify, http2 = kwargs.get("verify", True), kwargs.get("http2", False)
        passthrough = kwargs.pop("transport", None)
        face = AsyncMeshTransport(mesh, passthrough=passthrough, verify=verify, http2=http2)
        super().__init__(transport=face, **kwargs)
        self.mesh: Mesh = face.mesh
