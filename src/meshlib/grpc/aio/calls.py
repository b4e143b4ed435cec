"""What ``grpc.aio`` channels hand to their callers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import grpc
import grpc.aio

from meshlib.dataplane.call import Call
from meshlib.grpc.aio.course import LoopCourse
from meshlib.grpc.aio.messages import EOF, WrittenMessages
from meshlib.grpc.calls import shown
from meshlib.grpc.failures import unreadable, unwritable
from meshlib.grpc.unary import FRAME

__all__ = ["StreamStreamCall", "StreamUnaryCall", "UnaryStreamCall", "UnaryUnaryCall"]

_NOTHING = object()


class _LoopCall:
    """What all four share; one that nobody holds any more is cancelled."""

    def __init__(
        self,
        course: LoopCourse,
        deserialize: Callable[[bytes], Any] | None,
        serialize: Callable[[Any], bytes] | None = None,
    ) -> None:
        self._course = course
        self._deserialize = deserialize
        self._serialize = serialize

    @property
    def mesh(self) -> Call:
        """The call that was routed: attempts, cluster, route and flags."""
        return self._course.call

    def peer(self) -> str:
        """``address:port`` of the endpoint that was picked last, ``""`` before."""
        attempt = self.mesh.last_attempt
        return attempt.state.key if attempt is not None else ""

    def __del__(self) -> None:
        """Nobody reads it: it is over, and counts once."""
        course = getattr(self, "_course", None)
        if course is not None:
            course.abandon()

    def cancelled(self) -> bool:
        """Whether the caller has cancelled it."""
        return self._course.given_up

    def done(self) -> bool:
        """Whether it is over."""
        return self._course.ended

    def cancel(self) -> bool:
        """End it; False when it was over."""
        return self._course.cancel()

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, None without one."""
        deadline = self.mesh.deadline
        return None if deadline is None else max(0.0, deadline - self._course.clock.now())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have ``callback(self)`` called at the end; at once when it is over already."""
        if not self._course.on_end(lambda: callback(self)):
            callback(self)

    async def initial_metadata(self) -> Any:
        """Waits for it; from then on the RPC is not tried again."""
        course = self._course
        while (real := await self._held(course.current())) is not None:
            metadata = await self._held(real.initial_metadata())
            if course.ended:
                return _metadata(shown(course.call, tuple(metadata)))
            failed = real.done() and await real.code() is not grpc.StatusCode.OK
            if not failed and course.commit(real):
                return _metadata(shown(course.call, tuple(metadata)))
            if failed:
                await self._held(course.pass_by(real))
        return course.error.initial_metadata() if course.error is not None else grpc.aio.Metadata()

    async def trailing_metadata(self) -> Any:
        """Waits for the end."""
        course = self._course
        await self._held(course.wait())
        if course.real is not None:
            return await course.real.trailing_metadata()
        return course.error.trailing_metadata() if course.error is not None else grpc.aio.Metadata()

    async def code(self) -> Any:
        """Waits for the end."""
        await self._held(self._course.wait())
        error = self._course.error
        return error.code() if error is not None else grpc.StatusCode.OK

    async def details(self) -> Any:
        """Waits for the end."""
        await self._held(self._course.wait())
        error, real = self._course.error, self._course.real
        if error is not None:
            return error.details()
        return await real.details() if real is not None else ""

    async def debug_error_string(self) -> str:
        """Status and details."""
        return f"{(await self.code()).name}:{await self.details()}"

    async def wait_for_connection(self) -> None:
        """Wait until it is on its way over a connection."""
        course = self._course
        while True:
            real = await self._held(course.current())
            if real is None:
                raise course.error
            try:
                await self._held(real.wait_for_connection())
                return
            except grpc.RpcError:
                await self._held(course.pass_by(real))
                if course.ended:
                    raise course.error from None

    async def _held(self, waiting: Any) -> Any:
        """Wait; a task that is cancelled meanwhile cancels the RPC, as it does in ``grpc.aio``."""
        try:
            return await waiting
        except asyncio.CancelledError:
            self._course.cancel()
            raise

    def _read(self, message: bytes) -> Any:
        if self._deserialize is None:
            return message
        try:
            return self._deserialize(message)
        except Exception as error:
            made = unreadable(self.mesh, aio=True)
            self._course.cancel(made)
            raise made from error


class _Answered(_LoopCall):
    """One message back."""

    _message: Any = _NOTHING

    def __await__(self) -> Generator[Any, None, Any]:
        """The response."""
        return self._answer().__await__()

    async def _answer(self) -> Any:
        course = self._course
        while self._message is _NOTHING:
            if course.ended and course.error is not None:
                if course.given_up:
                    raise asyncio.CancelledError
                raise course.error
            real = course.real
            try:
                if real is None:
                    await course.current()
                    continue
                course.awaited += 1
                try:
                    message = await real
                finally:
                    course.awaited -= 1
            except grpc.RpcError:
                await self._held(course.pass_by(real))
                continue
            except asyncio.CancelledError:
                course.cancel()
                if real is not None and real.done():
                    course.over(real)
                raise
            if course.real is real:
                course.message = message
                course.over(real)
                self._message = self._read(message)
        return self._message


class _Streamed(_LoopCall):
    """A stream of messages back."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        """The next message.

        Raises:
            grpc.RpcError: The RPC failed.
        """
        message = await self.read()
        if message is EOF:
            raise StopAsyncIteration
        return message

    async def read(self) -> Any:
        """The next message, ``grpc.aio.EOF`` at the end."""
        course = self._course
        while True:
            real = course.real
            try:
                if real is None:
                    real = await course.current()
                if real is None:
                    message: Any = EOF
                else:
                    message = await real.read()
            except grpc.RpcError:
                message = EOF
            except asyncio.CancelledError:
                if not course.cancelled and real is not None and real.cancelled():  # by the per-try timeout
                    message = EOF
                else:
                    course.cancel()
                    if real is not None and real.done():
                        course.over(real)
                    raise
            if message is not EOF:
                if course.real is real and (course.committed or course.commit(real)):
                    call = course.call
                    call.response_bytes += (course.weigh(message) or 0) + FRAME
                    call.response_messages += 1
                    if course.idles:
                        course.moved = course.clock.now()
                    return message if self._deserialize is None else self._read(message)
                continue
            if real is not None:
                await self._held(course.pass_by(real))
            if course.ended:
                return self._end()

    def _end(self) -> Any:
        course = self._course
        if course.error is None:
            return EOF
        if course.given_up:
            raise asyncio.CancelledError
        raise course.error


class _Writing(_LoopCall):
    """A stream of messages out; written here unless the caller gave an iterator."""

    async def write(self, request: Any) -> None:
        """Send one more message.

        Raises:
            grpc.aio.UsageError: The RPC takes its messages from an iterator.
            asyncio.InvalidStateError: The RPC is over, or ``done_writing`` was called.
        """
        course, source = self._course, self._source()
        if course.ended or course.cancelled:
            raise asyncio.InvalidStateError("RPC already finished.")
        if source.ended:
            raise asyncio.InvalidStateError("RPC is half closed after done_writing().")
        try:
            message = request if self._serialize is None else self._serialize(request)
        except Exception as error:
            made = unwritable(aio=True)
            course.cancel(made)
            raise made from error
        async with source.lock:
            source.keep(message)
            await self._with_real(lambda real: source.write(real, message))

    async def done_writing(self) -> None:
        """Send no more."""
        source = self._source()
        if source.ended or self._course.ended or self._course.cancelled:
            return
        async with source.lock:
            source.ended = True
            await self._with_real(source.close)

    async def _with_real(self, work: Callable[[Any], Any]) -> None:
        course = self._course
        real = await self._held(course.current())
        if real is None or (course.ended and course.error is not None):
            raise asyncio.InvalidStateError("RPC already finished.")
        try:
            await self._held(work(real))
        except (grpc.RpcError, asyncio.InvalidStateError):
            await self._held(course.pass_by(real))
            if course.ended and course.error is not None:
                raise course.error from None

    def _source(self) -> WrittenMessages:
        source = self._course.source
        if not isinstance(source, WrittenMessages):
            raise grpc.aio.UsageError("the RPC takes its messages from an iterator")
        return source


def _metadata(pairs: Any) -> Any:
    return grpc.aio.Metadata(*((pair[0], pair[1]) for pair in pairs))


class UnaryUnaryCall(_Answered, grpc.aio.UnaryUnaryCall):  # type: ignore[misc]
    """See ``grpc.aio.UnaryUnaryCall``."""


class UnaryStreamCall(_Streamed, grpc.aio.UnaryStreamCall):  # type: ignore[misc]
    """See ``grpc.aio.UnaryStreamCall``."""


class StreamUnaryCall(_Writing, _Answered, grpc.aio.StreamUnaryCall):  # type: ignore[misc]
    """See ``grpc.aio.StreamUnaryCall``."""


class StreamStreamCall(_Writing, _Streamed, grpc.aio.StreamStreamCall):  # type: ignore[misc]
    """See ``grpc.aio.StreamStreamCall``."""
