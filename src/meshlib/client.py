"""Clients with a mesh beneath: an httpx client in every respect, except where its requests go.

with MeshClient("mesh/") as client:
    client.get("http://reviews:9080/reviews/0")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from meshlib.httpx import AsyncMeshTransport, LazyHttpxResponse, MeshTransport
from meshlib.short import AsyncShortCalls, ShortCalls, Shortcut

if TYPE_CHECKING:
    from meshlib.mesh import Mesh, MeshSource

__all__ = ["AsyncMeshClient", "MeshClient"]


class MeshClient(ShortCalls, httpx.Client):
    """An ``httpx.Client`` whose requests go through a mesh; everything ``httpx.Client`` takes works here.

    A plain call (no authentication, cookies, hooks, mounts or ``params``) takes a short way that skips them.

    Args:
        mesh: A ``Mesh``, or what ``Mesh`` takes. What is made here is closed with the client.
        kwargs: As for ``httpx.Client``; ``transport`` becomes the way to hosts that the mesh does not know.
    """

    def __init__(self, mesh: MeshSource, **kwargs: Any) -> None:
        verify, http2 = kwargs.get("verify", True), kwargs.get("http2", False)
        passthrough = kwargs.pop("transport", None)
        self._face = MeshTransport(mesh, passthrough=passthrough, verify=verify, http2=http2)
        super().__init__(transport=self._face, **kwargs)
        self.mesh: Mesh = self._face.mesh
        self._shortcut = Shortcut(self, httpx, self._face, LazyHttpxResponse)


class AsyncMeshClient(AsyncShortCalls, httpx.AsyncClient):
    """An ``httpx.AsyncClient`` whose requests go through a mesh; see ``MeshClient``. Runs under asyncio and trio."""

    def __init__(self, mesh: MeshSource, **kwargs: Any) -> None:
        verify, http2 = kwargs.get("verify", True), kwargs.get("http2", False)
        passthrough = kwargs.pop("transport", None)
        self._face = AsyncMeshTransport(mesh, passthrough=passthrough, verify=verify, http2=http2)
        super().__init__(transport=self._face, **kwargs)
        self.mesh: Mesh = self._face.mesh
        self._shortcut = Shortcut(self, httpx, self._face, LazyHttpxResponse)
