"""What generated stubs call on ``grpc.aio`` channels: one method, in each of the four shapes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import grpc.aio

from meshlib.dataplane.call import Call
from meshlib.grpc.aio.calls import StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall
from meshlib.grpc.aio.course import LoopCourse
from meshlib.grpc.aio.exchange import mirror
from meshlib.grpc.aio.messages import IteratedMessages, WrittenMessages
from meshlib.grpc.failures import unwritable
from meshlib.grpc.message_replay import KeptMessages
from meshlib.grpc.methods import given
from meshlib.grpc.rpc import Metadata
from meshlib.grpc.unary import Sent
from meshlib.grpc.ways import Ways

__all__ = ["StreamStream", "StreamUnary", "UnaryStream", "UnaryUnary"]

Serializer = Callable[[Any], bytes] | None
Deserializer = Callable[[bytes], Any] | None


class Channel(Protocol):
    """What a method needs of its channel."""

    ways: Ways
    compression: Any
    closed: bool
    running: set[LoopCourse]


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
        self._loop: asyncio.AbstractEventLoop | None = None

    def _as_asked(self, credentials: Any, wait_for_ready: bool | None, compression: Any) -> Sent:
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
            raise unwritable(aio=True) from error

    def _enter(self) -> None:
        """Refuse a closed channel; the mesh is told of a loop that RPCs are begun in."""
        if self._channel.closed:
            raise grpc.aio.UsageError("Channel is closed.")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._ways.mesh.watch_loop()

    def _course(self, sent: Sent, content: bytes, timeout: float | None, metadata: Metadata | None) -> LoopCourse:
        repeatable = sent.kind.endswith("unary")
        begin = partial(self._ways.begin, self._method, metadata, timeout, repeatable=repeatable)
        course = LoopCourse(self._ways, sent, begin, content)
        if course.call.mirrors:
            mirror(self._ways, course.call, [content], sent)
        course.start(self._channel.running)
        return course

    def _streamed(self, sent: Sent, requests: Any, timeout: float | None, metadata: Metadata | None) -> LoopCourse:
        begin = partial(self._ways.begin, self._method, metadata, timeout, repeatable=False)
        calls: list[Call] = [begin()]

        def count(size: int) -> None:
            call = course.call
            call.request_bytes += size
            call.request_messages += 1

        request, memory = calls[0].request, self._ways.mesh.replays
        source: KeptMessages
        if requests is None:
            source = WrittenMessages(request, memory, count)
        else:
            source = IteratedMessages(requests, self._content, count, request, memory)
        course = LoopCourse(self._ways, sent, lambda: calls.pop() if calls else begin(), source)
        course.start(self._channel.running)
        return course


class UnaryUnary(_Method, grpc.aio.UnaryUnaryMultiCallable):  # type: ignore[misc]
    """See ``grpc.aio.UnaryUnaryMultiCallable``."""

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> UnaryUnaryCall:
        """Send; the response is awaited."""
        content = self._content(request)
        self._enter()
        sent = self._as_asked(credentials, wait_for_ready, compression)
        return UnaryUnaryCall(self._course(sent, content, timeout, metadata), self._deserialize)


class UnaryStream(_Method, grpc.aio.UnaryStreamMultiCallable):  # type: ignore[misc]
    """See ``grpc.aio.UnaryStreamMultiCallable``."""

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> UnaryStreamCall:
        """Send; the responses are read from what is returned."""
        content = self._content(request)
        self._enter()
        sent = self._as_asked(credentials, wait_for_ready, compression)
        return UnaryStreamCall(self._course(sent, content, timeout, metadata), self._deserialize)


class StreamUnary(_Method, grpc.aio.StreamUnaryMultiCallable):  # type: ignore[misc]
    """See ``grpc.aio.StreamUnaryMultiCallable``."""

    def __call__(
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> StreamUnaryCall:
        """Send what the iterator gives, or what is written; the response is awaited."""
        self._enter()
        sent = self._as_asked(credentials, wait_for_ready, compression)
        course = self._streamed(sent, request_iterator, timeout, metadata)
        return StreamUnaryCall(course, self._deserialize, self._serialize)


class StreamStream(_Method, grpc.aio.StreamStreamMultiCallable):  # type: ignore[misc]
    """See ``grpc.aio.StreamStreamMultiCallable``."""

    def __call__(
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> StreamStreamCall:
        """Send what the iterator gives, or what is written; the responses are read from what is returned."""
        self._enter()
        sent = self._as_asked(credentials, wait_for_ready, compression)
        course = self._streamed(sent, request_iterator, timeout, metadata)
        return StreamStreamCall(course, self._deserialize, self._serialize)
