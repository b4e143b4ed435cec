"""meshlib for httpx: transports to hang into your own client.

``MeshTransport`` and ``AsyncMeshTransport`` take the place of ``httpx.HTTPTransport``: requests to hosts that the mesh
knows go through it, all others through ``passthrough``, as Istio's ALLOW_ANY does. Errors are both ours and httpx's.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx

from meshlib import errors
from meshlib.body import CountedAsyncBody, CountedBody
from meshlib.dataplane.outcome import Failure
from meshlib.exchange import AsyncCallExchange, CallExchange, Faces
from meshlib.face import BlockingFace, CooperativeFace
from meshlib.lazy import LazyResponse, ReadyResponse
from meshlib.transport.base import WireResponse

if TYPE_CHECKING:
    from meshlib.mesh import MeshSource
    from meshlib.transport.base import BlockingTransport, CooperativeTransport

__all__ = ["AsyncMeshTransport", "MeshTransport"]


class NotSent(errors.NotSent, httpx.ConnectError):
    """The request did not leave this process."""


class NoRoute(errors.NoRoute, httpx.ConnectError):
    """NR."""


class UnknownHost(errors.UnknownHost, NoRoute):
    """NR, by REGISTRY_ONLY."""


class NoCluster(errors.NoCluster, httpx.ConnectError):
    """NC."""


class NoHealthyUpstream(errors.NoHealthyUpstream, httpx.ConnectError):
    """UH."""


class Overflow(errors.Overflow, httpx.ConnectError):
    """UO."""


class RateLimited(errors.RateLimited, httpx.ConnectError):
    """RL."""


class PoolTimeout(errors.PoolTimeout, httpx.PoolTimeout):
    """UO: no connection became free in time."""


class ConnectFailure(errors.ConnectFailure, httpx.ConnectError):
    """UF."""


class DeadlineExceeded(errors.DeadlineExceeded, httpx.ReadTimeout):
    """UT."""


class LazyHttpxResponse(LazyResponse, httpx.Response):  # pyright: ignore[reportIncompatibleMethodOverride]
    """What a plain call returns."""

    _headers_type = httpx.Headers
    _stream_type = httpx.ByteStream


class _ReadyHttpxResponse(ReadyResponse, httpx.Response):  # pyright: ignore[reportIncompatibleMethodOverride]
    _headers_type = httpx.Headers
    _stream_type = httpx.ByteStream


class _Body(CountedBody, httpx.SyncByteStream):
    __iter__ = CountedBody.__iter__
    close = CountedBody.close


class _AsyncBody(CountedAsyncBody, httpx.AsyncByteStream):
    __aiter__ = CountedAsyncBody.__aiter__
    aclose = CountedAsyncBody.aclose


def _body(exchange: CallExchange, reply: WireResponse) -> httpx.SyncByteStream:
    return _Body(exchange, reply)


def _async_body(exchange: AsyncCallExchange, reply: WireResponse) -> httpx.AsyncByteStream:
    return _AsyncBody(exchange, reply)


_FACES = Faces(
    response=httpx.Response,
    ready=_ReadyHttpxResponse,
    body=_body,
    async_body=_async_body,
    fixed_body=httpx.ByteStream,
    ssl_context=httpx.create_ssl_context,
    direct=httpx.HTTPTransport,
    async_direct=httpx.AsyncHTTPTransport,
    errors={
        Failure.CONNECT_TIMEOUT: httpx.ConnectTimeout,
        Failure.POOL_TIMEOUT: httpx.PoolTimeout,
        Failure.READ_TIMEOUT: httpx.ReadTimeout,
        Failure.WRITE_TIMEOUT: httpx.WriteTimeout,
        Failure.WRITE: httpx.WriteError,
        Failure.RESET: httpx.ReadError,
        Failure.CLOSED: httpx.RemoteProtocolError,
        Failure.REFUSED_STREAM: httpx.RemoteProtocolError,
        Failure.PROTOCOL: httpx.RemoteProtocolError,
        Failure.LOCAL: httpx.LocalProtocolError,
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


class MeshTransport(BlockingFace, httpx.BaseTransport):
    """Routes, balances and guards the requests of an ``httpx.Client``.

    Args:
        mesh: A ``Mesh``, or what ``Mesh`` takes: a path, a provider, resource objects.
        passthrough: For hosts that the mesh does not know; a plain ``httpx.HTTPTransport`` by default.
        transport: Moves the bytes of mesh calls; the mesh's own by default.
        verify: For ``https`` URLs, as httpx takes it.
        http2: Use HTTP/2 towards ports whose protocol the configuration leaves to the caller.
    """

    def __init__(
        self,
        mesh: MeshSource,
        *,
        passthrough: httpx.BaseTransport | None = None,
        transport: BlockingTransport | None = None,
        verify: ssl.SSLContext | str | bool = True,
        http2: bool = False,
    ) -> None:
        super().__init__(_FACES, mesh, passthrough, transport, verify, http2)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; see ``meshlib.errors`` for what may be raised beside httpx's own."""
        response: httpx.Response = self.handle(request)
        return response

    def close(self) -> None:
        """Close connections; a mesh that was made here is closed too."""
        self.end()


class AsyncMeshTransport(CooperativeFace, httpx.AsyncBaseTransport):
    """Routes, balances and guards the requests of an ``httpx.AsyncClient``, under asyncio or trio.

    Args:
        mesh: A ``Mesh``, or what ``Mesh`` takes: a path, a provider, resource objects.
        passthrough: For hosts that the mesh does not know; a plain ``httpx.AsyncHTTPTransport`` by default.
        transport: Moves the bytes of mesh calls; the mesh's own by default.
        verify: For ``https`` URLs, as httpx takes it.
        http2: Use HTTP/2 towards ports whose protocol the configuration leaves to the caller.
    """

    def __init__(
        self,
        mesh: MeshSource,
        *,
        passthrough: httpx.AsyncBaseTransport | None = None,
        transport: CooperativeTransport | None = None,
        verify: ssl.SSLContext | str | bool = True,
        http2: bool = False,
    ) -> None:
        super().__init__(_FACES, mesh, passthrough, transport, verify, http2)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; see ``meshlib.errors`` for what may be raised beside httpx's own."""
        response: httpx.Response = await self.handle(request)
        return response

    async def aclose(self) -> None:
        """Close connections; a mesh that was made here is closed too."""
        await self.end()
