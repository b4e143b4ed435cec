"""meshlib for httpx2: transports to hang into your own client, and clients that have one already.

``MeshTransport`` and ``AsyncMeshTransport`` take the place of ``httpx2.HTTPTransport``: requests to hosts that the mesh
knows go through it, all others through ``passthrough``, as Istio's ALLOW_ANY does. Errors are both ours and httpx2's.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import httpx2

from meshlib import errors
from meshlib.body import CountedAsyncBody, CountedBody
from meshlib.dataplane.outcome import Failure
from meshlib.exchange import AsyncCallExchange, CallExchange, Faces
from meshlib.face import BlockingFace, CooperativeFace
from meshlib.lazy import LazyResponse, ReadyResponse
from meshlib.short import AsyncShortCalls, ShortCalls, Shortcut
from meshlib.transport.base import WireResponse

if TYPE_CHECKING:
    from meshlib.mesh import Mesh, MeshSource
    from meshlib.transport.base import BlockingTransport, CooperativeTransport

__all__ = ["AsyncMeshClient", "AsyncMeshTransport", "MeshClient", "MeshTransport"]


class NotSent(errors.NotSent, httpx2.ConnectError):
    """The request did not leave this process."""


class NoRoute(errors.NoRoute, httpx2.ConnectError):
    """NR."""


class UnknownHost(errors.UnknownHost, NoRoute):
    """NR, by REGISTRY_ONLY."""


class NoCluster(errors.NoCluster, httpx2.ConnectError):
    """NC."""


class NoHealthyUpstream(errors.NoHealthyUpstream, httpx2.ConnectError):
    """UH."""


class Overflow(errors.Overflow, httpx2.ConnectError):
    """UO."""


class RateLimited(errors.RateLimited, httpx2.ConnectError):
    """RL."""


class PoolTimeout(errors.PoolTimeout, httpx2.PoolTimeout):
    """UO: no connection became free in time."""


class ConnectFailure(errors.ConnectFailure, httpx2.ConnectError):
    """UF."""


class DeadlineExceeded(errors.DeadlineExceeded, httpx2.ReadTimeout):
    """UT."""


class LazyHttpx2Response(LazyResponse, httpx2.Response):  # pyright: ignore[reportIncompatibleMethodOverride]
    """What a plain call returns."""

    _headers_type = httpx2.Headers
    _stream_type = httpx2.ByteStream


class _ReadyHttpx2Response(ReadyResponse, httpx2.Response):  # pyright: ignore[reportIncompatibleMethodOverride]
    _headers_type = httpx2.Headers
    _stream_type = httpx2.ByteStream


class _Body(CountedBody, httpx2.SyncByteStream):
    __iter__ = CountedBody.__iter__
    close = CountedBody.close


class _AsyncBody(CountedAsyncBody, httpx2.AsyncByteStream):
    __aiter__ = CountedAsyncBody.__aiter__
    aclose = CountedAsyncBody.aclose


def _body(exchange: CallExchange, reply: WireResponse) -> httpx2.SyncByteStream:
    return _Body(exchange, reply)


def _async_body(exchange: AsyncCallExchange, reply: WireResponse) -> httpx2.AsyncByteStream:
    return _AsyncBody(exchange, reply)


_FACES = Faces(
    response=httpx2.Response,
    ready=_ReadyHttpx2Response,
    body=_body,
    async_body=_async_body,
    fixed_body=httpx2.ByteStream,
    ssl_context=httpx2.create_ssl_context,
    direct=httpx2.HTTPTransport,
    async_direct=httpx2.AsyncHTTPTransport,
    errors={
        Failure.CONNECT_TIMEOUT: httpx2.ConnectTimeout,
        Failure.POOL_TIMEOUT: httpx2.PoolTimeout,
        Failure.READ_TIMEOUT: httpx2.ReadTimeout,
        Failure.WRITE_TIMEOUT: httpx2.WriteTimeout,
        Failure.WRITE: httpx2.WriteError,
        Failure.RESET: httpx2.ReadError,
        Failure.CLOSED: httpx2.RemoteProtocolError,
        Failure.REFUSED_STREAM: httpx2.RemoteProtocolError,
        Failure.PROTOCOL: httpx2.RemoteProtocolError,
        Failure.LOCAL: httpx2.LocalProtocolError,
    },
    both={
        errors.UnknownHost: UnknownHost,
        errors.NoRoute: NoRoute,
        errors.NoCluster: NoCluster,
        errors.NoHealthyUpstream: NoHealthyUpstream,
        errors.Overflow: Overflow,
        errors.RateLimited: RateLimited,
        errors.PoolTimeout: PoolTimeout,
        errors.ConnectFailure: ConnectFailure,
        errors.DeadlineExceeded: DeadlineExceeded,
        errors.NotSent: NotSent,
    },
)


class MeshTransport(BlockingFace, httpx2.BaseTransport):
    """Routes, balances and guards the requests of an ``httpx2.Client``.

    Args:
        mesh: A ``Mesh``, or what ``Mesh`` takes: a path, a provider, resource objects.
        passthrough: For hosts that the mesh does not know; a plain ``httpx2.HTTPTransport`` by default.
        transport: Moves the bytes of mesh calls; the mesh's own by default.
        verify: For ``https`` URLs, as httpx2 takes it.
        http2: Use HTTP/2 towards ports whose protocol the configuration leaves to the caller.
    """

    def __init__(
        self,
        mesh: MeshSource,
        *,
        passthrough: httpx2.BaseTransport | None = None,
        transport: BlockingTransport | None = None,
        verify: ssl.SSLContext | str | bool = True,
        http2: bool = False,
    ) -> None:
        super().__init__(_FACES, mesh, passthrough, transport, verify, http2)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; see ``meshlib.errors`` for what may be raised beside httpx2's own."""
        response: httpx2.Response = self.handle(request)
        return response

    def close(self) -> None:
        """Close connections; a mesh that was made here is closed too."""
        self.end()


class AsyncMeshTransport(CooperativeFace, httpx2.AsyncBaseTransport):
    """Routes, balances and guards the requests of an ``httpx2.AsyncClient``, under asyncio or trio.

    Args:
        mesh: A ``Mesh``, or what ``Mesh`` takes: a path, a provider, resource objects.
        passthrough: For hosts that the mesh does not know; a plain ``httpx2.AsyncHTTPTransport`` by default.
        transport: Moves the bytes of mesh calls; the mesh's own by default.
        verify: For ``https`` URLs, as httpx2 takes it.
        http2: Use HTTP/2 towards ports whose protocol the configuration leaves to the caller.
    """

    def __init__(
        self,
        mesh: MeshSource,
        *,
        passthrough: httpx2.AsyncBaseTransport | None = None,
        transport: CooperativeTransport | None = None,
        verify: ssl.SSLContext | str | bool = True,
        http2: bool = False,
    ) -> None:
        super().__init__(_FACES, mesh, passthrough, transport, verify, http2)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; see ``meshlib.errors`` for what may be raised beside httpx2's own."""
        response: httpx2.Response = await self.handle(request)
        return response

    async def aclose(self) -> None:
        """Close connections; a mesh that was made here is closed too."""
        await self.end()


class MeshClient(ShortCalls, httpx2.Client):
    """An ``httpx2.Client`` whose requests go through a mesh; everything ``httpx2.Client`` takes works here.

    A plain call (no authentication, cookies, hooks, mounts or ``params``) takes a short way that skips them.

    Args:
        mesh: A ``Mesh``, or what ``Mesh`` takes. What is made here is closed with the client.
        kwargs: As for ``httpx2.Client``; ``transport`` becomes the way to hosts that the mesh does not know.
    """

    def __init__(self, mesh: MeshSource, **kwargs: Any) -> None:
        verify, http2 = kwargs.get("verify", True), kwargs.get("http2", False)
        passthrough = kwargs.pop("transport", None)
        self._face = MeshTransport(mesh, passthrough=passthrough, verify=verify, http2=http2)
        super().__init__(transport=self._face, **kwargs)
        self.mesh: Mesh = self._face.mesh
        self._shortcut = Shortcut(self, httpx2, self._face, LazyHttpx2Response)


class AsyncMeshClient(AsyncShortCalls, httpx2.AsyncClient):
    """An ``httpx2.AsyncClient`` whose requests go through a mesh; see ``MeshClient``. Runs under asyncio and trio."""

    def __init__(self, mesh: MeshSource, **kwargs: Any) -> None:
        verify, http2 = kwargs.get("verify", True), kwargs.get("http2", False)
        passthrough = kwargs.pop("transport", None)
        self._face = AsyncMeshTransport(mesh, passthrough=passthrough, verify=verify, http2=http2)
        super().__init__(transport=self._face, **kwargs)
        self.mesh: Mesh = self._face.mesh
        self._shortcut = Shortcut(self, httpx2, self._face, LazyHttpx2Response)
