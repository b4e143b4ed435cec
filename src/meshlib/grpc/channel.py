"""``mesh_channel``: a ``grpc.Channel`` whose RPCs go through the mesh."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from typing import Any

import grpc

from meshlib.dataplane.drivers.workers import Workers
from meshlib.grpc import bare
from meshlib.grpc.blocking_course import BlockingCourse
from meshlib.grpc.connectivity import Connectivity
from meshlib.grpc.failures import shut
from meshlib.grpc.load_watch import LoadWatch
from meshlib.grpc.methods import Deserializer, Serializer, StreamStream, StreamUnary, UnaryStream, UnaryUnary
from meshlib.grpc.subchannels import Key, Option, Subchannels, dialled
from meshlib.grpc.ways import Ways
from meshlib.mesh import MeshSource

__all__ = ["MeshChannel", "mesh_channel"]


def mesh_channel(
    target: str,
    mesh: MeshSource,
    *,
    credentials: Any = None,
    options: Sequence[Option] | None = None,
    compression: Any = None,
) -> MeshChannel:
    """A channel to a service of the mesh, for generated stubs and everything else that takes a ``grpc.Channel``.

    Args:
        target: ``host:port`` as the configuration names the service; also behind ``dns:///`` or ``xds:///``.
        mesh: A ``Mesh``, or what ``Mesh`` takes.
        credentials: ``grpc.ChannelCredentials`` of the caller's own, for endpoints that the configuration reaches in
            plaintext.
        options: Channel arguments for the real channels.
        compression: Of RPCs that say nothing else.

    Raises:
        ValueError: The target is none.
        ConfigError: The mesh cannot be made.
    """
    return MeshChannel(target, mesh, credentials, options, compression)


def _make(key: Key, credentials: Any) -> Any:
    return bare.channel(dialled(key), credentials, key.options)


_closers, _listeners = Workers("meshlib-grpc-close"), Workers("meshlib-grpc-load")


def _close(channel: Any) -> None:
    """In a thread of its own: closing waits for grpcio's thread, which may be the one that tells of the last RPC."""
    _closers.run(channel.close)


subchannels = Subchannels(_make, _close)
"""Those of the process, for ``grpc`` channels."""

os.register_at_fork(after_in_child=subchannels.after_fork)


class BlockingWays(Ways):
    """The ways of one channel."""

    def pool(self) -> Subchannels:
        """See ``Ways``."""
        return subchannels

    def retire(self, addresses: Collection[tuple[str, int]]) -> None:
        """See ``Ways``."""
        subchannels.retire(addresses)

    def listen(self, watch: LoadWatch) -> None:
        """See ``Ways``."""
        _listeners.run(watch.run)


class MeshChannel(grpc.Channel):  # type: ignore[misc]
    """See ``mesh_channel``."""

    def __init__(
        self, target: str, mesh: MeshSource, credentials: Any, options: Sequence[Option] | None, compression: Any
    ) -> None:
        self.ways: Ways = BlockingWays(target, mesh, credentials, options, aio=False)
        self.compression = compression
        self.closed = False
        self.running: set[BlockingCourse] = set()
        self._connectivity = Connectivity(self.ways)

    @property
    def mesh(self) -> Any:
        """The mesh that it goes through."""
        return self.ways.mesh

    def subscribe(self, callback: Callable[[Any], None], try_to_connect: bool | None = False) -> None:
        """Tell ``callback`` the connectivity, now and at each change; see ``Connectivity``."""
        self._connectivity.subscribe(callback, bool(try_to_connect))

    def unsubscribe(self, callback: Callable[[Any], None]) -> None:
        """Tell ``callback`` no more."""
        self._connectivity.unsubscribe(callback)

    def unary_unary(  # pyright: ignore[reportIncompatibleMethodOverride] - grpcio's own parameters vary
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnary:
        """See ``grpc.Channel``."""
        return UnaryUnary(self, "unary_unary", method, request_serializer, response_deserializer, _registered_method)

    def unary_stream(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> UnaryStream:
        """See ``grpc.Channel``."""
        return UnaryStream(self, "unary_stream", method, request_serializer, response_deserializer, _registered_method)

    def stream_unary(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> StreamUnary:
        """See ``grpc.Channel``."""
        return StreamUnary(self, "stream_unary", method, request_serializer, response_deserializer, _registered_method)

    def stream_stream(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> StreamStream:
        """See ``grpc.Channel``."""
        return StreamStream(
            self, "stream_stream", method, request_serializer, response_deserializer, _registered_method
        )

    def close(self) -> None:
        """Cancel what is under way, and let go of the real channels.

        A blocking call with one message each way, in another thread, is cut off with the real channel; where another
        mesh channel shares that, it runs to its end.
        """
        if self.closed:
            return
        self.closed = True
        self._connectivity.close()
        for course in list(self.running):
            course.cancel(shut(course.call))
        self.ways.release(at_once=True)
        if self.ways.owns_mesh:
            self.ways.mesh.close()

    def __enter__(self) -> MeshChannel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
