"""The mesh for a ``grpc.Channel`` that the application made itself: all that needs no choice of an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc

from meshlib.dataplane.call import Call
from meshlib.errors import MeshError, NotYet
from meshlib.grpc.calls import FutureCall, StreamCall
from meshlib.grpc.failures import translated
from meshlib.grpc.message_replay import MessageReplay
from meshlib.grpc.methods import counted
from meshlib.grpc.own_channel import OwnWays, size_of
from meshlib.grpc.own_course import OwnCourse
from meshlib.mesh import MeshSource

__all__ = ["MeshInterceptor"]

Proceed = Callable[[Any, Any], Any]


class MeshInterceptor(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    """For ``grpc.intercept_channel``: RPCs of all four shapes.

    Rules by method, metadata and host; timeouts and inherited deadlines; retries before anything of an answer is seen,
    within budgets; faults; header operations; rate limits; breakers and thresholds of the cluster; spans and metrics.
    Where an RPC goes is the channel's own affair: of several destinations one is drawn, whose header operations and
    policies count, but subsets, balancers, ejection, health checks, hedging, mirrors and TLS do nothing, and the
    authority stays the channel's.

    Args:
        target: ``host:port`` of the service that the channel is for, as the configuration names it.
        mesh: A ``Mesh``, or what ``Mesh`` takes.

    Raises:
        ValueError: The target is none.
    """

    def __init__(self, target: str, mesh: MeshSource) -> None:
        self._ways = OwnWays(target, mesh, aio=False)

    def intercept_unary_unary(self, continuation: Proceed, client_call_details: Any, request: Any) -> Any:
        """See ``grpc.UnaryUnaryClientInterceptor``."""
        return self._intercepted("unary_unary", continuation, client_call_details, request)

    def intercept_unary_stream(self, continuation: Proceed, client_call_details: Any, request: Any) -> Any:
        """See ``grpc.UnaryStreamClientInterceptor``."""
        return self._intercepted("unary_stream", continuation, client_call_details, request)

    def intercept_stream_unary(
        self, continuation: Proceed, client_call_details: Any, request_iterator: Iterator[Any]
    ) -> Any:
        """See ``grpc.StreamUnaryClientInterceptor``."""
        return self._intercepted("stream_unary", continuation, client_call_details, request_iterator)

    def intercept_stream_stream(
        self, continuation: Proceed, client_call_details: Any, request_iterator: Iterator[Any]
    ) -> Any:
        """See ``grpc.StreamStreamClientInterceptor``."""
        return self._intercepted("stream_stream", continuation, client_call_details, request_iterator)

    def close(self) -> None:
        """Close the mesh, where it was made here."""
        if self._ways.owns_mesh:
            self._ways.mesh.close()

    def _intercepted(self, kind: str, proceed: Proceed, details: Any, request: Any) -> Any:
        ways = self._ways
        call = self._begun(details)
        if call is None:
            return proceed(details, request)
        source = _replay(call, request, ways) if kind.startswith("stream") else request
        course = OwnCourse(ways, kind, partial(_given, call), source, details, proceed)
        try:
            course.start()
        except BaseException:
            course.abandon()
            raise
        return StreamCall(course, None) if kind.endswith("stream") else FutureCall(course, None)

    def _begun(self, details: Any) -> Call | None:
        mesh, begin = self._ways.mesh, partial(self._ways.begin, details.method, details.metadata, details.timeout)
        try:
            mesh.wait_ready(details.timeout)
            try:
                return begin()
            except NotYet as asked:
                mesh.wait_known(asked, details.timeout)
                return begin()
        except MeshError as error:
            raise translated(error, None) from None


def _given(call: Call) -> Call:
    return call


def _replay(call: Call, requests: Iterator[Any], ways: OwnWays) -> MessageReplay:
    count = partial(counted, call)
    return MessageReplay(iter(requests), _given_as_it_is, count, call.request, ways.mesh.replays, size_of)


def _given_as_it_is(message: Any) -> Any:
    return message
