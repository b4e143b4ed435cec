"""What ``grpc`` channels hand to their callers: calls that are futures, streams, or over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc

from meshlib.dataplane.call import Call
from meshlib.grpc.blocking_course import BlockingCourse
from meshlib.grpc.failures import unreadable
from meshlib.grpc.rpc import headers_of, metadata_of
from meshlib.grpc.unary import FRAME

__all__ = ["FinishedCall", "FutureCall", "StreamCall", "read", "shown"]

_NOTHING = object()


def shown(call: Call, metadata: Any) -> Any:
    """Initial metadata after the rule's operations on responses."""
    given = tuple(metadata or ())
    headers = headers_of((pair[0], pair[1]) for pair in given)
    changed = call.response_headers(headers)
    return given if changed == headers else tuple(metadata_of(changed))


class FinishedCall(grpc.Call):  # type: ignore[misc]
    """What ``with_call`` returns beside the response.

    Attributes:
        mesh: The call that was routed: attempts, cluster, route and flags.
    """

    def __init__(self, real: Any, call: Call) -> None:
        self._real = real
        self.mesh = call

    def peer(self) -> str:
        """``address:port`` of the endpoint that answered."""
        return _peer(self.mesh)

    def code(self) -> Any:
        """OK."""
        return self._real.code()

    def details(self) -> Any:
        """Usually nothing."""
        return self._real.details()

    def initial_metadata(self) -> Any:
        """As the peer sent it, after the rule's operations."""
        return shown(self.mesh, self._real.initial_metadata())

    def trailing_metadata(self) -> Any:
        """As the peer sent it."""
        return self._real.trailing_metadata()

    def is_active(self) -> bool:
        """It is over."""
        return False

    def time_remaining(self) -> Any:
        """Seconds until the deadline that it had, or None."""
        deadline = self.mesh.deadline
        return None if deadline is None else self._real.time_remaining()

    def cancel(self) -> bool:
        """It is over: there is nothing to cancel."""
        return False

    def add_callback(self, callback: Any) -> bool:
        """It is over: ``callback`` is not kept."""
        return False


class _RunningCall(grpc.Call, grpc.Future):  # type: ignore[misc]
    """What futures and streams share; one that nobody holds any more is cancelled."""

    def __init__(self, course: BlockingCourse, deserialize: Callable[[bytes], Any] | None) -> None:
        self._course = course
        self._deserialize = deserialize

    @property
    def mesh(self) -> Call:
        """The call that was routed: attempts, cluster, route and flags."""
        return self._course.call

    def peer(self) -> str:
        """``address:port`` of the endpoint that was picked last, ``""`` before."""
        return _peer(self.mesh)

    def __del__(self) -> None:
        """Nobody reads it: it is over, and counts once."""
        self._course.abandon()

    # grpc.RpcContext, grpc.Call ---------------------------------------------------------------------------------------

    def is_active(self) -> bool:
        """Whether it is not over."""
        return not self._course.ended

    def time_remaining(self) -> Any:
        """Seconds until the deadline, None without one."""
        deadline = self._course.call.deadline
        return None if deadline is None else max(0.0, deadline - self._course.clock.now())

    def cancel(self) -> bool:
        """End it; False when it was over."""
        return self._course.cancel()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Have ``callback`` called at the end; False when it is over already."""
        return self._course.on_end(callback)

    def initial_metadata(self) -> Any:
        """Waits for it; from then on the RPC is not tried again."""
        course = self._course
        while (real := course.current()) is not None:
            metadata = real.initial_metadata()
            if course.ended:
                return shown(course.call, metadata)
            if real.is_active() or not real.code().value[0]:
                if course.commit(real):
                    return shown(course.call, metadata)
                continue
            course.pass_by(real)
        return self._failed("initial_metadata")

    def trailing_metadata(self) -> Any:
        """Waits for the end."""
        self._course.wait()
        real = self._course.real
        return real.trailing_metadata() if real is not None else self._failed("trailing_metadata")

    def code(self) -> Any:
        """Waits for the end."""
        self._course.wait()
        error = self._course.error
        return error.code() if error is not None else grpc.StatusCode.OK

    def details(self) -> Any:
        """Waits for the end."""
        self._course.wait()
        error, real = self._course.error, self._course.real
        return error.details() if error is not None else real.details()

    def debug_error_string(self) -> Any:
        """Status and details."""
        return f"{self.code().name}:{self.details()}"

    def _failed(self, name: str) -> Any:
        error = self._course.error
        return getattr(error, name)() if error is not None and hasattr(error, name) else ()

    # grpc.Future ------------------------------------------------------------------------------------------------------

    def cancelled(self) -> bool:
        """Whether the caller has cancelled it."""
        return self._course.given_up

    def running(self) -> bool:
        """Whether it is not over."""
        return not self._course.ended

    def done(self) -> bool:
        """Whether it is over."""
        return self._course.ended

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Have ``fn(self)`` called at the end; at once when it is over already."""
        if not self._course.on_end(lambda: fn(self)):
            fn(self)

    def result(self, timeout: float | None = None) -> Any:
        """The response, waiting so long for it.

        Raises:
            grpc.FutureTimeoutError: It did not end in time.
            grpc.FutureCancelledError: The caller has cancelled it.
            grpc.RpcError: It failed.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._response()

    def exception(self, timeout: float | None = None) -> Any:
        """What it failed with, None when it did not; raises as ``result``."""
        if not self._course.wait(timeout):
            raise grpc.FutureTimeoutError
        if self.cancelled():
            raise grpc.FutureCancelledError
        return self._course.error

    def traceback(self, timeout: float | None = None) -> Any:
        """Of the exception."""
        error = self.exception(timeout)
        if error is not None and error.__traceback__ is None:
            try:
                raise error
            except grpc.RpcError:
                pass
        return error.__traceback__ if error is not None else None

    def _response(self) -> Any:
        return self


class FutureCall(_RunningCall):
    """An RPC with one message back, under way."""

    _message: Any = _NOTHING

    def _response(self) -> Any:
        if self._message is _NOTHING:
            self._message = read(self._deserialize, self._course.real.result(), self._course.call)
        return self._message


class StreamCall(_RunningCall):
    """An RPC with a stream of messages back, under way."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """The next message.

        Raises:
            grpc.RpcError: The RPC failed.
        """
        course = self._course
        while True:
            real = course.real or course.current()
            if real is None:
                raise course.error
            course.reading = True
            try:
                message = next(real)
            except (StopIteration, grpc.RpcError):
                course.reading = False
                course.pass_by(real)
                if not course.ended:
                    continue
                if course.error is not None:
                    raise course.error from None
                raise StopIteration from None
            except BaseException:
                course.reading = False
                if course.unread_end is not None:
                    course.over(course.unread_end)
                raise
            counts = course.real is real and (course.committed or course.commit(real))
            if counts:
                call = course.call
                call.response_bytes += (course.weigh(message) or 0) + FRAME
                call.response_messages += 1
                if course.idles:
                    course.moved = course.clock.now()
            course.reading = False
            if course.unread_end is not None:
                course.over(course.unread_end)
            if counts:
                if self._deserialize is None:
                    return message
                return self._read(message)

    next = __next__

    def _read(self, message: bytes) -> Any:
        try:
            return self._deserialize(message)  # type: ignore[misc]  # asked by who calls
        except Exception as error:
            made = unreadable(self._course.call)
            self._course.cancel(made)
            raise made from error


def read(deserialize: Callable[[bytes], Any] | None, message: bytes, call: Call) -> Any:
    """A message as the caller's deserializer makes it.

    Raises:
        grpc.RpcError: INTERNAL, it cannot be read.
    """
    if deserialize is None:
        return message
    try:
        return deserialize(message)
    except Exception as error:
        raise unreadable(call) from error


def _peer(call: Call) -> str:
    attempt = call.last_attempt
    return attempt.state.key if attempt is not None else ""
