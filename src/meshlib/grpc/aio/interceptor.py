"""The mesh for a ``grpc.aio.Channel`` that the application made itself: see ``meshlib.grpc.MeshInterceptor``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Self

import grpc.aio

from meshlib.dataplane.call import Call
from meshlib.errors import MeshError, NotYet
from meshlib.grpc.aio.calls import StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall
from meshlib.grpc.aio.messages import IteratedMessages
from meshlib.grpc.aio.own_course import OwnLoopCourse
from meshlib.grpc.failures import translated
from meshlib.grpc.methods import counted
from meshlib.grpc.own_channel import OwnWays, size_of
from meshlib.mesh import MeshSource

__all__ = ["MeshInterceptor"]

Proceed = Callable[[Any, Any], Awaitable[Any]]
_CALLS: dict[str, Any] = {
    "unary_unary": UnaryUnaryCall,
    "unary_stream": UnaryStreamCall,
    "stream_unary": StreamUnaryCall,
    "stream_stream": StreamStreamCall,
}


class MeshInterceptor(tuple[Any, ...]):
    """For ``interceptors=`` of ``grpc.aio.insecure_channel`` and ``secure_channel``.

    It is a tuple of four, one for each shape, since ``grpc.aio`` takes an interceptor for one shape only:
    ``interceptors=MeshInterceptor("reviews:9080", mesh)``, or ``[*MeshInterceptor(...), other]``.

    Args:
        target: ``host:port`` of the service that the channel is for, as the configuration names it.
        mesh: A ``Mesh``, or what ``Mesh`` takes.

    Raises:
        ValueError: The target is none.
    """

    __slots__ = ()

    def __new__(cls, target: str, mesh: MeshSource) -> Self:
        """The four of them, over one mesh."""
        ways = OwnWays(target, mesh, aio=True)
        return super().__new__(cls, (kind(ways) for kind in (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)))

    async def aclose(self) -> None:
        """Close the mesh, where it was made here."""
        ways: OwnWays = self[0].ways
        if ways.owns_mesh:
            await ways.mesh.aclose()


class _Interceptor:
    def __init__(self, ways: OwnWays) -> None:
        self.ways = ways
        self._loop: Any = None

    async def intercepted(self, kind: str, proceed: Proceed, details: Any, request: Any) -> Any:
        """The call as the application sees it; it is on its way."""
        ways = self.ways
        call = await self._begun(details)
        if call is None:
            return await proceed(details, request)
        source = self._replay(call, request) if kind.startswith("stream") else request
        course = OwnLoopCourse(ways, kind, partial(_as_it_is, call), source, details, proceed)
        if self._loop is not course.loop:
            self._loop = course.loop
            ways.mesh.watch_loop()
        course.start()
        made = _CALLS[kind](course, None)
        if source is not request:
            made._done_writing_flag = False  # which grpcio asks of a call before it hands a written message on
        return made

    async def _begun(self, details: Any) -> Call | None:
        mesh = self.ways.mesh
        method = details.method.decode() if isinstance(details.method, bytes) else details.method
        begin = partial(self.ways.begin, method, details.metadata, details.timeout)
        try:
            await mesh.await_ready(details.timeout)
            try:
                return begin()
            except NotYet as asked:
                await mesh.await_known(asked, details.timeout)
                return begin()
        except MeshError as error:
            raise translated(error, None, aio=True) from None

    def _replay(self, call: Call, requests: Any) -> IteratedMessages:
        memory = self.ways.mesh.replays
        return IteratedMessages(requests, _as_it_is, partial(counted, call), call.request, memory, size_of)


class _UnaryUnary(_Interceptor, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, continuation: Proceed, client_call_details: Any, request: Any) -> Any:
        """See ``grpc.aio.UnaryUnaryClientInterceptor``."""
        return await self.intercepted("unary_unary", continuation, client_call_details, request)


class _UnaryStream(_Interceptor, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_stream(self, continuation: Proceed, client_call_details: Any, request: Any) -> Any:
        """See ``grpc.aio.UnaryStreamClientInterceptor``."""
        return await self.intercepted("unary_stream", continuation, client_call_details, request)


class _StreamUnary(_Interceptor, grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_unary(
        self, continuation: Proceed, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """See ``grpc.aio.StreamUnaryClientInterceptor``."""
        return await self.intercepted("stream_unary", continuation, client_call_details, request_iterator)


class _StreamStream(_Interceptor, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_stream(
        self, continuation: Proceed, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """See ``grpc.aio.StreamStreamClientInterceptor``."""
        return await self.intercepted("stream_stream", continuation, client_call_details, request_iterator)


def _as_it_is(given: Any) -> Any:
    return given
