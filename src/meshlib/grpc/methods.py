"""What generated stubs call: one method of a mesh channel, in each of the four shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import grpc

from meshlib.dataplane.call import Call
from meshlib.dataplane.drivers import blocking
from meshlib.dataplane.reply import LocalReply
from meshlib.errors import ConnectFailure, MeshError, NoHealthyUpstream
from meshlib.grpc.blocking_course import BlockingCourse
from meshlib.grpc.calls import FinishedCall, FutureCall, StreamCall, read
from meshlib.grpc.failures import answered, translated, unwritable
from meshlib.grpc.message_replay import MessageReplay
from meshlib.grpc.mirroring import mirror_unary
from meshlib.grpc.rpc import Metadata, metadata_of
from meshlib.grpc.unary import Sent, UnaryExchange
from meshlib.grpc.unheard import UnheardCall
from meshlib.grpc.ways import Ways

__all__ = ["Deserializer", "Serializer", "StreamStream", "StreamUnary", "UnaryStream", "UnaryUnary", "counted", "given"]

Serializer = Callable[[Any], bytes] | None
Deserializer = Callable[[bytes], Any] | None


class Channel(Protocol):
    """What a method needs of its channel."""

    ways: Ways
    compression: Any
    closed: bool
    running: set[BlockingCourse]


class _Method:
    """One method, of one kind."""

    def __init__(
        self,
        channel: Channel,
        kind: str,
        method: str,
        serialize: Serializer,
        deserialize: Deserializer,
        registered: bool | None,
    ) -> None:
        self._channel = channel
        self._ways = channel.ways
        self._method = method
        self._serialize = serialize
        self._deserialize = deserialize
        self._sent = Sent(kind, bool(registered), None, channel.compression, False)

    def _as_asked(self, credentials: Any, wait_for_ready: bool | None, compression: Any) -> Sent:
        """What every attempt sends alike, with what this RPC says of its own."""
        sent = self._sent
        if credentials is None and not wait_for_ready and compression is None:
            return sent
        chosen = sent.compression if compression is None else compression
        return sent._replace(credentials=credentials, compression=chosen, wait_for_ready=bool(wait_for_ready))

    def _content(self, request: Any) -> bytes:
        if self._serialize is None:
            return given(request)
        try:
            return self._serialize(request)
        except Exception as error:
            raise unwritable() from error

    def _open(self) -> None:
        if self._channel.closed:
            raise ValueError("Cannot invoke RPC on closed channel!")

    def _course(self, sent: Sent, content: bytes, timeout: float | None, metadata: Metadata | None) -> BlockingCourse:
        """Begin an RPC with one message out; the call is on its way."""
        begin = partial(self._ways.begin, self._method, metadata, timeout, repeatable=sent.kind.endswith("unary"))
        course = BlockingCourse(self._ways, sent, begin, content)
        if course.call.mirrors:
            mirror_unary(self._ways, course.call, content, sent)
        course.start(self._channel.running)
        return course

    def _streamed(
        self, sent: Sent, requests: Iterator[Any], timeout: float | None, metadata: Metadata | None
    ) -> BlockingCourse:
        """The same with a stream out."""
        calls: list[Call] = []
        mesh = self._ways.mesh

        def begin() -> Call:
            calls[:] = [self._ways.begin(self._method, metadata, timeout, repeatable=False)]
            return calls[0]

        first = begin()
        replay = MessageReplay(
            iter(requests), self._content, lambda size: counted(calls[0], size), first.request, mesh.replays
        )
        pending = [first]
        course = BlockingCourse(self._ways, sent, lambda: pending.pop() if pending else begin(), replay)
        course.start(self._channel.running)
        return course


def given(request: Any) -> bytes:
    """A message of a method without a serializer.

    Raises:
        TypeError: It is no bytes.
    """
    if not isinstance(request, bytes):
        raise TypeError(f"a message without a serializer has to be bytes, not {type(request).__name__}")
    return request


def counted(call: Call, size: int) -> None:
    """One more message of that size was sent."""
    call.request_bytes += size
    call.request_messages += 1


class UnaryUnary(_Method, grpc.UnaryUnaryMultiCallable):  # type: ignore[misc]
    """See ``grpc.UnaryUnaryMultiCallable``."""

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        """Send and wait for the response."""
        sent = self._as_asked(credentials, wait_for_ready, compression)
        exchange, reply = self._drive(request, timeout, metadata, sent, wants_call=False)
        return reply[0] if self._deserialize is None else read(self._deserialize, reply[0], exchange.call)

    def with_call(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> tuple[Any, FinishedCall]:
        """Send and wait; the response, and the call with metadata and peer."""
        sent = self._as_asked(credentials, wait_for_ready, compression)
        exchange, reply = self._drive(request, timeout, metadata, sent)
        return read(self._deserialize, reply[0], exchange.call), FinishedCall(reply[1], exchange.call)

    def future(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> FutureCall:
        """Send; the response is awaited when it is asked for."""
        content = self._content(request)
        self._open()
        sent = self._as_asked(credentials, wait_for_ready, compression)
        return FutureCall(self._course(sent, content, timeout, metadata), self._deserialize)

    def _drive(
        self, request: Any, timeout: float | None, metadata: Metadata | None, sent: Sent, *, wants_call: bool = True
    ) -> tuple[UnaryExchange, Any]:
        content = self._content(request)
        self._open()
        clock = self._ways.mesh.clock
        ends = None if timeout is None or not sent.wait_for_ready else clock.now() + timeout
        while True:
            try:
                return self._once(content, timeout, metadata, sent, wants_call)
            except (NoHealthyUpstream, ConnectFailure):
                left = None if ends is None else ends - clock.now()
                if not sent.wait_for_ready or (left is not None and left <= 0):
                    raise
                clock.sleep(0.1 if left is None else min(left, 0.1))
                self._open()
                timeout = None if ends is None else ends - clock.now()

    def _once(
        self, content: bytes, timeout: float | None, metadata: Metadata | None, sent: Sent, wants_call: bool
    ) -> tuple[UnaryExchange, Any]:
        ways = self._ways
        call = ways.begin(self._method, metadata, timeout)
        if isinstance(call, UnheardCall):
            call = self._heard(call, metadata)
        exchange = UnaryExchange(ways, call, content, sent)
        exchange.wants_call = wants_call
        if call.mirrors:
            mirror_unary(ways, call, content, sent)
        try:
            reply = blocking.drive(call, exchange, ways.mesh.clock)
        except MeshError as error:
            raise translated(error, call) from error.__cause__
        except grpc.RpcError as error:
            if error.__cause__ is error:
                error.__cause__ = None
            raise
        if isinstance(reply, LocalReply):
            call.answer = reply
            raise answered(call, metadata_of(call.response_headers(reply.headers)))
        return exchange, reply

    def _heard(self, call: Call, metadata: Metadata | None) -> Call:
        """The call, once it is known where it goes."""
        mesh = self._ways.mesh
        while isinstance(call, UnheardCall):
            begun, patience = call.started, call.patience
            try:
                call.wait(mesh)
            except MeshError as error:
                raise translated(call.unanswered(error, mesh.clock.now()), None) from None
            left = None if patience is None else patience - (mesh.clock.now() - begun)
            call = self._ways.begin(self._method, metadata, left)
        return call


class UnaryStream(_Method, grpc.UnaryStreamMultiCallable):  # type: ignore[misc]
    """See ``grpc.UnaryStreamMultiCallable``."""

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> StreamCall:
        """Send; the responses are read from what is returned."""
        content = self._content(request)
        self._open()
        sent = self._as_asked(credentials, wait_for_ready, compression)
        return StreamCall(self._course(sent, content, timeout, metadata), self._deserialize)


class StreamUnary(_Method, grpc.StreamUnaryMultiCallable):  # type: ignore[misc]
    """See ``grpc.StreamUnaryMultiCallable``."""

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        request_iterator: Iterator[Any],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        """Send all and wait for the response."""
        return self.future(request_iterator, timeout, metadata, credentials, wait_for_ready, compression).result()

    def with_call(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        request_iterator: Iterator[Any],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> tuple[Any, FutureCall]:
        """Send all and wait; the response, and the call with metadata and peer."""
        call = self.future(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)
        return call.result(), call

    def future(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        request_iterator: Iterator[Any],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> FutureCall:
        """Send; the response is awaited when it is asked for."""
        self._open()
        sent = self._as_asked(credentials, wait_for_ready, compression)
        return FutureCall(self._streamed(sent, request_iterator, timeout, metadata), self._deserialize)


class StreamStream(_Method, grpc.StreamStreamMultiCallable):  # type: ignore[misc]
    """See ``grpc.StreamStreamMultiCallable``."""

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        request_iterator: Iterator[Any],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> StreamCall:
        """Send; the responses are read from what is returned."""
        self._open()
        sent = self._as_asked(credentials, wait_for_ready, compression)
        return StreamCall(self._streamed(sent, request_iterator, timeout, metadata), self._deserialize)
