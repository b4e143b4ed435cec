"""The twin of ``grpc.own_course`` for ``grpc.aio``: other interceptors may wait, so that coroutines begin attempts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from weakref import ref

import grpc.aio

from meshlib.dataplane.attempt import Attempt
from meshlib.dataplane.call import Call
from meshlib.grpc.aio.course import LoopCourse
from meshlib.grpc.aio.messages import IteratedMessages
from meshlib.grpc.own_channel import OwnWays, size_of
from meshlib.grpc.rpc import metadata_of
from meshlib.grpc.unary import FRAME, Sent

__all__ = ["OwnLoopCourse"]


class OwnLoopCourse(LoopCourse):
    """See ``OwnCourse``."""

    weigh = staticmethod(size_of)

    def __init__(
        self,
        ways: OwnWays,
        kind: str,
        begin: Callable[[], Call],
        source: Any,
        details: Any,
        proceed: Callable[[Any, Any], Awaitable[Any]],
    ) -> None:
        self._details = details
        self._proceed = proceed
        own: Any = ways  # all of ``Ways`` that a course asks for besides subchannels
        super().__init__(own, Sent(kind, False, None, None, False), begin, source)

    def send(self, attempt: Attempt) -> None:
        """See ``Course``."""
        self._run(self._send(attempt))

    async def _send(self, attempt: Attempt) -> None:
        try:
            real = await self._proceed(self._told(attempt), self._request())
        except Exception as error:
            self.unsent(attempt, error)
        else:
            self.sent_off(attempt, real, None)

    def _request(self) -> Any:
        source: Any = self.source
        if isinstance(source, IteratedMessages):
            return source.messages()
        self.call.request_bytes += (size_of(source) or 0) + FRAME
        self.call.request_messages += 1
        return source

    def _told(self, attempt: Attempt) -> Any:
        """What the next interceptor, or the channel, is told of an attempt."""
        given = self._details
        method, headers = self.call.head(attempt)
        bounded = attempt.deadline_is_overall or not self.sent.kind.endswith("stream")
        until = attempt.deadline if bounded else self.call.deadline
        timeout = None if until is None else max(0.0, until - self.clock.now())
        named: Any = method.encode() if isinstance(given.method, bytes) else method
        metadata = grpc.aio.Metadata(*metadata_of(headers))
        return grpc.aio.ClientCallDetails(named, timeout, metadata, given.credentials, given.wait_for_ready)

    def watch(self, real: Any) -> None:
        """See ``Course``; a response that another interceptor has made is there at once.

        The call under way must not keep the course: with grpcio's continuation the course keeps what the application
        holds, and nobody would ever see that the application has let go of it.
        """
        if real.done():
            self.loop.call_soon(partial(self.over, real))
        else:
            real.add_done_callback(partial(_done, ref(self), real))

    def cancel(self, reason: Any = None) -> bool:
        """See ``Course``; whoever let go of it still waits for its end."""
        real, running = self.real, super().cancel(reason)
        if running and real is not None and not self.ended:
            real.add_done_callback(partial(self._done, real))
        return running


def _done(course: ref[OwnLoopCourse], real: Any, _: Any) -> None:
    known = course()
    if known is not None and not known.awaited:  # whoever awaits it tells of its end, and whether it was cancelled
        known.loop.call_soon(known.over, real)
