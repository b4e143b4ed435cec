"""One way to write a test of RPCs for both stacks: threads with ``grpc``, and an event loop with ``grpc.aio``."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import grpc
import grpc.aio

LIMIT = 60
"""Seconds after which a test that waits has failed."""
KINDS = {
    "UnaryUnary": "unary_unary",
    "UnaryStream": "unary_stream",
    "StreamUnary": "stream_unary",
    "StreamStream": "stream_stream",
}


class Done(NamedTuple):
    """An RPC that is over.

    Attributes:
        code: Its status.
        details: Its words.
        responses: What came.
        initial: Initial metadata.
        trailing: Trailing metadata.
        error: What was raised, None for nothing.
        call: The call object, or the error where there was no call.
    """

    code: Any
    details: str
    responses: list[Any]
    initial: dict[str, Any]
    trailing: dict[str, Any]
    error: Any
    call: Any


class Open:
    """An RPC under way."""

    def write(self, message: Any) -> None:
        """Send one more message; streams only."""
        raise NotImplementedError

    def done_writing(self) -> None:
        """Send no more."""
        raise NotImplementedError

    def read(self) -> Any:
        """The next message, None at the end, however it ends."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Give up."""
        raise NotImplementedError

    def end(self) -> Done:
        """Read to the end."""
        raise NotImplementedError


def pairs(metadata: Any) -> dict[str, Any]:
    """Metadata as a dictionary."""
    return {key: value for key, value in metadata or ()}  # noqa: C416 - grpcio's pairs are of several types


class Threads:
    """``grpc``."""

    name = "threads"
    aio = False

    @contextlib.contextmanager
    def client(self, make: Callable[[], Any]) -> Iterator[Any]:
        """A channel."""
        with make() as channel:
            yield channel

    def open(self, multi: Any, kind: str, requests: Sequence[Any] = (), **options: Any) -> Open:
        """Begin an RPC; ``requests`` are sent at once."""
        options.setdefault("timeout", LIMIT)
        return _ThreadsOpen(multi, kind, requests, options)

    def ask(self, multi: Any, kind: str, requests: Sequence[Any], **options: Any) -> Done:
        """A whole RPC."""
        options.setdefault("timeout", LIMIT)
        if kind == "unary_unary":
            try:
                response, call = multi.with_call(requests[0], **options)
            except grpc.RpcError as error:
                return _of_threads(error, [], error)
            return _of_threads(call, [response], None)
        opened = self.open(multi, kind, requests, **options)
        if kind.startswith("stream"):
            opened.done_writing()
        return opened.end()

    def run(self, work: Callable[[], Any]) -> Any:
        """Do something where RPCs are made."""
        return work()


class _ThreadsOpen(Open):
    def __init__(self, multi: Any, kind: str, requests: Sequence[Any], options: dict[str, Any]) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for request in requests if kind.startswith("stream") else ():
            self._queue.put(request)
        self._streams = kind.endswith("stream")
        given = iter(self._queue.get, None) if kind.startswith("stream") else requests[0]
        begin = multi if self._streams else multi.future
        self._error: Any = None
        self.call = begin(given, **options)

    def write(self, message: Any) -> None:
        self._queue.put(message)

    def done_writing(self) -> None:
        self._queue.put(None)

    def read(self) -> Any:
        try:
            return next(self.call) if self._streams else self.call.result(LIMIT)
        except StopIteration:
            return None
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            self._error = error
            return None

    def cancel(self) -> None:
        self.call.cancel()
        self._queue.put(None)

    def end(self) -> Done:
        found = []
        while (message := self.read()) is not None:
            found.append(message)
            if not self._streams:
                break
        self._queue.put(None)
        return _of_threads(self.call, found, self._error)


def _of_threads(call: Any, responses: list[Any], error: Any) -> Done:
    return Done(
        call.code(),
        call.details() or "",
        responses,
        pairs(call.initial_metadata()),
        pairs(call.trailing_metadata()),
        error,
        call,
    )


class Loop:
    """``grpc.aio``, in an event loop that runs in a thread of its own."""

    name = "asyncio"
    aio = True

    @contextlib.contextmanager
    def client(self, make: Callable[[], Any]) -> Iterator[Any]:
        """A channel."""
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        try:
            channel = self.run(make)
            try:
                yield channel
            finally:
                self.wait(channel.close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(LIMIT)
            self._loop.close()

    def wait(self, coroutine: Any) -> Any:
        """The result of a coroutine, or of what else can be awaited."""

        async def whole() -> Any:
            return await coroutine

        return asyncio.run_coroutine_threadsafe(whole(), self._loop).result(LIMIT)

    def run(self, work: Callable[[], Any]) -> Any:
        """Do something where RPCs are made."""

        async def whole() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(whole(), self._loop).result(LIMIT)

    def open(self, multi: Any, kind: str, requests: Sequence[Any] = (), **options: Any) -> Open:
        """Begin an RPC; ``requests`` are sent at once."""
        options.setdefault("timeout", LIMIT)
        return _LoopOpen(self, multi, kind, requests, options)

    def ask(self, multi: Any, kind: str, requests: Sequence[Any], **options: Any) -> Done:
        """A whole RPC."""
        opened = self.open(multi, kind, requests, **options)
        if kind.startswith("stream"):
            opened.done_writing()
        return opened.end()


class _LoopOpen(Open):
    def __init__(self, loop: Loop, multi: Any, kind: str, requests: Sequence[Any], options: dict[str, Any]) -> None:
        self._loop = loop
        self._streams = kind.endswith("stream")
        self._error: Any = None
        self._queue: asyncio.Queue[Any] | None = None
        if kind.startswith("stream"):
            self._queue = loop.run(asyncio.Queue)
            for request in requests:
                self.write(request)
            self.call = loop.run(lambda: multi(self._requests(), **options))
        else:
            self.call = loop.run(lambda: multi(requests[0], **options))

    async def _requests(self) -> Any:
        assert self._queue is not None
        while (message := await self._queue.get()) is not None:
            yield message

    def write(self, message: Any) -> None:
        queued = self._queue
        assert queued is not None
        self._loop.run(lambda: queued.put_nowait(message))

    def done_writing(self) -> None:
        self.write(None)

    def read(self) -> Any:
        async def reading() -> Any:
            if not self._streams:
                return await self.call
            message = await self.call.read()
            if message is grpc.aio.EOF:
                await self.call.initial_metadata()
                return None
            return message

        try:
            return self._loop.wait(reading())
        except grpc.RpcError as error:
            self._error = error
        except asyncio.CancelledError as error:
            self._error = error
        except BaseException as error:
            if type(error).__name__ != "CancelledError":
                raise
            self._error = error
        return None

    def cancel(self) -> None:
        self._loop.run(self.call.cancel)

    def end(self) -> Done:
        found = []
        while (message := self.read()) is not None:
            found.append(message)
            if not self._streams:
                break
        if self._queue is not None:
            self.write(None)

        async def told() -> Done:
            call = self.call
            code, details = await call.code(), await call.details()
            initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
            return Done(code, details or "", found, pairs(initial), pairs(trailing), self._error, call)

        return self._loop.wait(told())


STACKS = [Threads, Loop]
