"""``aio.mesh_channel``: a ``grpc.aio.Channel`` whose RPCs go through the mesh."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import grpc
import grpc.aio

from meshlib.dataplane.state import EndpointState
from meshlib.errors import NotYet
from meshlib.grpc import bare
from meshlib.grpc.aio.course import LoopCourse
from meshlib.grpc.aio.methods import Deserializer, Serializer, StreamStream, StreamUnary, UnaryStream, UnaryUnary
from meshlib.grpc.connectivity import States, best
from meshlib.grpc.load_watch import LoadWatch
from meshlib.grpc.subchannels import Key, Option, Subchannel, Subchannels, dialled
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
    """A channel to a service of the mesh, for generated stubs and everything else that takes a ``grpc.aio.Channel``.

    It may be made anywhere, and used in any number of event loops: real channels belong to the loop they were made in.

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


class _Loop:
    """The real channels of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self.subchannels = Subchannels(self._make, self._close)
        self.closing: set[asyncio.Task[None]] = set()
        self.listening: set[asyncio.Task[None]] = set()

    @staticmethod
    def _make(key: Key, credentials: Any) -> Any:
        return bare.aio_channel(dialled(key), credentials, key.options)

    def _close(self, channel: Any) -> None:
        """From any thread; nothing can be closed any more in a loop that is."""
        loop = self._loop()
        if loop is None or loop.is_closed():
            return
        if loop is _running():
            self._end(channel)
        else:
            loop.call_soon_threadsafe(self._end, channel)

    def _end(self, channel: Any) -> None:
        task = asyncio.get_running_loop().create_task(channel.close())
        self.closing.add(task)
        task.add_done_callback(self.closing.discard)

    def retire(self, addresses: Collection[tuple[str, int]]) -> None:
        """See ``Subchannels.retire``; from any thread."""
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self.subchannels.retire, addresses)


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = weakref.WeakKeyDictionary()
"""The real channels of each event loop."""


def of_running_loop() -> _Loop:
    """Those of the running event loop."""
    loop = asyncio.get_running_loop()
    found = loops.get(loop)
    if found is None:
        found = loops[loop] = _Loop(loop)
    return found


class LoopWays(Ways):
    """The ways of one channel, in one event loop after the other or in several."""

    def pool(self) -> Subchannels:
        """See ``Ways``."""
        return of_running_loop().subchannels

    def listen(self, watch: LoadWatch) -> None:
        """See ``Ways``."""
        listening = of_running_loop().listening
        task = asyncio.get_running_loop().create_task(watch.arun())
        listening.add(task)
        task.add_done_callback(listening.discard)

    def place(self, state: EndpointState) -> Any:
        """See ``Ways``; real channels belong to an event loop."""
        return state, asyncio.get_running_loop()

    def held(self) -> list[Subchannel]:
        """See ``Ways``; those of the running event loop."""
        pool = of_running_loop().subchannels
        return [each for each in super().held() if self._held.each.get(each) is pool]

    def tidy(self) -> None:
        """See ``Ways``; so are those of event loops that have ended."""
        super().tidy()
        over = [place for place in list(self._ways) if place[1].is_closed()]
        for place in over:
            self._held.each.pop(self._ways.pop(place).subchannel, None)

    def retire(self, addresses: Collection[tuple[str, int]]) -> None:
        """See ``Ways``."""
        for each in list(loops.values()):
            each.retire(addresses)


class MeshChannel(grpc.aio.Channel):  # type: ignore[misc]
    """See ``mesh_channel``."""

    def __init__(
        self, target: str, mesh: MeshSource, credentials: Any, options: Sequence[Option] | None, compression: Any
    ) -> None:
        self.ways: Ways = LoopWays(target, mesh, credentials, options, aio=True)
        self.compression = compression
        self.closed = False
        self.running: set[LoopCourse] = set()
        self._waiting: set[asyncio.Event] = set()
        self.ways.opened = partial(_wake, self._waiting)

    @property
    def mesh(self) -> Any:
        """The mesh that it goes through."""
        return self.ways.mesh

    def unary_unary(  # pyright: ignore[reportIncompatibleMethodOverride] - grpcio's own parameters vary
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnary:
        """See ``grpc.aio.Channel``."""
        return UnaryUnary(self, "unary_unary", method, request_serializer, response_deserializer, _registered_method)

    def unary_stream(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> UnaryStream:
        """See ``grpc.aio.Channel``."""
        return UnaryStream(self, "unary_stream", method, request_serializer, response_deserializer, _registered_method)

    def stream_unary(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> StreamUnary:
        """See ``grpc.aio.Channel``."""
        return StreamUnary(self, "stream_unary", method, request_serializer, response_deserializer, _registered_method)

    def stream_stream(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> StreamStream:
        """See ``grpc.aio.Channel``."""
        return StreamStream(
            self, "stream_stream", method, request_serializer, response_deserializer, _registered_method
        )

    # Connectivity -----------------------------------------------------------------------------------------------------

    def get_state(self, try_to_connect: bool = False) -> Any:
        """The best of the real channels: READY, CONNECTING, IDLE, TRANSIENT_FAILURE; IDLE without any."""
        return States.SHUTDOWN if self.closed else best(self._states(try_to_connect).values())

    def _states(self, try_to_connect: bool = False) -> dict[Subchannel, Any]:
        if _running() is None:
            return {}  # real channels belong to event loops
        try:
            held = self.ways.connect() if try_to_connect else self.ways.held()
        except NotYet:
            held = self.ways.held()
        return {each: each.channel.get_state(try_to_connect) for each in held}

    async def wait_for_state_change(self, last_observed_state: Any) -> None:
        """Return once the state is another."""
        while not self.closed and best((seen := self._states()).values()) is last_observed_state:
            await self._change_from(seen)

    async def channel_ready(self) -> None:
        """Connect, and return once a real channel is ready."""
        mesh = self.ways.mesh
        await mesh.await_ready()
        try:
            self.ways.connect()
        except NotYet as asked:
            await mesh.await_known(asked)
        while True:
            if self.closed:
                raise grpc.aio.UsageError("Channel is closed.")
            seen = self._states(try_to_connect=True)
            if best(seen.values()) is States.READY:
                return
            await self._change_from(seen)

    async def _change_from(self, seen: dict[Subchannel, Any]) -> None:
        """Wait until a real channel is in another state than the one seen, or another channel is opened.

        What was seen is compared, not what is found when the waiting begins: a change in between would be missed.
        """
        opened = asyncio.Event()
        self._waiting.add(opened)
        changes = [asyncio.ensure_future(each.channel.wait_for_state_change(state)) for each, state in seen.items()]
        changes.append(asyncio.ensure_future(_set(opened)))
        try:
            await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.discard(opened)
            for change in changes:
                change.cancel()

    # Ending -----------------------------------------------------------------------------------------------------------

    async def close(self, grace: float | None = None) -> None:
        """Let RPCs of this channel end within ``grace`` seconds, cancel what is left, let go of the real channels."""
        if self.closed:
            return
        self.closed = True
        _wake(self._waiting)
        running = [course for course in list(self.running) if not course.ended]
        if grace and running:
            await asyncio.wait([asyncio.ensure_future(course.wait()) for course in running], timeout=grace)
        for course in running:
            course.cancel()
        self.ways.release()
        closing = list(of_running_loop().closing)
        if closing:
            await asyncio.wait(closing)
        if self.ways.owns_mesh:
            await self.ways.mesh.aclose()

    async def __aenter__(self) -> MeshChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _set(event: asyncio.Event) -> None:
    await event.wait()


def _wake(waiting: set[asyncio.Event], _: Subchannel | None = None) -> None:
    for event in waiting:
        event.set()
